// SPDX-License-Identifier: Apache-2.0
// y = epilogue(W x): shapes, layouts and threads around the kernels.
#pragma once

#include <pare/core/reduce.hpp>
#include <pare/kernel/execution.hpp>
#include <pare/kernel/kernel.hpp>
#include <pare/kernel/panels.hpp>
#include <pare/kernel/registry.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

/// Below this many multiply-adds a second thread costs more than it brings.
inline constexpr index_t parallel_threshold = 200'000;

/// Rows [0, rows) cut into at most `parts` runs of about equal weight (stored elements, plus one for the row itself).
/// Writes parts + 1 ends and returns the number of runs.
template <class Operand>
index_t split_rows(Operand const& w, index_t parts, index_t* ends) {
  index_t const rows = w.shape().rows;
  index_t const total = w.nnz() + rows;
  index_t part = 0;
  index_t weight = 0;
  ends[0] = 0;
  for (index_t r = 0; r < rows && part + 1 < parts; ++r) {
    weight += w.row_nnz(r) + 1;
    if (weight * parts >= total * (part + 1)) ends[++part] = r + 1;
  }
  if (ends[part] < rows) ends[++part] = rows;
  return part;
}

/// Rows [r0, r1) of one panel. Where Y cannot take whole registers (token-major, last columns) through a small tile.
template <class Kernel, class A, epilogue E>
void multiply_panel(typename Kernel::operand const& w, x_panel x, index_t count, matrix_span<float> y, E const& e,
                    index_t r0, index_t r1) noexcept {
  index_t const width = x.vectors * simd::lanes<A>;
  if (y.col_stride == 1 && count == width) {
    Kernel::template run<A>(w, x, {y.data + x.first_column, y.row_stride, 0}, e, r0, r1);
    return;
  }
  constexpr index_t tile_rows = 24;  // whole register tiles of 6 and of 8 rows
  alignas(alignment) float tile[tile_rows * Kernel::template panel_vectors<A> * simd::lanes<A>];
  for (index_t r = r0; r < r1; r += tile_rows) {
    index_t const end = r + tile_rows < r1 ? r + tile_rows : r1;
    Kernel::template run<A>(w, x, {tile, width, r}, e, r, end);
    for (index_t j = 0; j < count; ++j)
      for (index_t i = r; i < end; ++i) y(i, x.first_column + j) = tile[(i - r) * width + j];
  }
}

/// Some rows at a time for all panels, so that their weights are read from memory once and then from the caches.
template <class Kernel, class A, class Operand, epilogue E>
void multiply_rows(Operand const& w, float const* packed, index_t columns, matrix_span<float> y, E const& e, index_t r0,
                   index_t r1) {
  constexpr index_t rows_at_a_time = 48;  // whole register tiles of 6 and of 8 rows
  index_t const wide = Kernel::template panel_vectors<A> * simd::lanes<A>;
  for (index_t r = r0; r < r1; r += rows_at_a_time) {
    index_t const end = r + rows_at_a_time < r1 ? r + rows_at_a_time : r1;
    for (index_t n = 0; n < columns; n += wide) {
      index_t const count = columns - n < wide ? columns - n : wide;
      multiply_panel<Kernel, A>(w, {packed + n * w.shape().cols, ceil_div(count, simd::lanes<A>), n}, count, y, e, r,
                                end);
    }
  }
}

/// Dense operands multiply their pruned zeros, which is right only for finite x: 0 * Inf is NaN. Where x is not finite
/// the format's own order is followed instead.
template <class Operand>
[[nodiscard]] bool needs_finite_input(Operand const& w) noexcept {
  if constexpr (requires { w.keeps_all(); }) {
    return !w.keeps_all();
  } else {
    return false;
  }
}

}  // namespace detail

