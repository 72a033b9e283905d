// SPDX-License-Identifier: Apache-2.0
// Kernels for 8-bit weights, every operand on every architecture of the build, against plain sums in double.
//
// y must be W_q x_q, x rounded to 8 bits by group, within the rounding of a float sum over the groups; and W_q x within
// sum over groups of (scale of x / 2) sum |w|.
#include <pare/kernel/prepare.hpp>

#include "kernel/check_kernels.hpp"

namespace pare::test {
namespace {

template <class Kernel, class A>
class int8_check {
 public:
  using operand = typename Kernel::operand;
  static constexpr index_t scaled = operand::scaled;
  static constexpr index_t group = operand::group;
  using weights = quantised<scaled>;

  explicit int8_check(random_source& random) : random_(random) {}

  void all() {
    INFO(operand::name() << "/" << Kernel::name() << "/g" << scaled << "/" << A::name());
    for (extents const shape : {extents{1, 1}, extents{5, 7}, extents{3, 64}, extents{4, 65}, extents{19, 67},
                                extents{33, 129}, extents{67, 331}, extents{131, 256}})
      for (float const density : {0.0f, 0.02f, 0.1f, 0.5f, 1.0f}) {
        mask const keep = density == 1.0f ? mask(shape, true) : random_mask(random_, shape, density);
        weights const w = compress<weights>(random_matrix(random_, shape), keep);
        operand const o(w, here);
        stores_the_same(o, w);
        for (index_t const n : counts) layouts(o, w, n);
      }
    unusual_masks();
    without_elements();
    extremes();
    small_and_large();
    not_finite();
    threads();
    whichever_kernel();
  }

 private:
  static constexpr machine here = simd::machine_of<A>;
  static constexpr bool many = int8_spmm_kernel<Kernel>;
  /// Around the edges of the kernels' panels: 8 columns, or 8, 16 and 32.
  static constexpr index_t counts[] = {1, 2, 3, 7, 8, 9, many ? 16 : 4, 17, many ? 31 : 5, many ? 37 : 6};

  static void multiply(operand const& o, matrix_span<float const> x, matrix_span<float> y, execution_ref exec = {}) {
    matmul_with<Kernel, A, identity, execution_ref>(o, x, y, {}, std::move(exec));
  }

  static void stores_the_same(operand const& o, weights const& w) {
    REQUIRE(o.shape() == w.shape());
    REQUIRE(o.nnz() == w.nnz());
    for (index_t r = 0; r < w.shape().rows; ++r) {
      std::vector<std::pair<index_t, float>> expected;
      std::vector<std::pair<index_t, float>> found;
      w.for_each_in_row(r, [&](index_t c, float v) { expected.emplace_back(c, v); });
      o.for_each_in_row(r, [&](index_t c, float v) { found.emplace_back(c, v); });
      REQUIRE(found == expected);
    }
  }

  /// x as the kernel sees it, and the scale of each element's group.
  struct rounded {
    matrix<float> codes;
    matrix<float> scales;
    explicit rounded(matrix<float> const& x) : codes(x.shape()), scales(x.shape()) {
      for (index_t j = 0; j < x.cols(); ++j)
        for (index_t k0 = 0; k0 < x.rows(); k0 += group) {
          index_t const end = std::min(k0 + group, x.rows());
          float largest = 0.0f;
          for (index_t k = k0; k < end; ++k) largest = std::max(largest, std::abs(x(k, j)));
          float const scale = largest == 0.0f ? 0.0f : std::max(largest / 127.0f, 0x1p-126f);
          for (index_t k = k0; k < end; ++k) {
            scales(k, j) = scale;
            codes(k, j) = scale == 0.0f ? 0.0f : std::nearbyint(x(k, j) * (1.0f / scale));
          }
        }
    }
  };

  static void check(weights const& w, matrix<float> const& x, matrix_span<float const> y) {
    if (!Kernel::template runs_on<A>) {
      REQUIRE(within_bound(w, x, y));
      return;
    }
    rounded const q(x);
    index_t const groups = ceil_div(x.rows(), group);
    for (index_t r = 0; r < y.rows; ++r)
      for (index_t j = 0; j < y.cols; ++j) {
        double exact = 0.0;
        double of_rounded = 0.0;
        double magnitude = 0.0;
        double bound = 0.0;
        w.for_each_in_row(r, [&](index_t c, float value) {
          double const v = static_cast<double>(value);
          double const code = static_cast<double>(q.codes(c, j)) * static_cast<double>(q.scales(c, j));
          exact += v * static_cast<double>(x(c, j));
          of_rounded += v * code;
          magnitude += std::abs(v * code);
          bound += static_cast<double>(q.scales(c, j)) / 2 * (1 + 0x1p-14) * std::abs(v);
        });
        double const rounding = static_cast<double>(groups + 8) * 0x1p-23 * magnitude;
        double const got = static_cast<double>(y(r, j));
        if (!(std::abs(got - of_rounded) <= rounding) || !(std::abs(got - exact) <= bound + rounding))
          FAIL("row " << r << ", column " << j << ": " << got << ", rounded x " << of_rounded << " +- " << rounding
                      << ", exact " << exact << " +- " << bound);
      }
  }

