// SPDX-License-Identifier: Apache-2.0
// Checks every kernel of the registry on one architecture. Each architecture has a translation unit of its own, in
// which every kernel is built once: identity as the epilogue, execution_ref as the execution.
//
// Bound: |y - reference| <= (nnz of the row + 2) 2^-23 sum |w||x|, the forward error of a sum of products in any order
// (twice the unit roundoff an operation); inputs have both signs, so that sums cancel.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <pare/kernel/matmul.hpp>
#include <pare/kernel/reference.hpp>
#include <pare/kernel/thread_pool.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

namespace pare::test {

/// A mask that F accepts: random, cut down to the structure of N:M where F has one. `whole_blocks`: not only accepted,
/// but of the pattern that F is made for.
template <class F>
mask mask_for(random_source& random, extents shape, float density, bool whole_blocks) {
  mask keep = random_mask(random, shape, density);
  if constexpr (requires { F::block_rows; }) {
    if (whole_blocks)
      for (index_t r = 0; r < shape.rows; ++r)
        for (index_t c = 0; c < shape.cols; ++c) keep.set(r, c, keep(r - r % F::block_rows, c - c % F::block_cols));
  }
  if constexpr (requires { typename F::pattern_type; })
    keep &= select(random_matrix(random, shape), typename F::pattern_type{});
  return keep;
}

/// The smallest shape that F can tile and that is not smaller than `wanted`; odd extents stay where they can.
template <class F>
extents tiled_by(extents wanted) {
  for (index_t rows = wanted.rows;; ++rows)
    for (index_t cols = wanted.cols; cols < wanted.cols + 32; ++cols)
      if (F::accepts(mask({rows, cols}))) return {rows, cols};
}

/// A view of a matrix inside a larger buffer whose other elements must not be touched.
class guarded {
 public:
  guarded(extents shape, index_t row_stride, index_t col_stride, index_t offset)
      : buffer_(1, offset + std::max<index_t>(shape.rows, 1) * std::abs(row_stride) +
                       std::max<index_t>(shape.cols, 1) * col_stride + 64),
        view_{buffer_.data() + offset, shape.rows, shape.cols, row_stride, col_stride} {
    for (index_t i = 0; i < buffer_.size(); ++i) buffer_.data()[i] = canary;
  }
  [[nodiscard]] matrix_span<float> view() const noexcept { return view_; }
  void assign(matrix<float> const& m) {
    for (index_t i = 0; i < m.rows(); ++i)
      for (index_t j = 0; j < m.cols(); ++j) view_(i, j) = m(i, j);
  }
  /// Nothing outside of the view was written. Overwrites the view.
  [[nodiscard]] bool intact() {
    for (index_t i = 0; i < view_.rows; ++i)
      for (index_t j = 0; j < view_.cols; ++j) view_(i, j) = canary;
    for (index_t i = 0; i < buffer_.size(); ++i)
      if (buffer_.data()[i] != canary) return false;
    return true;
  }

 private:
  static constexpr float canary = 12345.678f;
  matrix<float> buffer_;
  matrix_span<float> view_;
};

/// Whether y is W x within the bound. NaN and infinities must be where the reference has them.
template <class F>
bool within_bound(F const& w, matrix<float> const& x, matrix_span<float const> y) {
  matrix<float> expected(y.shape());
  reference::matmul(w, x.span(), expected.span());
  for (index_t r = 0; r < y.rows; ++r)
    for (index_t n = 0; n < y.cols; ++n) {
      float const e = expected(r, n);
      if (std::isnan(e) || std::isinf(e)) {
        if (std::isnan(e) ? !std::isnan(y(r, n)) : y(r, n) != e) return false;
        continue;
      }
      double sum = 0.0;
      w.for_each_in_row(r, [&](index_t c, auto v) {
        sum += std::abs(static_cast<double>(to_float(v)) * static_cast<double>(x(c, n)));
      });
      double const bound = static_cast<double>(w.row_nnz(r) + 2) * 0x1p-23 * sum;
      if (!(std::abs(static_cast<double>(y(r, n)) - static_cast<double>(e)) <= bound)) return false;
    }
  return true;
}

/// A kernel and its operand, laid out for A from matrices of format F.
template <class F, class Kernel, class A>
class kernel_check {
 public:
  using operand_type = typename Kernel::operand;

  explicit kernel_check(random_source& random) : random_(random) {}

  void all() {
    INFO(std::string(F::name()) << "/" << operand_type::name() << "/" << Kernel::name() << "/"
                                << dtype_name<typename F::value_type> << "/" << A::name());
    constexpr index_t many[] = {1, 2, 3, 15, 16, 17, 31, 33, 64, 127, 129, 200};
    constexpr index_t few[] = {1, 2, 3, 4, 5, 7, 8, 9, 19};
    constexpr index_t one[] = {1};
    for (extents const wanted : {extents{1, 1}, extents{5, 7}, extents{19, 67}, extents{33, 129}, extents{131, 70}}) {
      extents const shape = tiled_by<F>(wanted);
      for (float const density : {0.0f, 0.1f, 0.5f, 1.0f}) {
        F const w = sample(shape, density);
        if constexpr (gemv_kernel<Kernel>) {
          for (index_t const n : one) layouts(w, n);
        } else if constexpr (few_columns_kernel<Kernel>) {
          for (index_t const n : few) layouts(w, n);
        } else {
          for (index_t const n : many) layouts(w, n);
        }
      }
    }
    if constexpr (!gemv_kernel<Kernel> && !few_columns_kernel<Kernel>) many_inputs();
    adversarial();
    without_elements();
    not_finite();
    threads();
  }

