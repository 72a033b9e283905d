// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <utility>
#include <vector>

#include <pare/core/cast.hpp>
#include <pare/core/matrix.hpp>
#include <pare/mask/mask.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::index_t;
using pare::matrix;
using pare::matrix_span;

TEST_CASE("matrix: is zeroed, aligned to 64 bytes, and refuses negative extents") {
  for (index_t cols : {1, 3, 17, 100}) {
    matrix<float> const m(5, cols);
    CHECK(reinterpret_cast<std::uintptr_t>(m.data()) % 64 == 0);
    for (index_t i = 0; i < m.size(); ++i) REQUIRE(m.data()[i] == 0.0f);
  }
  // From 1 MB on storage is made of huge pages, which moving and copying must give back as they got them: here of one,
  // one and small ones, two, and as the heap left them.
  for (index_t rows : {(1 << 10) - 1, 1 << 10, (1 << 11) - 1, 1 << 11, (1 << 11) + 1, 3 << 10, 1 << 10, 3 << 10}) {
    matrix<float> large(rows, 256);
    CHECK(reinterpret_cast<std::uintptr_t>(large.data()) % 64 == 0);
    large(rows - 1, 255) = 1.0f;
    matrix<float> const copy = large;
    matrix<float> const moved = std::move(large);
    CHECK(copy(rows - 1, 255) == 1.0f);
    CHECK(moved(rows - 1, 255) == 1.0f);
    for (index_t i = 0; i < moved.size() - 1; ++i) REQUIRE(moved.data()[i] == 0.0f);
  }
  CHECK_THROWS_AS(matrix<float>(-1, 2), pare::contract_violation);
  CHECK_THROWS_AS(matrix<float>(2, -1), pare::contract_violation);
  CHECK_THROWS_AS(matrix<float>(index_t{1} << 31, index_t{1} << 31), pare::contract_violation);
  CHECK_THROWS_AS(matrix<float>(index_t{1} << 40, index_t{1} << 40), pare::contract_violation);
  CHECK_THROWS_AS(pare::mask({index_t{1} << 40, index_t{1} << 40}), pare::contract_violation);
}

TEST_CASE("storage: the last huge page is half full, or an eighth of all at most is wasted") {
  constexpr std::size_t page = pare::detail::huge_page;
  constexpr auto pages = [](std::size_t bytes) { return pare::detail::in_huge_pages(bytes) / page; };
  for (std::size_t const none : {std::size_t{0}, std::size_t{1}, page / 2 - 1}) CHECK(pages(none) == 0);
  for (std::size_t const one : {page / 2, page - 1, page, page + page / 2 - 1}) CHECK(pages(one) == 1);
  CHECK(pages(page + page / 2) == 2);
  CHECK(pages(8 * page) == 8);
  CHECK(pages(8 * page + 1) == 9);
  CHECK(pages(7 * page + 1) == 7);
}

TEST_CASE("aligned_allocator: vectors keep their elements while they grow into huge pages") {
  std::vector<std::uint32_t, pare::aligned_allocator<std::uint32_t>> v;
  for (std::uint32_t i = 0; i < 1'200'000; ++i) v.push_back(i);
  for (std::uint32_t i = 0; i < v.size(); ++i) REQUIRE(v[i] == i);
  CHECK(reinterpret_cast<std::uintptr_t>(v.data()) % pare::alignment == 0);
}

TEST_CASE("matrix: a copy is deep, a move leaves an empty matrix behind") {
  matrix<float> a(2, 3);
  a(1, 2) = 4.0f;
  matrix<float> b = a;
  b(1, 2) = 5.0f;
  CHECK(a(1, 2) == 4.0f);
  matrix<float> c = std::move(a);
  CHECK(c(1, 2) == 4.0f);
  CHECK(a.shape() == pare::extents{0, 0});  // NOLINT: the moved-from state is documented
  a = c;
  CHECK(pare::test::same_bits(a, c));
  auto& same = a;
  a = same;
  CHECK(pare::test::same_bits(a, c));
}

TEST_CASE("matrix: without rows or without columns it keeps its shape") {
  matrix<float> const flat(0, 7);
  matrix<float> const thin(7, 0);
  CHECK(matrix<float>(flat).shape() == pare::extents{0, 7});
  CHECK(matrix<float>(thin.span()).shape() == pare::extents{7, 0});
  CHECK(thin.bytes() == 0);
}

TEST_CASE("matrix_span: transposition and ranges address the same elements") {
  matrix<float> m(4, 6);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(i);
  matrix_span<float const> const v = m.span();
  auto const t = v.transposed();
  CHECK(t.shape() == pare::extents{6, 4});
  auto const inner = v.row_range(1, 2).col_range(2, 3);
  CHECK(inner.shape() == pare::extents{2, 3});
  for (index_t i = 0; i < 4; ++i)
    for (index_t j = 0; j < 6; ++j) REQUIRE(&t(j, i) == &v(i, j));
  for (index_t i = 0; i < 2; ++i)
    for (index_t j = 0; j < 3; ++j) REQUIRE(&inner(i, j) == &v(i + 1, j + 2));
  CHECK(pare::test::same_bits(matrix<float>(t), t));
}

TEST_CASE("cast: rounds towards bf16 and is exact towards float, whatever the strides") {
  pare::random_source random(11);
  auto const m = pare::test::random_matrix(random, {5, 9});
  auto const half = pare::cast<pare::bf16>(m.span().transposed());
  auto const back = pare::cast<float>(half);
  for (index_t i = 0; i < 5; ++i)
    for (index_t j = 0; j < 9; ++j) {
      REQUIRE(half(j, i) == pare::bf16(m(i, j)));
      REQUIRE(back(j, i) == static_cast<float>(half(j, i)));
    }
}
