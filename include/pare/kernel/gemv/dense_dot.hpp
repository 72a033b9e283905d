// SPDX-License-Identifier: Apache-2.0
// Dense GEMV: the dot product of a row with x, eight accumulators deep.
#pragma once

#include <pare/format/dense.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// Reads W once: bound by the memory; beyond the caches at 95 % (float) and 90 to 100 % (bf16) of what a loop of loads
/// reads. Prefetching 8 KB ahead brings bf16 from 85 to 95 % and takes 5 % from float; four accumulators are 3 %
/// slower. Pruned elements are multiplied as zeros (see dense_tile_spmm).
template <weight_value T>
struct dense_dot_gemv {
  using operand = dense<T>;
  static constexpr char const* name() noexcept { return "dot"; }

  template <class A, epilogue E>
  static void run(dense<T> const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                  index_t r1) noexcept;
};

template <weight_value T>
template <class A, epilogue E>
void dense_dot_gemv<T>::run(dense<T> const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                            index_t r1) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
  constexpr bool prefetches = std::is_same_v<T, bf16> && line >= lanes;
  index_t const width = w.shape().cols;
  for (index_t r = r0; r < r1; ++r) {
    T const* row = w.values().row(r);
    floats sum[8];
    for (floats& s : sum) s = floats(0.0f);
    index_t k = 0;
    for (; k + 8 * lanes <= width; k += 8 * lanes)
      for (index_t t = 0; t < 8; ++t) {
        if (prefetches && t % (line / lanes) == 0) __builtin_prefetch(row + k + t * lanes + 128 * line);
        sum[t] = simd::multiply_add<A>(simd::load_weights<A>(row + k + t * lanes),
                                       floats::load_unaligned(x + k + t * lanes), sum[t]);
      }
    for (; k + lanes <= width; k += lanes)
      sum[0] = simd::multiply_add<A>(simd::load_weights<A>(row + k), floats::load_unaligned(x + k), sum[0]);
    float total = simd::sum<A>(((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
    for (; k < width; ++k) total += to_float(row[k]) * x[k];
    y[r * y_stride] = e(total, r, 0);
  }
}

}  // namespace pare::inline PARE_ABI