  void layouts(operand const& o, weights const& w, index_t n) {
    index_t const m = w.shape().rows;
    index_t const k = w.shape().cols;
    INFO("M " << m << " K " << k << " N " << n << " nnz " << w.nnz());
    auto const x = random_matrix(random_, {k, n});
    matrix<float> first(m, n);
    multiply(o, x.span(), first.span());
    check(w, x, first.span());
    struct layout {
      index_t x_row, x_col, y_row, y_col;
    };
    layout const others[] = {{n + 7, 1, n + 13, 1}, {1, k, 1, m}, {1, k + 5, n + 5, 1}, {3 * n + 2, 3, 2 * n + 3, 2}};
    for (layout const& l : others) {
      guarded in({k, n}, l.x_row, l.x_col, 3);
      guarded out({m, n}, l.y_row, l.y_col, 5);
      in.assign(x);
      multiply(o, in.view(), out.view());
      REQUIRE(same_bits(out.view(), first));
      REQUIRE(out.intact());
    }
  }

  void unusual_masks() {
    extents const shape{37, 300};
    auto const values = random_matrix(random_, shape);
    auto const test = [&](auto const& kept) {
      mask keep(shape);
      for (index_t r = 0; r < shape.rows; ++r)
        for (index_t c = 0; c < shape.cols; ++c) keep.set(r, c, kept(r, c));
      weights const w = compress<weights>(values, keep);
      operand const o(w, here);
      stores_the_same(o, w);
      layouts(o, w, 1);
      layouts(o, w, many ? 29 : 5);
    };
    test([](index_t r, index_t) { return r == 18; });
    test([](index_t r, index_t c) { return c % 128 / 32 == r % 4; });  // all of a row in one part of its groups
    test([](index_t r, index_t c) { return c % 128 / 32 == 1 || c % 128 / 32 == 1 + r % 2; });
    test([](index_t r, index_t c) { return c % 128 < 4 * r; });
    test([](index_t, index_t c) { return c == 299; });
    test([](index_t, index_t c) { return c == 0; });
    test([](index_t r, index_t c) { return r == c; });
    test([](index_t r, index_t c) { return (r + c) % 2 == 0; });
    test([](index_t r, index_t c) { return c / 64 % 2 == r % 2; });
    test([](index_t r, index_t c) { return r % 4 == 3 || c > 290; });
  }

  void without_elements() {
    for (extents const shape : {extents{0, 0}, extents{0, 8}, extents{16, 0}}) {
      operand const o(compress<weights>(matrix<float>(shape), mask(shape)), here);
      guarded y({shape.rows, 3}, 5, 1, 1);
      multiply(o, matrix<float>(shape.cols, 3).span(), y.view());
      for (index_t r = 0; r < shape.rows; ++r) REQUIRE(y.view()(r, 1) == 0.0f);
      REQUIRE(y.intact());
    }
    operand const o(compress<weights>(matrix<float>(5, 9), mask({5, 9}, true)), here);
    multiply(o, matrix<float>(9, 0).span(), matrix<float>(5, 0).span());
  }

  /// The largest codes on both sides, everywhere: nothing may saturate. All sums are exact here.
  void extremes() {
    extents const shape{6, 331};
    for (float const sign : {1.0f, -1.0f})
      for (bool const alternate : {false, true})
        for (index_t const n : {1, 3, 35}) {
          matrix<float> w(shape);
          matrix<float> x(shape.cols, n);
          for (index_t i = 0; i < w.size(); ++i) w.data()[i] = 127.0f;
          for (index_t k = 0; k < shape.cols; ++k)
            for (index_t j = 0; j < n; ++j) x(k, j) = sign * (alternate && k % 2 == 1 ? -127.0f : 127.0f);
          float const sum = sign * 127.0f * 127.0f * static_cast<float>(alternate ? shape.cols % 2 : shape.cols);
          operand const o(compress<weights>(w, mask(shape, true)), here);
          for (index_t i = 0; i < w.size(); ++i) w.data()[i] = -127.0f;
          operand const negative(compress<weights>(w, mask(shape, true)), here);
          matrix<float> y(shape.rows, n);
          multiply(o, x.span(), y.span());
          for (index_t i = 0; i < y.size(); ++i) REQUIRE(y.data()[i] == sum);
          multiply(negative, x.span(), y.span());
          for (index_t i = 0; i < y.size(); ++i) REQUIRE(y.data()[i] == -sum);
        }
  }