/// The multiplication with one given kernel: y = e(W x). See `matmul` for shapes and errors.
template <class Kernel, class A = simd::default_arch, epilogue E = identity, execution X = sequential>
void matmul_with(typename Kernel::operand const& w, matrix_span<float const> x, matrix_span<float> y, E const& e = {},
                 X&& exec = X{}) {
  index_t const rows = w.shape().rows;
  index_t const cols = w.shape().cols;
  PARE_EXPECTS(x.rows == cols,
               "matmul: x must have one row per input of W (pass token-major activations as .transposed())");
  PARE_EXPECTS(y.rows == rows, "matmul: y must have one row per output of W");
  PARE_EXPECTS(x.cols == y.cols, "matmul: x and y must have equally many columns");
  if (rows == 0 || y.cols == 0) return;

  index_t const threads = w.nnz() * y.cols < detail::parallel_threshold ? 1 : exec.concurrency();
  constexpr index_t most_parts = 256;
  index_t ends[most_parts + 1];
  // Four runs a thread even out what the weights do not show.
  index_t const wanted = threads == 1 ? 1 : threads * 4;
  index_t const parts = detail::split_rows(w, wanted < most_parts ? wanted : most_parts, ends);

  if constexpr (gemv_kernel<Kernel>) {
    PARE_EXPECTS(y.cols == 1, "matmul: a GEMV kernel takes one column");
    float const* const vector = detail::pack_vector(x, detail::scratch(1, cols));
    bool const masked_product_is_safe = !detail::needs_finite_input(w) || all_finite(vector, cols);
    auto const run = [&](index_t part) {
      index_t const r0 = ends[part];
      index_t const r1 = ends[part + 1];
      if (!masked_product_is_safe) {
        generic_gemv<typename Kernel::operand>::template run<A>(w, vector, y.data, y.row_stride, e, r0, r1);
      } else {
        Kernel::template run<A>(w, vector, y.data, y.row_stride, e, r0, r1);
      }
    };
    if (threads == 1) {
      for (index_t p = 0; p < parts; ++p) run(p);
    } else {
      exec.parallel(parts, run);
    }
  } else {
    constexpr index_t lanes = simd::lanes<A>;
    constexpr index_t wide = Kernel::template panel_vectors<A> * lanes;
    index_t const panels = ceil_div(y.cols, wide);
    float* const packed = detail::scratch(0, cols * round_up(y.cols, lanes));
    bool masked_product_is_safe = true;
    auto const pack = [&](index_t p) {
      index_t const first = p * wide;
      index_t const count = y.cols - first < wide ? y.cols - first : wide;
      detail::pack_panel(x, first, count, round_up(count, lanes), packed + first * cols);
    };
    auto const check = [&] {
      masked_product_is_safe = !detail::needs_finite_input(w) || all_finite(packed, cols * round_up(y.cols, lanes));
    };
    auto const run = [&](index_t part) {
      if (!masked_product_is_safe) {
        // The same panels serve: both kernels see [K][vectors] floats.
        for (index_t n = 0; n < y.cols; n += wide) {
          index_t const count = y.cols - n < wide ? y.cols - n : wide;
          detail::multiply_panel<generic_spmm<typename Kernel::operand>, A>(
              w, {packed + n * cols, ceil_div(count, lanes), n}, count, y, e, ends[part], ends[part + 1]);
        }
      } else {
        detail::multiply_rows<Kernel, A>(w, packed, y.cols, y, e, ends[part], ends[part + 1]);
      }
    };
    if (threads == 1) {
      for (index_t p = 0; p < panels; ++p) pack(p);
      check();
      for (index_t p = 0; p < parts; ++p) run(p);
    } else {
      exec.parallel(panels, pack);
      check();
      exec.parallel(parts, run);
    }
  }
}

/// y = e(W x) with the operand's kernels: the one for a single column where N = 1, else the one for many.
///
/// Shapes:     W (M, K); x (K, N), any strides (token-major activations (N, K) as `x.transposed()`); y (M, N), any
///             strides, must not overlap x.
/// Pre:        extents agree (contract).
/// Complexity: 2 nnz N flops; the first call of a size on a thread allocates K N floats of scratch, later ones nothing.
/// Numerics:   float accumulation, in column order for many columns, in as many partial sums as lanes for one; only
/// stored elements are multiplied, so Inf or NaN in x reaches only
///             the outputs that a stored weight connects. Bitwise equal for any execution and any layout of x and y.
/// Threads:    rows are shared out by stored elements; small products run on the calling thread.
template <class A = simd::default_arch, class Operand, matrix_view X, matrix_view Y, epilogue E = identity,
          execution Exec = sequential>
  requires sparse_format<Operand>
void matmul(Operand const& w, X const& x, Y&& y, E const& e = {}, Exec&& exec = Exec{}) {
  static_assert(std::is_same_v<element_t<X>, float> && std::is_same_v<element_t<Y>, float>,
                "pare::matmul: activations are float; weights may be float or bf16");
  auto const in = as_span(x);
  auto const out = as_mutable_span(y);
  if (in.cols == 1) {
    matmul_with<typename kernels_of<Operand>::gemv, A>(w, in, out, e, exec);
  } else {
    matmul_with<typename kernels_of<Operand>::spmm, A>(w, in, out, e, exec);
  }
}

}  // namespace pare::inline PARE_ABI
