// SPDX-License-Identifier: Apache-2.0
// The operands for few columns, with every kernel that they have, on every architecture that the build has.
#include <limits>
#include <string>

#include <pare/kernel/matmul.hpp>

#include "kernel/check_kernels.hpp"

using pare::bf16;
using pare::bitmap;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::matrix_span;

namespace {

constexpr index_t columns[] = {1, 2, 3, 4, 5, 8, 11};
constexpr extents shapes[] = {{1, 1}, {5, 7}, {3, 64}, {4, 65}, {19, 67}, {33, 129}, {67, 331}, {127, 1031}};

/// One kernel on one architecture, for an operand that is laid out for `m`.
template <class Kernel, class A>
class few_check {
  using operand = typename Kernel::operand;
  using T = typename operand::value_type;

 public:
  few_check(pare::random_source& random, pare::machine m) : random_(random), machine_(m) {}

  void all() {
    INFO(operand::name() << "/" << Kernel::name() << "/" << pare::dtype_name<T> << "/" << A::name() << " laid out for "
                         << (machine_.expands_words ? "words" : "floats"));
    for (extents const shape : shapes)
      for (float const density : {0.0f, 0.02f, 0.1f, 0.5f, 1.1f}) {
        mask keep = pare::test::random_mask(random_, shape, density);
        for (index_t c = 0; c < shape.cols && shape.rows > 4 && density < 1.0f; ++c) keep.set(shape.rows / 2, c, false);
        check(keep);
      }
    adversarial();
    not_finite();
    subnormal();
    threads();
    without_elements();
  }

 private:
  bitmap<T> compressed(mask const& keep) {
    return pare::compress<bitmap<T>>(pare::test::random_matrix(random_, keep.shape()), keep);
  }
  void multiply(operand const& w, matrix_span<float const> x, matrix_span<float> y, pare::execution_ref exec = {}) {
    pare::matmul_with<Kernel, A, pare::identity, pare::execution_ref>(w, x, y, {}, std::move(exec));
  }

  /// All numbers of columns, and layouts of x and y: within the bound, the same bits, and nothing else written.
  void check(mask const& keep) {
    bitmap<T> const format = compressed(keep);
    operand const w(format, machine_);
    auto const [m, k] = keep.shape();
    INFO("M " << m << " K " << k << " nnz " << w.nnz());
    REQUIRE(w.shape() == keep.shape());
    REQUIRE(w.nnz() == keep.count());
    index_t in_blocks = 0;
    for (index_t b = 0; b * w.block_rows() < m; ++b) in_blocks += w.block_nnz(b);
    REQUIRE(in_blocks >= w.nnz());
    for (index_t const n : columns) {
      INFO("N " << n);
      auto const x = pare::test::random_matrix(random_, {k, n});
      matrix<float> first(m, n);
      multiply(w, x.span(), first.span());
      REQUIRE(pare::test::within_bound(format, x, first.span()));
      struct layout {
        index_t x_row, x_col, y_row, y_col;
      };
      for (layout const& l :
           {layout{n, 1, n, 1}, {n + 7, 1, n + 13, 1}, {1, k + 5, 1, m + 11}, {3 * n + 2, 3, 2 * n + 3, 2}}) {
        pare::test::guarded in({k, n}, l.x_row, l.x_col, 3);
        pare::test::guarded out({m, n}, l.y_row, l.y_col, 5);
        in.assign(x);
        multiply(w, in.view(), out.view());
        REQUIRE(pare::test::same_bits(out.view(), first));
        REQUIRE(out.intact());
      }
    }
  }

  void adversarial() {
    extents const shape{70, 200};
    mask row(shape), column(shape), diagonal(shape), last(shape), window(shape);
    for (index_t c = 0; c < shape.cols; ++c) row.set(33, c);
    for (index_t r = 0; r < shape.rows; ++r) column.set(r, 77);
    for (index_t r = 0; r < shape.rows; ++r) diagonal.set(r, r);
    last.set(69, 199);
    for (index_t r = 0; r < shape.rows; ++r)
      for (index_t c = 64; c < 64 + r % 33; ++c) window.set(r, c);  // 0 to 32 elements in 32 columns
    for (mask const& keep : {row, column, diagonal, last, window}) check(keep);
  }

  /// NaN and Inf in x reach the outputs that a stored weight connects, and no others; a stored 0 connects.
  void not_finite() {
    extents const shape{37, 141};
    for (float const density : {0.03f, 0.5f}) {
      mask const keep = pare::test::random_mask(random_, shape, density);
      auto values = pare::test::random_matrix(random_, shape);
      for (index_t c = 0; c < shape.cols; c += 2) values(1, c) = 0.0f;
      auto const format = pare::compress<bitmap<T>>(values, keep);
      operand const w(format, machine_);
      for (index_t const n : {1, 2, 4, 8})
        for (index_t const row : {index_t{0}, index_t{17}, index_t{63}, shape.cols - 1})
          for (float const bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                                  std::numeric_limits<float>::quiet_NaN()}) {
            auto x = pare::test::random_matrix(random_, {shape.cols, n});
            x(row, n / 2) = bad;
            matrix<float> y(shape.rows, n);
            multiply(w, x.span(), y.span());
            INFO("N " << n << " x(" << row << ", " << n / 2 << ") = " << bad);
            REQUIRE(pare::test::within_bound(format, x, y.span()));
          }
    }
  }