  /// Subnormal and huge x, zeros, and groups of very different size next to each other.
  void small_and_large() {
    extents const shape{9, 500};
    weights const w = compress<weights>(random_matrix(random_, shape), random_mask(random_, shape, 0.4f));
    operand const o(w, here);
    for (float const factor : {0.0f, 0x1p-149f, 0x1p-130f, 0x1p-126f, 0x1p-60f, 0x1p100f}) {
      auto x = random_matrix(random_, {shape.cols, 2});
      for (index_t k = 0; k < shape.cols; ++k)
        for (index_t j = 0; j < 2; ++j) x(k, j) *= k < 200 ? factor : 1.0f;
      matrix<float> y(shape.rows, 2);
      multiply(o, x.span(), y.span());
      INFO("factor " << factor);
      check(w, x, y.span());
    }
  }

  /// NaN and Inf in x reach the outputs that a stored weight connects, and no others; a stored 0 connects. The other
  /// outputs are those of x itself, not rounded.
  void not_finite() {
    extents const shape{9, 210};
    mask const keep = random_mask(random_, shape, 0.5f);
    auto values = random_matrix(random_, shape);
    values(1, 3) = 0.0f;
    weights const w = compress<weights>(values, keep);
    operand const o(w, here);
    for (index_t const n : {1, 3, many ? 70 : 5})
      for (index_t const row : {index_t{3}, index_t{0}, shape.cols - 1})
        for (float const bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                                std::numeric_limits<float>::quiet_NaN()}) {
          auto x = random_matrix(random_, {shape.cols, n});
          x(row, n / 2) = bad;
          matrix<float> y(shape.rows, n);
          multiply(o, x.span(), y.span());
          INFO("x(" << row << ", " << n / 2 << ") = " << bad);
          REQUIRE(within_bound(w, x, y.span()));
        }
    // A weight that is not finite makes its row NaN, as it does element by element.
    values(2, 5) = std::numeric_limits<float>::infinity();
    mask const all(shape, true);
    operand const damaged(compress<weights>(values, all), here);
    matrix<float> y(shape.rows, 1);
    multiply(damaged, random_matrix(random_, {shape.cols, 1}).span(), y.span());
    for (index_t r = 0; r < shape.rows; ++r) REQUIRE(std::isnan(y(r, 0)) == (r == 2));
  }

  void threads() {
    extents const shape{1229, 701};
    weights const w = compress<weights>(random_matrix(random_, shape), random_mask(random_, shape, 0.5f));
    operand const o(w, here);
    for (index_t const n : {1, many ? 67 : 5}) {
      auto const x = random_matrix(random_, {shape.cols, n});
      REQUIRE(o.nnz() * n >= detail::parallel_threshold);
      matrix<float> expected(shape.rows, n);
      multiply(o, x.span(), expected.span());
      check(w, x, expected.span());
      for (int count = 1; count <= 4; ++count) {
        thread_pool pool(count);
        matrix<float> y(shape.rows, n);
        multiply(o, x.span(), y.span(), pool);
        INFO(count << " threads");
        REQUIRE(same_bits(y, expected));
      }
    }
  }

  /// Where no kernel is named there is one for every number of columns on every architecture.
  void whichever_kernel() {
    extents const shape{19, 150};
    weights const w = compress<weights>(random_matrix(random_, shape), random_mask(random_, shape, 0.5f));
    operand const o(w, here);
    for (index_t const n : {1, 2, 8, 9, 20}) {
      auto const x = random_matrix(random_, {shape.cols, n});
      matrix<float> y(shape.rows, n);
      execution_ref exec;
      detail::multiply<A>(o, x.span(), y.span(), identity{}, exec);
      rounded const q(x);
      for (index_t r = 0; r < shape.rows; ++r)
        for (index_t j = 0; j < n; ++j) {
          double exact = 0.0;
          double bound = 0.0;
          w.for_each_in_row(r, [&](index_t c, float v) {
            exact += static_cast<double>(v) * static_cast<double>(x(c, j));
            bound += static_cast<double>(q.scales(c, j)) / 2 * std::abs(static_cast<double>(v));
          });
          INFO("N " << n << ", row " << r << ", column " << j);
          REQUIRE(std::abs(static_cast<double>(y(r, j)) - exact) <= 1.001 * bound);
        }
    }
  }