 private:
  static constexpr index_t some_columns = gemv_kernel<Kernel> ? 1 : 37;
  static constexpr bool wants_whole_blocks = requires(F const& w) { operand_type::suits(w); };
  static constexpr index_t block_height = [] {
    if constexpr (requires { F::block_rows; }) {
      return F::block_rows;
    } else {
      return 1;
    }
  }();

  F sample(extents shape, float density) {
    mask keep = mask_for<F>(random_, shape, density, wants_whole_blocks);
    if (shape.rows > 2) {  // an empty row, or row of blocks
      index_t const height = wants_whole_blocks ? block_height : 1;
      index_t const first = shape.rows / 2 / height * height;
      for (index_t r = first; r < first + height; ++r)
        for (index_t c = 0; c < shape.cols; ++c) keep.set(r, c, false);
    }
    if (density == 1.0f && F::accepts(mask(shape, true))) keep.fill();
    return compress<F>(random_matrix(random_, shape), keep);
  }
  static operand_type operand_of(F const& w, index_t columns) {
    machine layout = simd::machine_of<A>;
    layout.intel = layout.expands && columns % 2 == 1;  // the layouts for both sorts of processors
    return lay_out<operand_type>(w, layout, columns);
  }
  static void multiply(operand_type const& w, matrix_span<float const> x, matrix_span<float> y,
                       execution_ref exec = {}) {
    matmul_with<Kernel, A, identity, execution_ref>(w, x, y, {}, std::move(exec));
  }

  /// Aligned, without gaps and with them, unaligned with prime strides, token-major, and strided both ways: the same
  /// bits.
  void layouts(F const& format, index_t n) {
    operand_type const w = operand_of(format, n);
    INFO("M " << w.shape().rows << " K " << w.shape().cols << " N " << n << " nnz " << w.nnz());
    REQUIRE((w.shape() == format.shape() && w.nnz() == format.nnz()));
    index_t const m = w.shape().rows;
    index_t const k = w.shape().cols;
    auto const x = random_matrix(random_, {k, n});
    matrix<float> first(m, n);
    multiply(w, x.span(), first.span());
    REQUIRE(within_bound(format, x, first.span()));

    struct layout {
      index_t x_row, x_col, y_row, y_col, x_offset = 3;
    };
    layout const others[] = {{n + 7, 1, n + 13, 1}, {1, k, 1, m},     {1, k + 5, 1, m + 11},
                             {n + 2, 1, 1, m + 3},  {1, k, n + 5, 1}, {3 * n + 2, 3, 2 * n + 3, 2},
                             {round_up(n, 16) + 32, 1, n, 1, 32}};
    for (layout const& l : others) {
      INFO("strides of x " << l.x_row << ", " << l.x_col << "; of y " << l.y_row << ", " << l.y_col);
      guarded in({k, n}, l.x_row, l.x_col, l.x_offset);
      guarded out({m, n}, l.y_row, l.y_col, 5);
      in.assign(x);
      multiply(w, in.view(), out.view());
      REQUIRE(same_bits(out.view(), first));
      REQUIRE(out.intact());
    }
  }

  /// Everything in one row, in one column, and on the diagonal, over several blocks of rows and columns; and values so
  /// small that products vanish.
  void adversarial() {
    extents const shape = tiled_by<F>({140, 150});
    index_t const n = gemv_kernel<Kernel> ? 1 : 33;
    for (int const kind : {0, 1, 2}) {
      mask keep(shape);
      for (index_t r = 0; r < shape.rows; ++r)
        for (index_t c = 0; c < shape.cols; ++c) keep.set(r, c, kind == 0 ? r == 77 : kind == 1 ? c == 99 : r == c);
      if constexpr (requires { typename F::pattern_type; })
        keep &= select(random_matrix(random_, shape), typename F::pattern_type{});
      if (wants_whole_blocks) {
        mask whole(shape);
        for (index_t r = 0; r < shape.rows; ++r)
          for (index_t c = 0; c < shape.cols; ++c)
            if (keep(r, c)) keep_block(whole, r, c);
        keep = whole;
      }
      INFO((kind == 0 ? "one row" : kind == 1 ? "one column" : "the diagonal"));
      auto values = random_matrix(random_, shape);
      for (index_t i = 0; i < values.size(); i += 3) values.data()[i] *= 0x1p-126f;  // many become subnormal
      layouts(compress<F>(values, keep), n);
    }
  }
  static void keep_block(mask& keep, index_t row, index_t col) {
    if constexpr (requires { F::block_rows; }) {
      for (index_t r = row - row % F::block_rows, i = 0; i < F::block_rows; ++i)
        for (index_t c = col - col % F::block_cols, j = 0; j < F::block_cols; ++j) keep.set(r + i, c + j);
    } else {
      keep.set(row, col);
    }
  }

