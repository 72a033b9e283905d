// SPDX-License-Identifier: Apache-2.0
// The quantised format: what is stored, how it is rounded, and what becomes of values that 8 bits cannot carry.
#include <algorithm>
#include <cmath>
#include <limits>

#include <pare/format/bitmap.hpp>
#include <pare/format/csr.hpp>
#include <pare/format/dense.hpp>
#include <pare/format/n_of_m_packed.hpp>
#include <pare/format/quantised.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::quantised;

static_assert(pare::sparse_format<quantised<>> && pare::sparse_format<quantised<64>>);
static_assert(quantised<>::group == 128 && quantised<>::stores<pare::unstructured>);

namespace {

/// Scales and codes against their definition, in double.
template <index_t G>
void check_rounding(quantised<G> const& q, matrix<float> const& w, mask const& keep) {
  REQUIRE(q.shape() == w.shape());
  REQUIRE(q.nnz() == keep.count());
  REQUIRE(pare::kept(q) == keep);
  for (index_t r = 0; r < w.rows(); ++r) {
    REQUIRE(q.row_nnz(r) == keep.row_count(r));
    for (index_t g = 0; g * G < w.cols(); ++g) {
      float largest = 0.0f;
      for (index_t c = g * G; c < w.cols() && c < (g + 1) * G; ++c)
        if (keep(r, c)) largest = std::max(largest, std::abs(w(r, c)));
      float const expected = largest == 0.0f ? 0.0f : std::clamp(largest / 127.0f, 0x1p-126f, 0x1.020406p+121f);
      REQUIRE(q.row_scales(r)[g] == expected);
    }
    index_t last = -1;
    q.for_each_code_in_row(r, [&](index_t c, int code) {
      REQUIRE(c > last);
      last = c;
      REQUIRE(keep(r, c));
      REQUIRE(std::abs(code) <= 127);
    });
    q.for_each_in_row(r, [&](index_t c, float v) {
      double const scale = static_cast<double>(q.row_scales(r)[c / G]);
      REQUIRE(std::abs(static_cast<double>(w(r, c)) - static_cast<double>(v)) <= scale / 2 * (1 + 0x1p-15));
    });
  }
}

}  // namespace

TEMPLATE_TEST_CASE("quantised: keeps what the mask keeps, within half a scale", "", quantised<64>, quantised<128>,
                   quantised<256>) {
  pare::random_source random(71);
  for (extents const shape : {extents{1, 1}, extents{5, 7}, extents{3, 64}, extents{4, 65}, extents{7, 128},
                              extents{33, 129}, extents{9, 331}, extents{0, 0}, extents{0, 8}, extents{8, 0}})
    for (float const density : {0.0f, 0.02f, 0.5f, 1.0f}) {
      auto w = pare::test::random_matrix(random, shape);
      for (index_t i = 0; i < w.size(); i += 5) w.data()[i] = 0.0f;
      mask const keep = density == 1.0f ? mask(shape, true) : pare::test::random_mask(random, shape, density);
      check_rounding(pare::compress<TestType>(w, keep), w, keep);
      matrix<float> const turned(w.span().transposed());
      check_rounding(pare::compress<TestType>(turned.span().transposed(), keep), w, keep);
    }
  CHECK(TestType().nnz() == 0);
  CHECK(TestType().shape() == extents{0, 0});
}

TEST_CASE("quantised: is what every other format converts to") {
  pare::random_source random(72);
  auto const w = pare::test::random_matrix(random, {8, 200});
  auto const keep = pare::test::random_mask(random, w.shape(), 0.3f);
  auto const expected = pare::compress<quantised<>>(w, keep);
  auto const same = [&](quantised<> const& q) {
    CHECK(pare::kept(q) == keep);
    CHECK(pare::test::same_bits(pare::decompress(q), pare::decompress(expected)));
  };
  same(pare::convert<quantised<>>(pare::compress<pare::bitmap<float>>(w, keep)));
  same(pare::convert<quantised<>>(pare::compress<pare::csr<float>>(w, keep)));
  same(pare::convert<quantised<>>(pare::compress<pare::dense<float>>(w, keep)));
  auto const rounded = pare::cast<pare::bf16>(w);
  auto const q = pare::convert<quantised<>>(pare::compress<pare::bitmap<pare::bf16>>(w, keep));
  check_rounding(q, pare::cast<float>(rounded), keep);
  // Towards float nothing is lost.
  auto const wide = pare::convert<pare::bitmap<float>>(expected);
  CHECK(pare::kept(wide) == keep);
  CHECK(pare::test::same_bits(pare::decompress(wide), pare::decompress(expected)));
}