  random_source& random_;
};

template <class A>
void check_int8() {
  if constexpr (A::supported()) {
    if (!runs_on<A>(xsimd::available_architectures())) {
      WARN("skipped: this machine has no " << A::name());
      return;
    }
    random_source random(63);
    auto const check = [&]<class Kernel>() { int8_check<Kernel, A>(random).all(); };
    auto const all_groups = [&]<template <index_t> class Operand, index_t... G>() {
      (kernels_of<Operand<G>>::list::for_each(check), ...);
    };
    all_groups.template operator()<int8_dense, 64, 128, 256>();
    all_groups.template operator()<int8_bitmap_stream, 64, 128, 256>();
    all_groups.template operator()<int8_windowed_ell, 128, 256>();
    all_groups.template operator()<int8_sliced_ell, 128, 256>();
  } else {
    WARN("skipped: not compiled for " << A::name());
  }
}

}  // namespace
}  // namespace pare::test

TEST_CASE("int8: on the best architecture of the build kernels agree with sums in double") {
  pare::test::check_int8<xsimd::default_arch>();
}

TEST_CASE("int8: on AVX2 kernels agree with sums in double") { pare::test::check_int8<xsimd::avx2>(); }

TEST_CASE("int8: without byte products kernels agree with sums in double") { pare::test::check_int8<xsimd::sse2>(); }

TEST_CASE("int8: prepare chooses by sparsity and columns, and what it chooses multiplies") {
  using namespace pare;
  random_source random(66);
  constexpr machine here = simd::machine_of<simd::default_arch>;
  auto const shape_of = [&](extents e, double density, index_t n) {
    auto const nnz = static_cast<index_t>(density * static_cast<double>(e.size()));
    return matmul_shape{e, nnz, n, machine{16, true, true, true, true, true, true}};
  };
  extents const large{11008, 4096};
  auto const dense_cost = [&](double d, index_t n) {
    return kernels_of<int8_dense<128>>::cycles(shape_of(large, d, n));
  };
  auto const stream = [&](double d, index_t n) {
    return kernels_of<int8_bitmap_stream<128>>::cycles(shape_of(large, d, n));
  };
  auto const windows = [&](double d, index_t n) {
    return kernels_of<int8_windowed_ell<128>>::cycles(shape_of(large, d, n));
  };
  CHECK(dense_cost(1.0, 1) < stream(1.0, 1));
  CHECK(stream(0.5, 1) < dense_cost(0.5, 1));
  CHECK(stream(0.3, 1) < windows(0.3, 1));
  CHECK(windows(0.1, 1) < stream(0.1, 1));
  CHECK(windows(0.1, 8) < stream(0.1, 8));
  CHECK(stream(0.5, 4) < dense_cost(0.5, 4));
  auto const slices = [&](double d, index_t n) {
    return kernels_of<int8_sliced_ell<128>>::cycles(shape_of(large, d, n));
  };
  CHECK(windows(0.1, 1) < slices(0.1, 1));
  for (index_t const n : {9, 16, 32, 128}) {
    CHECK(dense_cost(0.8, n) < slices(0.8, n));
    CHECK(slices(0.3, n) < dense_cost(0.3, n));
    CHECK(slices(0.3, n) < stream(0.3, n));
    CHECK(slices(0.1, n) < windows(0.1, n));
    CHECK(slices(0.1, n) < kernels_of<sliced_ell<float>>::cycles(shape_of(large, 0.1, n)));
    CHECK(dense_cost(1.0, n) < kernels_of<dense_tiles<float>>::cycles(shape_of(large, 1.0, n)));
  }
  matmul_shape without = shape_of(large, 0.5, 1);
  without.target.multiplies_bytes = without.target.multiplies_words = false;
  CHECK(kernels_of<int8_bitmap_stream<128>>::cycles(without) == detail::never);
  CHECK(kernels_of<int8_windowed_ell<128>>::cycles(without) == detail::never);
  CHECK(kernels_of<int8_sliced_ell<128>>::cycles(without) == detail::never);
  CHECK(kernels_of<int8_dense<128>>::cycles(without) == detail::never);
  if (!here.multiplies_bytes) WARN("this build has no products of bytes");

  auto const check = [&]<class F>(F const& format) {
    for (index_t const n : {1, 4, 40})
      for (bool const may_be_dense : {false, true}) {
        auto const p = prepare(format, {.columns = n, .may_be_dense = may_be_dense});
        INFO(p.name() << " N " << n);
        REQUIRE(p.shape() == format.shape());
        REQUIRE(p.nnz() == format.nnz());
        REQUIRE(p.bytes() > 0);
        if (!may_be_dense) REQUIRE(std::string(p.name()).find("dense") == std::string::npos);
        auto const x = test::random_matrix(random, {format.shape().cols, n});
        matrix<float> y(format.shape().rows, n);
        matrix<float> expected(format.shape().rows, n);
        matmul(p, x, y);
        reference::matmul(format, x.span(), expected.span());
        for (index_t r = 0; r < y.rows(); ++r)
          for (index_t j = 0; j < n; ++j) {
            double sum = 0.0;  // x is below 6
            format.for_each_in_row(r, [&](index_t, float v) { sum += std::abs(static_cast<double>(v)); });
            REQUIRE(std::abs(static_cast<double>(y(r, j)) - static_cast<double>(expected(r, j))) <=
                    6.0 / 254 * sum + 1e-4);
          }
      }
  };
  for (float const density : {0.05f, 0.5f, 1.0f}) {
    extents const shape{70, 300};
    auto const w = test::random_matrix(random, shape);
    auto const keep = density == 1.0f ? mask(shape, true) : test::random_mask(random, shape, density);
    check(compress<quantised<64>>(w, keep));
    check(compress<quantised<128>>(w, keep));
    check(compress<quantised<384>>(w, keep));
  }
}

