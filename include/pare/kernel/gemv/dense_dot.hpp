// SPDX-License-Identifier: Apache-2.0
// Dense GEMV: the dot product of a row with x, four accumulators deep.
#pragma once

#include <pare/format/dense.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// Reads W once: bound by the memory. Pruned elements are multiplied as zeros (see dense_tile_spmm).
template <weight_value T>
struct dense_dot_gemv {
  using operand = dense<T>;
  static constexpr char const* name() noexcept { return "dot"; }

  template <class A, epilogue E>
  static void run(dense<T> const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                  index_t r1) noexcept;

 private:
  template <class A>
  static simd::floats<A> load(T const* p) noexcept;
};

template <weight_value T>
template <class A>
simd::floats<A> dense_dot_gemv<T>::load(T const* p) noexcept {
  if constexpr (std::is_same_v<T, float>) {
    return simd::floats<A>::load_unaligned(p);
  } else {  // compilers turn this loop into a widening load and a shift
    alignas(alignment) float wide[simd::lanes<A>];
    for (index_t i = 0; i < simd::lanes<A>; ++i) wide[i] = to_float(p[i]);
    return simd::floats<A>::load_aligned(wide);
  }
}

template <weight_value T>
template <class A, epilogue E>
void dense_dot_gemv<T>::run(dense<T> const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                            index_t r1) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  index_t const width = w.shape().cols;
  for (index_t r = r0; r < r1; ++r) {
    T const* row = w.values().row(r);
    floats sum[4];
    for (floats& s : sum) s = floats(0.0f);
    index_t k = 0;
    for (; k + 4 * lanes <= width; k += 4 * lanes)
      for (index_t t = 0; t < 4; ++t)
        sum[t] = simd::multiply_add<A>(load<A>(row + k + t * lanes), floats::load_unaligned(x + k + t * lanes), sum[t]);
    for (; k + lanes <= width; k += lanes)
      sum[0] = simd::multiply_add<A>(load<A>(row + k), floats::load_unaligned(x + k), sum[0]);
    float total = simd::sum<A>((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; k < width; ++k) total += to_float(row[k]) * x[k];
    y[r * y_stride] = e(total, r, 0);
  }
}

}  // namespace pare::inline PARE_ABI
