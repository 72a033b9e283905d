// SPDX-License-Identifier: Apache-2.0
// SpMM for every format and every architecture: one row at a time, up to eight registers of columns.
#pragma once

#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// For each stored element: one broadcast weight, then a load and a multiply-add per register of columns. 2 nnz N
/// flops. It reads X from wherever the panel fits; kernels that block for the first-level cache are faster.
template <class F>
struct generic_spmm {
  using operand = F;
  static constexpr char const* name() noexcept { return "generic"; }
  template <class A>
  static panel_request panels(F const&) noexcept {
    return {.vectors = 8, .any_stride = true};  // with the broadcast they fit 16 registers
  }

  template <class A, epilogue E>
  static void run(F const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  template <class A, index_t Vectors, epilogue E>
  static void columns(F const& w, x_panel x, index_t first, y_tile y, E const& e, index_t r0, index_t r1) noexcept;
};

template <class F>
template <class A, epilogue E>
void generic_spmm<F>::run(F const& w, x_panel x, float*, y_tile y, E const& e, index_t r0, index_t r1) noexcept {
  index_t v = 0;
  for (; v + 8 <= x.vectors; v += 8) columns<A, 8>(w, x, v, y, e, r0, r1);
  if (v + 4 <= x.vectors) columns<A, 4>(w, x, v, y, e, r0, r1), v += 4;
  if (v + 2 <= x.vectors) columns<A, 2>(w, x, v, y, e, r0, r1), v += 2;
  if (v + 1 <= x.vectors) columns<A, 1>(w, x, v, y, e, r0, r1);
}

// flatten: clang leaves the walk over a row of blocks out of line, and then the sums live in memory.
template <class F>
template <class A, index_t Vectors, epilogue E>
[[gnu::flatten]] void generic_spmm<F>::columns(F const& w, x_panel x, index_t first, y_tile y, E const& e, index_t r0,
                                               index_t r1) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  float const* const panel = x.data + first * lanes;
  for (index_t r = r0; r < r1; ++r) {
    floats sum[Vectors];
    simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) { sum[t] = floats(0.0f); });
    w.for_each_in_row(
        r, [&](index_t c, typename F::value_type value) __attribute__((always_inline)) {
          floats const weight(to_float(value));
          float const* const row = panel + c * x.stride;
          simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
            sum[t] = simd::multiply_add<A>(weight, floats::load_aligned(row + t * lanes), sum[t]);
          });
        });
    float* const out = y.row(r) + first * lanes;
    simd::repeat<A, Vectors>([&](index_t t) __attribute__((always_inline)) {
      e(sum[t], r, x.first_column + (first + t) * lanes).store_unaligned(out + t * lanes);
    });
  }
}

}  // namespace pare::inline PARE_ABI