TEST_CASE("int8: epilogues see every row and column once, and y may be what they read") {
  using namespace pare;
  random_source random(64);
  extents const shape{21, 140};
  auto const w = compress<quantised<>>(test::random_matrix(random, shape), test::random_mask(random, shape, 0.5f));
  int8_bitmap_stream<128> const o(w, simd::machine_of<simd::default_arch>);
  auto const x = test::random_matrix(random, {140, 11});
  auto const added = test::random_matrix(random, {21, 11});
  std::vector<float> b(21);
  for (float& v : b) v = random.normal();
  matrix<float> plain(21, 11);
  matmul(o, x, plain);
  matrix<float> y = added;
  matmul(o, x, y, bias{b} | residual{y.span()} | relu{});
  for (index_t r = 0; r < 21; ++r)
    for (index_t j = 0; j < 11; ++j) {
      float const v = plain(r, j) + b[static_cast<std::size_t>(r)] + added(r, j);
      REQUIRE(y(r, j) == (v < 0.0f ? 0.0f : v));
    }
}

TEST_CASE("int8: for many columns sparse and dense kernels give the same bits") {
  using namespace pare;
  random_source random(67);
  constexpr machine here = simd::machine_of<simd::default_arch>;
  if (!here.multiplies_bytes) return;
  for (extents const shape : {extents{16, 128}, extents{149, 523}}) {
    auto const w = compress<quantised<>>(test::random_matrix(random, shape), test::random_mask(random, shape, 0.4f));
    auto const x = test::random_matrix(random, {shape.cols, 43});
    matrix<float> sparse(shape.rows, 43);
    matrix<float> dense(shape.rows, 43);
    matmul(int8_sliced_ell<128>(w, here), x, sparse);
    matmul(int8_dense<128>(w, here), x, dense);
    REQUIRE(test::same_bits(sparse, dense));
  }
}

#if XSIMD_WITH_AVX512BW
TEST_CASE("int8: x is rounded to the same codes on every architecture") {
  using namespace pare;
  random_source random(65);
  auto const x = test::random_matrix(random, {331, 3});
  std::vector<float> memory[2];
  index_t const size = detail::int8_floats<128>(331, 3);
  for (auto& m : memory) m.resize(static_cast<std::size_t>(size));
  int8_columns columns;
  REQUIRE(detail::quantise_columns<xsimd::avx512bw, 128>(x.span(), memory[0].data(), columns));
  REQUIRE(detail::quantise_columns<xsimd::sse2, 128>(x.span(), memory[1].data(), columns));
  REQUIRE(std::memcmp(memory[0].data(), memory[1].data(), sizeof(float) * static_cast<std::size_t>(size)) == 0);
}
#endif
