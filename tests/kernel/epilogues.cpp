// SPDX-License-Identifier: Apache-2.0
// Epilogues against the reference, which applies them to one float at a time.
#include <cmath>
#include <limits>
#include <vector>

#include <pare/kernel/prepare.hpp>
#include <pare/kernel/reference.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::activation;
using pare::affine;
using pare::bias;
using pare::composed;
using pare::gelu;
using pare::identity;
using pare::index_t;
using pare::layer_epilogue;
using pare::matrix;
using pare::relu;
using pare::residual;
using pare::scaled;
using pare::silu;
using pare::tanh_activation;

namespace {

/// y = e(W x) for a sparse W with an empty row and for N = 1, a few, and several panels; both layouts of y.
struct fixture {
  static constexpr index_t rows = 13;
  static constexpr index_t cols = 29;
  static constexpr index_t most = 150;
  matrix<float> w;
  pare::bitmap<float> sparse;
  std::vector<float> a = std::vector<float>(rows);
  std::vector<float> b = std::vector<float>(rows);
  matrix<float> added;
  matrix<float> x;

  fixture() {
    pare::random_source random(71);
    w = pare::test::random_matrix(random, {rows, cols});
    auto keep = pare::test::random_mask(random, {rows, cols}, 0.4f);
    for (index_t c = 0; c < cols; ++c) keep.set(4, c, false);
    sparse = pare::compress<pare::bitmap<float>>(w, keep);
    for (float& v : a) v = random.normal();
    for (float& v : b) v = random.normal();
    added = pare::test::random_matrix(random, {rows, most});
    x = pare::test::random_matrix(random, {cols, most});
  }
  [[nodiscard]] pare::matrix_span<float const> first(matrix<float> const& m, index_t n) const {
    return m.span().col_range(0, n);
  }

  /// `make(n)` builds the epilogue for n columns. `slope`: how much a change of its input can grow on the way.
  template <class Make>
  void check(Make make, double slope) const {
    for (index_t const n : {index_t{1}, index_t{5}, index_t{8}, most}) {
      auto const e = make(n);
      matrix<float> expected(rows, n);
      matrix<float> y(rows, n);
      matrix<float> turned(n, rows);
      pare::reference::matmul(sparse, first(x, n), expected.span(), e);
      pare::matmul(sparse, first(x, n), y, e);
      pare::matmul(sparse, first(x, n), turned.span().transposed(), e);
      REQUIRE(pare::test::same_bits(turned.span().transposed(), y));
      for (index_t r = 0; r < rows; ++r)
        for (index_t c = 0; c < n; ++c) {
          double sum = 0.0;
          sparse.for_each_in_row(
              r, [&](index_t k, float v) { sum += std::abs(static_cast<double>(v) * static_cast<double>(x(k, c))); });
          auto const truth = static_cast<double>(expected(r, c));
          // What the sum may be off by, and a few units in the last place for the function itself.
          double const bound = slope * (cols + 2) * 0x1p-23 * sum + 0x1p-20 * (1.0 + std::abs(truth));
          INFO("N " << n << " at (" << r << ", " << c << ")");
          REQUIRE(std::abs(static_cast<double>(y(r, c)) - truth) <= bound);
        }
    }
  }
  /// The epilogue of networks gives the very bits of the one composed at compile time.
  template <class E>
  void same(E const& compiled, layer_epilogue const& at_run_time) const {
    for (index_t const n : {index_t{1}, most}) {
      matrix<float> y(rows, n);
      matrix<float> z(rows, n);
      pare::matmul(sparse, first(x, n), y, compiled);
      pare::matmul(sparse, first(x, n), z, at_run_time);
      REQUIRE(pare::test::same_bits(y, z));
    }
  }
};

}  // namespace

TEST_CASE("epilogues: each alone agrees with the reference") {
  fixture const f;
  f.check([](index_t) { return identity{}; }, 1.0);
  f.check([&](index_t) { return bias{f.b}; }, 1.0);
  f.check([&](index_t) { return affine{f.a, f.b}; }, 4.0);
  f.check([](index_t) { return scaled{-2.5f}; }, 2.5);
  f.check([&](index_t n) { return residual{f.first(f.added, n)}; }, 1.0);
  f.check([](index_t) { return relu{}; }, 1.0);
  f.check([](index_t) { return silu{}; }, 1.2);
  f.check([](index_t) { return gelu{}; }, 1.2);
  f.check([](index_t) { return tanh_activation{}; }, 1.0);
}

TEST_CASE("epilogues: are applied from left to right") {
  fixture const f;
  f.check([&](index_t) { return bias{f.b} | gelu{}; }, 1.2);
  f.check([&](index_t) { return relu{} | bias{f.b}; }, 1.0);
  f.check([&](index_t n) { return affine{f.a, f.b} | residual{f.first(f.added, n)} | relu{}; }, 4.0);
  auto const bias_first = bias{f.b} | scaled{3.0f};
  auto const scale_first = scaled{3.0f} | bias{f.b};
  CHECK(bias_first(1.0f, 2, 0) == Approx(3.0f * (1.0f + f.b[2])));
  CHECK(scale_first(1.0f, 2, 0) == Approx(3.0f + f.b[2]));
}

