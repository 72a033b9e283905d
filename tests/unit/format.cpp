// SPDX-License-Identifier: Apache-2.0
// What each format stores and refuses. Conversions between all pairs are in property/conversion.cpp.
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <pare/format/regular.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::bf16;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;

namespace {

/// 4 x 8 with two kept in each group of four; element (0, 1) is a kept zero, (1, 2) a kept -0.
struct sample {
  matrix<float> w{4, 8};
  mask keep{{4, 8}};
  sample() {
    for (index_t r = 0; r < 4; ++r)
      for (index_t c = 0; c < 8; ++c) {
        w(r, c) = static_cast<float>(10 * r + c) + 0.5f;
        if (c % 4 == r % 3 || c % 4 == r % 3 + 1) keep.set(r, c);
      }
    w(0, 1) = 0.0f;
    w(1, 2) = -0.0f;
  }
};

template <class F>
void check_holds(F const& f, matrix<float> const& w, mask const& keep) {
  INFO(F::name());
  CHECK(f.shape() == w.shape());
  CHECK(f.nnz() == keep.count());
  index_t row = 0;
  index_t last = -1;
  index_t visited = 0;
  pare::for_each(f, [&](index_t r, index_t c, typename F::value_type v) {
    REQUIRE(r >= row);
    if (r != row) last = -1;
    REQUIRE(c > last);  // ascending
    row = r;
    last = c;
    ++visited;
    REQUIRE(keep(r, c));
    REQUIRE(v == pare::value_cast<typename F::value_type>(w(r, c)));
  });
  CHECK(visited == f.nnz());
  for (index_t r = 0; r < w.rows(); ++r) CHECK(f.row_nnz(r) == keep.row_count(r));
  CHECK(pare::kept(f) == keep);
  auto const back = pare::decompress(f);
  for (index_t r = 0; r < w.rows(); ++r)
    for (index_t c = 0; c < w.cols(); ++c)
      if (!keep(r, c)) REQUIRE((pare::to_float(back(r, c)) == 0.0f && !std::signbit(pare::to_float(back(r, c)))));
}

}  // namespace

TEMPLATE_TEST_CASE("format: holds exactly what the mask keeps, kept zeros included", "", pare::dense<float>,
                   pare::bitmap<float>, pare::csr<float>, (pare::csr<float, std::uint8_t>), (pare::bsr<4, 1, float>),
                   (pare::bsr<2, 4, float>), (pare::bsr<1, 8, float>), (pare::n_of_m_packed<2, 4, float>),
                   (pare::n_of_m_packed<7, 8, float>), pare::dense<bf16>, pare::bitmap<bf16>, pare::csr<bf16>,
                   (pare::bsr<4, 4, bf16>), (pare::n_of_m_packed<2, 4, bf16>)) {
  sample const s;
  check_holds(pare::compress<TestType>(s.w, s.keep), s.w, s.keep);
  check_holds(pare::compress<TestType>(s.w, mask({4, 8})), s.w, mask({4, 8}));
  matrix<float> const t(s.w.span().transposed());  // the same through a strided view
  check_holds(pare::compress<TestType>(t.span().transposed(), s.keep), s.w, s.keep);
  CHECK(TestType().nnz() == 0);
  CHECK(TestType().shape() == extents{0, 0});
  for (extents const none : {extents{0, 0}, extents{0, 8}, extents{4, 0}}) {
    auto const f = pare::compress<TestType>(matrix<float>(none), mask(none));
    CHECK(f.shape() == none);
    CHECK(pare::decompress(f).shape() == none);
  }
}

TEST_CASE("format: a mask of another shape or another structure is a contract violation") {
  matrix<float> const w(4, 8);
  mask const all({4, 8}, true);
  CHECK_THROWS_AS(pare::compress<pare::bitmap<float>>(w, mask({8, 4})), pare::contract_violation);
  CHECK_THROWS_AS((pare::compress<pare::n_of_m_packed<2, 4, float>>(w, all)), pare::contract_violation);
  CHECK_THROWS_AS((pare::compress<pare::n_of_m_packed<2, 3, float>>(w, mask({4, 8}))), pare::contract_violation);
  CHECK_THROWS_AS((pare::compress<pare::bsr<3, 1, float>>(w, all)), pare::contract_violation);
  CHECK_THROWS_AS((pare::compress<pare::bsr<1, 3, float>>(w, all)), pare::contract_violation);
}

TEST_CASE("csr: takes as many columns as its index type can number") {
  CHECK(pare::csr<float, std::int8_t>::accepts(mask({1, 128})));
  CHECK_FALSE(pare::csr<float, std::int8_t>::accepts(mask({1, 129})));
  CHECK(pare::csr<float, std::uint8_t>::accepts(mask({1, 256})));
  CHECK_FALSE(pare::csr<float, std::uint8_t>::accepts(mask({1, 257})));
  matrix<float> w(1, 128);
  w(0, 127) = 3.0f;
  check_holds(pare::compress<pare::csr<float, std::int8_t>>(w, pare::nonzeros(w)), w, pare::nonzeros(w));
}