  /// Weights and activations below the smallest normal number are numbers too.
  void subnormal() {
    extents const shape{17, 80};
    mask const keep = pare::test::random_mask(random_, shape, 0.4f);
    for (bool const weights : {false, true}) {
      auto values = pare::test::random_matrix(random_, shape);
      auto x = pare::test::random_matrix(random_, {shape.cols, 2});
      matrix<float>& small = weights ? values : x;
      matrix<float>& large = weights ? x : values;
      for (index_t i = 0; i < small.size(); ++i) small.data()[i] *= 0x1p-130f;
      for (index_t i = 0; i < large.size(); ++i) large.data()[i] *= 0x1p60f;
      auto const format = pare::compress<bitmap<T>>(values, keep);
      matrix<float> y(shape.rows, 2);
      multiply(operand(format, machine_), x.span(), y.span());
      REQUIRE(pare::test::within_bound(format, x, y.span()));
    }
  }

  void threads() {
    extents const shape{1229, 1501};
    bitmap<T> const format = compressed(pare::test::random_mask(random_, shape, 0.3f));
    operand const w(format, machine_);
    for (index_t const n : {1, 3}) {
      REQUIRE(w.nnz() * n >= pare::detail::parallel_threshold);
      auto const x = pare::test::random_matrix(random_, {shape.cols, n});
      matrix<float> expected(shape.rows, n);
      multiply(w, x.span(), expected.span());
      REQUIRE(pare::test::within_bound(format, x, expected.span()));
      for (int count = 1; count <= 4; ++count) {
        pare::thread_pool pool(count);
        matrix<float> y(shape.rows, n);
        multiply(w, x.span(), y.span(), pool);
        INFO(count << " threads, N " << n);
        REQUIRE(pare::test::same_bits(y, expected));
      }
    }
  }

  void without_elements() {
    for (extents const shape : {extents{0, 0}, extents{0, 8}, extents{18, 0}}) {
      operand const w(compressed(mask(shape)), machine_);
      matrix<float> y(shape.rows, 3);
      for (index_t i = 0; i < y.size(); ++i) y.data()[i] = 1.0f;
      multiply(w, matrix<float>(shape.cols, 3).span(), y.span());
      for (index_t i = 0; i < y.size(); ++i) REQUIRE(y.data()[i] == 0.0f);
    }
    operand const w(compressed(mask({5, 9}, true)), machine_);
    multiply(w, matrix<float>(9, 0).span(), matrix<float>(5, 0).span());
  }

  pare::random_source& random_;
  pare::machine machine_;
};

/// Laid out for A itself, and for the other kind of machine: a kernel must see which of both it has.
template <class A, class T>
void check_few() {
  if constexpr (A::supported()) {
    if (!pare::test::runs_on<A>(xsimd::available_architectures())) {
      WARN("skipped: this machine has no " << A::name());
      return;
    }
    pare::random_source random(67);
    constexpr pare::machine here = pare::simd::machine_of<A>;
    pare::machine other = here;
    other.expands_words = !here.expands_words;
    auto const check = [&]<class Kernel>() {
      few_check<Kernel, A>(random, here).all();
      few_check<Kernel, A>(random, other).all();
    };
    pare::kernels_of<pare::bitmap_stream<T>>::list::for_each(check);
    pare::kernels_of<pare::windowed_ell<T>>::list::for_each(check);
  } else {
    WARN("skipped: not compiled for " << A::name());
  }
}

/// Dense rows that are longer than the blocks in which x is taken, and more of them than pass in one go; pruned ones
/// with an x that is not finite too.
template <class A, class T>
void check_dense() {
  if constexpr (A::supported()) {
    if (!pare::test::runs_on<A>(xsimd::available_architectures())) return;
    pare::random_source random(70);
    for (extents const shape : {extents{67, 4500}, extents{33, 2048}, extents{2, 4097}, extents{35, 512}})
      for (bool const all : {true, false}) {
        mask const keep = all ? mask(shape, true) : pare::test::random_mask(random, shape, 0.5f);
        auto const format = pare::compress<pare::dense<T>>(pare::test::random_matrix(random, shape), keep);
        for (index_t const n : columns)
          for (bool const finite : {true, false}) {
            INFO("M " << shape.rows << " K " << shape.cols << " N " << n << " all " << all << " finite " << finite);
            auto x = pare::test::random_matrix(random, {shape.cols, n});
            if (!finite) x(shape.cols / 2, n - 1) = std::numeric_limits<float>::infinity();
            matrix<float> y(shape.rows, n);
            pare::matmul_with<pare::dense_dot_few<T>, A>(format, x.span(), y.span());
            REQUIRE(pare::test::within_bound(format, x, y.span()));
            if (n != 3) continue;
            pare::thread_pool pool(3);
            matrix<float> shared(shape.rows, n);
            pare::matmul_with<pare::dense_dot_few<T>, A>(format, x.span(), shared.span(), pare::identity{}, pool);
            REQUIRE(pare::test::same_bits(shared, y));
          }
      }
  } else {
    WARN("skipped: not compiled for " << A::name());
  }
}