TEST_CASE("epilogues: the values of activation functions are those of their definitions") {
  for (float const v : {-9.0f, -3.0f, -0.75f, 0.0f, 0.1f, 1.0f, 2.5f, 8.0f}) {
    auto const d = static_cast<double>(v);
    CHECK(relu{}(v, 0, 0) == std::max(v, 0.0f));
    CHECK(silu{}(v, 0, 0) == Approx(d / (1.0 + std::exp(-d))).margin(1e-7));
    CHECK(gelu{}(v, 0, 0) == Approx(0.5 * d * std::erfc(-d / std::sqrt(2.0))).margin(1e-6));
    CHECK(tanh_activation{}(v, 0, 0) == Approx(std::tanh(d)).margin(1e-7));
  }
}

TEST_CASE("epilogues: the one that networks use gives the bits of the one composed at compile time") {
  fixture const f;
  f.same(identity{}, {});
  f.same(bias{f.b}, {.bias = f.b});
  f.same(residual{f.added.span()}, {.added = f.added.span()});
  f.same(bias{f.b} | relu{}, {.bias = f.b, .act = activation::relu});
  f.same(bias{f.b} | silu{}, {.bias = f.b, .act = activation::silu});
  f.same(bias{f.b} | gelu{}, {.bias = f.b, .act = activation::gelu});
  f.same(tanh_activation{}, {.act = activation::tanh});
  f.same(bias{f.b} | residual{f.added.span()} | relu{},
         {.bias = f.b, .added = f.added.span(), .act = activation::relu});
  // The compiler may fuse scale and shift where it sees both at once, so here the bound decides.
  f.check([&](index_t) { return layer_epilogue{.scale = f.a, .bias = f.b}; }, 4.0);
}

TEST_CASE("epilogues: a residual may be the output itself, in any layout") {
  fixture const f;
  for (index_t const n : {index_t{1}, index_t{7}, fixture::most}) {
    matrix<float> expected(fixture::rows, n);
    pare::matmul(f.sparse, f.first(f.x, n), expected, residual{f.first(f.added, n)});
    matrix<float> y(f.first(f.added, n));
    pare::matmul(f.sparse, f.first(f.x, n), y, residual{y.span()});
    CHECK(pare::test::same_bits(y, expected));
    matrix<float> turned(f.first(f.added, n).transposed());
    pare::matmul(f.sparse, f.first(f.x, n), turned.span().transposed(), residual{turned.span().transposed()});
    CHECK(pare::test::same_bits(turned.span().transposed(), expected));
  }
}

namespace {

/// y += W x in place, for an operand that keeps partial sums in memory and has rows without partners.
template <class Operand, class F>
void check_in_place(F const& format, index_t n) {
  index_t const rows = format.shape().rows;
  pare::random_source random(73);
  auto const x = pare::test::random_matrix(random, {format.shape().cols, n});
  auto const added = pare::test::random_matrix(random, {rows, n});
  auto const w = pare::lay_out<Operand>(format, pare::machine_for<Operand>(), n);
  matrix<float> expected(rows, n);
  pare::matmul(w, x, expected, residual{added.span()} | relu{});
  matrix<float> y(added);
  pare::matmul(w, x, y, residual{y.span()} | relu{});
  REQUIRE(pare::test::same_bits(y, expected));
  matrix<float> reference(rows, n);
  pare::reference::matmul(format, x.span(), reference.span(), residual{added.span()} | relu{});
  for (index_t i = 0; i < y.size(); ++i) REQUIRE(y.data()[i] == Approx(reference.data()[i]).margin(1e-4));
}

}  // namespace

TEST_CASE("epilogues: a residual may be the output itself in every operand that visits a row more than once") {
  pare::random_source random(72);
  for (index_t const rows : {1, 2, 3, 5, 130, 273}) {
    auto const w = pare::test::random_matrix(random, {rows, 700});
    auto const sparse = pare::compress<pare::bitmap<float>>(w, pare::test::random_mask(random, {rows, 700}, 0.2f));
    for (index_t const n : {16, 32, 64, 128, 130}) {
      INFO(rows << " rows, " << n << " columns");
      check_in_place<pare::row_pairs<float>>(sparse, n);
      check_in_place<pare::sliced_ell<float>>(sparse, n);
      check_in_place<pare::dense_tiles<float>>(sparse, n);
    }
  }
}

TEST_CASE("epilogues: relu hands NaN on and keeps Inf, alone and in registers") {
  matrix<float> w(1, 1);
  w(0, 0) = 1.0f;
  pare::dense<float> const one(w);
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (index_t const n : {index_t{1}, index_t{40}})
    for (float const v : {nan, inf, -inf, -1.0f}) {
      matrix<float> x(1, n);
      x(0, n - 1) = v;
      matrix<float> y(1, n);
      pare::matmul(one, x, y, relu{});
      if (std::isnan(v)) {
        CHECK(std::isnan(y(0, n - 1)));
      } else {
        CHECK(y(0, n - 1) == (v > 0.0f ? v : 0.0f));
      }
    }
}