TEST_CASE("bsr: whole blocks need no bits, and a block without a kept element is not stored") {
  mask keep({4, 6});
  for (index_t r = 0; r < 2; ++r)
    for (index_t c = 3; c < 6; ++c) keep.set(r, c);
  matrix<float> const w(4, 6);
  auto const whole = pare::compress<pare::bsr<2, 3, float>>(w, keep);
  CHECK(whole.full_blocks());
  CHECK(whole.blocks() == 1);
  CHECK(whole.block_column(0) == 1);
  keep.set(0, 3, false);
  auto const part = pare::compress<pare::bsr<2, 3, float>>(w, keep);
  CHECK_FALSE(part.full_blocks());
  CHECK(part.blocks() == 1);
  CHECK(part.nnz() == 5);
}

TEST_CASE("n_of_m_packed: places that a group does not use hold +0") {
  matrix<float> w(1, 8);
  for (index_t c = 0; c < 8; ++c) w(0, c) = static_cast<float>(c + 1);
  mask keep({1, 8});
  keep.set(0, 2);
  keep.set(0, 4);
  keep.set(0, 7);
  auto const f = pare::compress<pare::n_of_m_packed<2, 4, float>>(w, keep);
  CHECK(f.places_per_row() == 4);
  float const expected[] = {3.0f, 0.0f, 5.0f, 8.0f};
  for (index_t i = 0; i < 4; ++i) CHECK(f.row_values(0)[i] == expected[i]);
}

TEST_CASE("bytes: follow the documented formulas") {
  sample const s;  // 4 x 8, 16 kept
  CHECK(s.keep.count() == 16);
  CHECK(pare::dense<float>(s.w).bytes() == 4 * 8 * 4);
  CHECK(pare::compress<pare::dense<bf16>>(s.w, s.keep).bytes() == 4 * 8 * 2 + 4 * 8);
  CHECK(pare::compress<pare::bitmap<float>>(s.w, s.keep).bytes() == 4 * 8 + 5 * 8 + 16 * 4);
  CHECK(pare::compress<pare::csr<bf16>>(s.w, s.keep).bytes() == 5 * 8 + 16 * (4 + 2));
  CHECK(pare::compress<pare::n_of_m_packed<2, 4, bf16>>(s.w, s.keep).bytes() == 4 * 8 + 4 * 4 * 2);
  mask const all({4, 8}, true);
  CHECK(pare::compress<pare::bsr<4, 4, float>>(s.w, all).bytes() == 2 * 8 + 2 * (4 + 16 * 4));
}

TEST_CASE("format: masks of a pattern that a format stores are accepted, and the others are known at compile time") {
  using pare::block;
  using pare::n_of_m;
  using two_four = pare::n_of_m_packed<2, 4, float>;
  using blocks = pare::bsr<4, 1, float>;
  static_assert(two_four::stores<n_of_m<2, 4>> && two_four::stores<n_of_m<1, 4>> && two_four::stores<n_of_m<1, 2>>);
  static_assert(!two_four::stores<n_of_m<3, 4>> && !two_four::stores<n_of_m<4, 8>> &&
                !two_four::stores<pare::unstructured>);
  static_assert(blocks::stores<block<4, 1>> && blocks::stores<block<8, 3>> && !blocks::stores<block<2, 4>>);
  static_assert(!blocks::stores<pare::unstructured> && !blocks::stores<n_of_m<2, 4>>);
  static_assert(pare::bitmap<float>::stores<n_of_m<3, 7>> && pare::csr<bf16>::stores<block<3, 5>>);

  pare::random_source random(41);
  auto const scores = pare::test::random_matrix(random, {16, 24});
  CHECK(two_four::accepts(pare::select(scores, n_of_m<1, 2>{})));
  CHECK(two_four::accepts(pare::select(scores, n_of_m<1, 4>{})));
  auto const f = pare::compress<blocks>(scores, pare::select(scores, block<8, 3>{}, pare::sparsity{0.5}));
  CHECK(f.full_blocks());
}

TEST_CASE("with_regular_format: names the most regular format that the mask allows, and loses nothing") {
  pare::random_source random(42);
  auto const w = pare::test::random_matrix(random, {32, 64});
  auto const scores = pare::test::random_matrix(random, {32, 64});
  auto const name_of = [&](mask const& keep) {
    std::string name;
    pare::with_regular_format(pare::compress<pare::dense<float>>(w, keep), [&](auto const& f) {
      CHECK(name.empty());  // called once
      name = std::string(f.name());
      if constexpr (requires { f.block_rows; })
        name += std::to_string(f.block_rows) + "x" + std::to_string(f.block_cols);
      check_holds(f, w, keep);
    });
    return name;
  };
  using pare::sparsity;
  CHECK(name_of(mask({32, 64}, true)) == "dense");
  CHECK(name_of(pare::select(scores, pare::block<16, 1>{}, sparsity{0.5})) == "bsr16x1");
  CHECK(name_of(pare::select(scores, pare::block<4, 4>{}, sparsity{0.5})) == "bsr4x4");
  CHECK(name_of(pare::select(scores, pare::block<4, 1>{}, sparsity{0.5})) == "bsr4x1");
  CHECK(name_of(pare::select(scores, pare::n_of_m<1, 4>{})) == "n_of_m");
  CHECK(name_of(pare::select(scores, pare::n_of_m<2, 4>{})) == "n_of_m");
  CHECK(name_of(pare::select(scores, pare::n_of_m<4, 8>{})) == "n_of_m");
  CHECK(name_of(pare::select(scores, pare::unstructured{}, sparsity{0.5})) == "bitmap");
  CHECK(name_of(pare::select(scores, pare::unstructured{}, sparsity{0.98})) == "csr");
}