using fused = xsimd::fma3<xsimd::avx2>;

template <class Operand>
double cost(extents shape, double sparsity, index_t n) {
  auto const nnz = static_cast<index_t>((1.0 - sparsity) * static_cast<double>(shape.size()));
  return pare::kernels_of<Operand>::cycles({shape, nnz, n, 16, true, true});
}

}  // namespace

TEST_CASE("few columns: f32 on the best architecture of the build") { check_few<xsimd::default_arch, float>(); }
TEST_CASE("few columns: bf16 on the best architecture of the build") { check_few<xsimd::default_arch, bf16>(); }
TEST_CASE("few columns: f32 on AVX2") { check_few<fused, float>(); }
TEST_CASE("few columns: bf16 on AVX2") { check_few<fused, bf16>(); }
TEST_CASE("few columns: f32 on SSE4.2") { check_few<xsimd::sse4_2, float>(); }
TEST_CASE("few columns: dense weights") {
  check_dense<xsimd::default_arch, float>();
  check_dense<xsimd::default_arch, bf16>();
  check_dense<fused, float>();
  check_dense<fused, bf16>();
}

TEST_CASE("few columns: matmul takes the kernel for few columns, with epilogues at the right place") {
  pare::random_source random(68);
  auto const format = pare::compress<bitmap<float>>(pare::test::random_matrix(random, {35, 90}),
                                                    pare::test::random_mask(random, {35, 90}, 0.3f));
  for (index_t const n : {1, 5, 8, 19}) {
    auto const x = pare::test::random_matrix(random, {90, n});
    auto const added = pare::test::random_matrix(random, {35, n});
    std::vector<float> const b(35, 0.25f);
    auto const e = pare::bias{b} | pare::residual{added.span()} | pare::relu{};
    matrix<float> expected(35, n);
    pare::reference::matmul(format, x.span(), expected.span(), e);
    auto const same = [&](auto const& w) {
      matrix<float> y(35, n);
      pare::matmul(w, x, y, e);
      for (index_t i = 0; i < y.size(); ++i)
        REQUIRE(y.data()[i] == Approx(expected.data()[i]).epsilon(1e-5).margin(1e-5));
    };
    constexpr pare::machine here = pare::simd::machine_of<pare::simd::default_arch>;
    same(pare::bitmap_stream<float>(format, here));
    same(pare::windowed_ell<float>(format, here));
  }
}

TEST_CASE("few columns: the cost model knows where each operand wins, and that others cannot expand") {
  extents const large{11008, 4096};
  CHECK(cost<pare::dense<float>>(large, 0.0, 1) < cost<pare::bitmap_stream<float>>(large, 0.0, 1));
  CHECK(cost<pare::dense<float>>(large, 0.0, 1) < cost<pare::windowed_ell<float>>(large, 0.0, 1));
  for (index_t const n : {2, 4, 8}) {
    INFO("N " << n);
    for (extents const shape : {large, extents{768, 768}}) {
      CHECK(cost<pare::dense<float>>(shape, 0.0, n) < cost<pare::bitmap_stream<float>>(shape, 0.0, n));
      CHECK(cost<pare::dense<float>>(shape, 0.0, n) < cost<pare::windowed_ell<float>>(shape, 0.0, n));
      CHECK(cost<pare::dense<bf16>>(shape, 0.0, n) < cost<pare::bitmap_stream<bf16>>(shape, 0.0, n));
      CHECK(cost<pare::dense<float>>(shape, 0.0, n) < cost<pare::dense_tiles<float>>(shape, 0.0, n));
      CHECK(cost<pare::bitmap_stream<float>>(shape, 0.5, 2) < cost<pare::dense<float>>(shape, 0.5, 2));
    }
  }
  CHECK(cost<pare::bitmap_stream<bf16>>(large, 0.5, 1) < cost<pare::windowed_ell<bf16>>(large, 0.5, 1));
  CHECK(cost<pare::bitmap_stream<bf16>>(large, 0.5, 1) < cost<pare::dense<bf16>>(large, 0.5, 1));
  CHECK(cost<pare::windowed_ell<float>>(large, 0.9, 1) < cost<pare::bitmap_stream<float>>(large, 0.9, 1));
  CHECK(cost<pare::windowed_ell<bf16>>(large, 0.9, 1) < cost<pare::bitmap_stream<bf16>>(large, 0.9, 1));
  pare::matmul_shape const avx2{large, 1000, 1, 8};
  CHECK(pare::kernels_of<pare::bitmap_stream<float>>::cycles(avx2) >
        pare::kernels_of<pare::dense<float>>::cycles(avx2));
  CHECK(pare::kernels_of<pare::windowed_ell<float>>::cycles(avx2) > pare::kernels_of<pare::dense<float>>::cycles(avx2));
}