  void without_elements() {
    for (extents const wanted : {extents{0, 0}, extents{0, 8}, extents{16, 0}}) {
      operand_type const w = operand_of(compress<F>(matrix<float>(wanted), mask(wanted)), some_columns);
      // On a thread of its own there is no working memory yet.
      std::thread([&] {
        matrix<float> const x(wanted.cols, some_columns);
        guarded y({wanted.rows, some_columns}, some_columns + 3, 1, 1);
        multiply(w, x.span(), y.view());
        bool zero = true;
        for (index_t r = 0; r < wanted.rows; ++r)
          for (index_t c = 0; c < some_columns; ++c) zero = zero && y.view()(r, c) == 0.0f;
        if (!zero || !y.intact()) empty_failed_ = true;
      }).join();
      REQUIRE_FALSE(empty_failed_);
    }
    extents const shape = tiled_by<F>({3, 5});
    operand_type const w = operand_of(sample(shape, 0.5f), some_columns);
    guarded y({shape.rows, 0}, 4, 1, 1);
    if constexpr (!gemv_kernel<Kernel>) {
      multiply(w, matrix<float>(shape.cols, 0).span(), y.view());
      REQUIRE(y.intact());
    }
  }

  /// NaN and Inf in x reach the outputs that a stored weight connects, and no others; a stored 0 connects.
  void not_finite() {
    extents const shape = tiled_by<F>({9, 21});
    mask const keep = mask_for<F>(random_, shape, 0.5f, wants_whole_blocks);
    auto values = random_matrix(random_, shape);
    values(1, 3) = 0.0f;
    F const format = compress<F>(values, keep);
    operand_type const w = operand_of(format, some_columns);
    for (index_t const row : {index_t{3}, index_t{0}, shape.cols - 1})
      for (float const bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()}) {
        auto x = random_matrix(random_, {shape.cols, some_columns});
        x(row, some_columns / 2) = bad;
        for (bool const token_major : {false, true}) {
          matrix<float> const turned(x.span().transposed());
          matrix<float> y(shape.rows, some_columns);
          multiply(w, token_major ? turned.span().transposed() : x.span(), y.span());
          INFO("x(" << row << ", " << some_columns / 2 << ") = " << bad);
          REQUIRE(within_bound(format, x, y.span()));
        }
      }
  }

  /// More than any kernel of eight lanes or more passes over at once; several groups of rows, the last one not full.
  void many_inputs() {
    F const w = sample(tiled_by<F>({149, 4133}), 0.5f);
    for (index_t const n : {34, 63}) layouts(w, n);
  }

  /// Large enough that more than one thread takes part.
  void threads() {
    extents const shape = tiled_by<F>(gemv_kernel<Kernel> ? extents{1229, 1501} : extents{267, 131});
    F const format = sample(shape, 0.5f);
    index_t const n = gemv_kernel<Kernel> ? 1 : 131;
    operand_type const w = operand_of(format, n);
    REQUIRE(w.nnz() * n >= detail::parallel_threshold);
    auto const x = random_matrix(random_, {shape.cols, n});
    matrix<float> expected(shape.rows, n);
    multiply(w, x.span(), expected.span());
    REQUIRE(within_bound(format, x, expected.span()));
    for (int count = 1; count <= 4; ++count) {
      thread_pool pool(count);
      matrix<float> y(shape.rows, n);
      multiply(w, x.span(), y.span(), pool);
      INFO(count << " threads");
      REQUIRE(same_bits(y, expected));
    }
  }

  random_source& random_;
  bool empty_failed_ = false;
};

/// Whether this machine can run code for A.
template <class A, class Available>
bool runs_on(Available const& here) {
  if constexpr (requires { here.has(A{}); }) {
    return here.has(A{});
  } else {
    return here.best >= A::version();  // before xsimd 10
  }
}

template <class A, class T>
void check_kernels() {
  if constexpr (A::supported()) {
    if (!runs_on<A>(xsimd::available_architectures())) {
      WARN("skipped: this machine has no " << A::name());
      return;
    }
    random_source random(61);
    int kernels = 0;
    format_list<T>::for_each([&]<class F>() {
      operands_of<F>::type::for_each([&]<class O>() {
        // The layouts that every format shares see a bitmap.
        if constexpr (std::is_same_v<O, F> || std::is_same_v<F, bitmap<T>> ||
                      !is_in<O, typename operands_of<bitmap<T>>::type>) {
          auto const check = [&]<class Kernel>() {
            kernel_check<F, Kernel, A>(random).all();
            ++kernels;
          };
          kernels_of<O>::list::for_each(check);
        }
      });
    });
    CHECK(kernels >= 22);  // nine formats, two kernels each; the layouts
  } else {
    WARN("skipped: not compiled for " << A::name());
  }
}

}  // namespace pare::test
