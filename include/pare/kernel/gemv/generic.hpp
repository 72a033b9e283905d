// SPDX-License-Identifier: Apache-2.0
// GEMV for every format and every architecture: gathers a register of (weight, x) pairs at a time.
#pragma once

#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// 2 nnz flops. The i-th stored element of a row goes to lane i % lanes; the lanes are summed at the end of the row.
template <class F>
struct generic_gemv {
  using operand = F;
  static constexpr char const* name() noexcept { return "generic"; }

  template <class A, epilogue E>
  static void run(F const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0, index_t r1) noexcept;
};

template <class F>
template <class A, epilogue E>
void generic_gemv<F>::run(F const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                          index_t r1) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  for (index_t r = r0; r < r1; ++r) {
    alignas(alignment) float weights[lanes];
    alignas(alignment) float inputs[lanes];
    floats sum(0.0f);
    index_t n = 0;
    w.for_each_in_row(r, [&](index_t c, typename F::value_type value) {
      weights[n] = to_float(value);
      inputs[n] = x[c];
      if (++n == lanes) {
        sum = simd::multiply_add<A>(floats::load_aligned(weights), floats::load_aligned(inputs), sum);
        n = 0;
      }
    });
    if (n > 0) {
      for (; n < lanes; ++n) weights[n] = inputs[n] = 0.0f;
      sum = simd::multiply_add<A>(floats::load_aligned(weights), floats::load_aligned(inputs), sum);
    }
    y[r * y_stride] = e(simd::sum<A>(sum), r, 0);
  }
}

}  // namespace pare::inline PARE_ABI