TEST_CASE("quantised: rounds to the nearest code, ties to even") {
  matrix<float> w(1, 8);
  float const values[] = {127.0f, 0.5f, 1.5f, -0.5f, -2.5f, 126.5f, -127.0f, 0.49f};
  float const codes[] = {127.0f, 0.0f, 2.0f, 0.0f, -2.0f, 126.0f, -127.0f, 0.0f};
  for (index_t c = 0; c < 8; ++c) w(0, c) = values[c];
  auto const q = pare::compress<quantised<64>>(w, mask(w.shape(), true));
  CHECK(q.row_scales(0)[0] == 1.0f);
  q.for_each_in_row(0, [&](index_t c, float v) {
    CHECK(v == codes[c]);
    CHECK(std::signbit(v) == (codes[c] < 0.0f));  // zeros are +0
  });
}

TEST_CASE("quantised: pruned weights do not widen a scale") {
  matrix<float> w(1, 130);
  for (index_t c = 0; c < 130; ++c) w(0, c) = 1.0f;
  w(0, 3) = 1000.0f;
  w(0, 129) = std::numeric_limits<float>::quiet_NaN();
  mask keep(w.shape(), true);
  keep.set(0, 3, false);
  keep.set(0, 129, false);
  auto const q = pare::compress<quantised<>>(w, keep);
  q.for_each_in_row(0, [](index_t, float v) { CHECK(v == 1.0f); });
}

TEST_CASE("quantised: NaN and Inf show in their group and nowhere else") {
  for (float const bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()})
    for (index_t const at : {index_t{0}, index_t{70}, index_t{127}}) {
      matrix<float> w(2, 300);
      for (index_t i = 0; i < w.size(); ++i) w.data()[i] = 2.0f;
      w(1, at) = bad;
      auto const q = pare::compress<quantised<>>(w, mask(w.shape(), true));
      for (index_t r = 0; r < 2; ++r)
        q.for_each_in_row(r, [&](index_t c, float v) {
          bool const damaged = r == 1 && c < 128;
          if (std::isnan(v) != damaged || (!damaged && v != 2.0f)) FAIL("row " << r << " column " << c << ": " << v);
        });
    }
}

TEST_CASE("quantised: the largest and the smallest floats keep the bound") {
  for (float const largest : {std::numeric_limits<float>::max(), 0x1p-126f, 0x1p-120f, 0x1p-149f, 189 * 0x1p-149f}) {
    matrix<float> w(1, 64);
    for (index_t c = 0; c < 64; ++c) w(0, c) = largest * (static_cast<float>(c - 32) / 32.0f);
    check_rounding(pare::compress<quantised<64>>(w, mask(w.shape(), true)), w, mask(w.shape(), true));
  }
}

TEST_CASE("quantised: bytes follow the documented formula") {
  pare::random_source random(73);
  auto const w = pare::test::random_matrix(random, {6, 200});
  CHECK(pare::compress<quantised<>>(w, mask(w.shape(), true)).bytes() == 6 * 200 + 4 * 6 * 2);
  auto const keep = pare::test::random_mask(random, w.shape(), 0.5f);
  auto const nnz = static_cast<std::size_t>(keep.count());
  CHECK(pare::compress<quantised<>>(w, keep).bytes() == nnz + 4 * 6 * 2 + 6 * 4 * 8 + 8 * 7);
}
