// SPDX-License-Identifier: Apache-2.0
// GEMV for sparse activations: only the columns of W whose input is not zero are read.
#pragma once

#include <pare/kernel/operand/column_major.hpp>

namespace pare::inline PARE_ABI {

/// Eight live columns at a time: a register of sums is loaded, takes eight multiply-adds, and is stored; eight streams
/// read faster from memory than the one of a dot product. A zero input is skipped, whatever its weights are.
/// Pruned elements are multiplied as zeros (see dense_tile_spmm).
template <weight_value T>
struct column_major_gemv {
  using operand = column_major<T>;
  static constexpr char const* name() noexcept { return "live_columns"; }

  template <class A, epilogue E>
  static void run(column_major<T> const& w, float const* x, float* y, index_t y_stride, E const& e, index_t r0,
                  index_t r1) noexcept;

 private:
  static constexpr index_t together = 8;
  static constexpr index_t tile_rows = 2048;  // sums of 8 KB stay in the first-level cache

  template <class A, index_t Count>
  static void add(column_major<T> const& w, float const* x, index_t const* live, float* sums, index_t first,
                  index_t rows) noexcept;
};

template <weight_value T>
template <class A, epilogue E>
void column_major_gemv<T>::run(column_major<T> const& w, float const* x, float* y, index_t y_stride, E const& e,
                               index_t r0, index_t r1) noexcept {
  alignas(alignment) float sums[tile_rows];
  index_t const inputs = w.shape().cols;
  for (index_t first = r0; first < r1; first += tile_rows) {
    index_t const end = first + tile_rows < r1 ? first + tile_rows : r1;
    index_t const rows = round_up(end - first, column_major<T>::block_rows());  // the operand is filled up as well
    for (index_t i = 0; i < rows; ++i) sums[i] = 0.0f;
    index_t live[together];
    index_t count = 0;
    for (index_t c = 0; c < inputs; ++c) {
      live[count] = c;
      count += x[c] != 0.0f ? 1 : 0;  // NaN is not zero
      if (count < together) continue;
      add<A, together>(w, x, live, sums, first, rows);
      count = 0;
    }
    for (index_t i = 0; i < count; ++i) add<A, 1>(w, x, live + i, sums, first, rows);
    for (index_t r = first; r < end; ++r) y[r * y_stride] = e(sums[r - first], r, 0);
  }
}

/// sums += the columns live[0 .. Count) times their inputs, for `rows` rows from `first` on.
template <weight_value T>
template <class A, index_t Count>
void column_major_gemv<T>::add(column_major<T> const& w, float const* x, index_t const* live, float* sums,
                               index_t first, index_t rows) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  T const* column[Count];
  floats input[Count];
  simd::repeat<A, Count>([&](index_t i) __attribute__((always_inline)) {
    column[i] = w.column(live[i]) + first;
    input[i] = floats(x[live[i]]);
  });
  for (index_t r = 0; r < rows; r += lanes) {
    floats sum = floats::load_aligned(sums + r);
    simd::repeat<A, Count>([&](index_t i) __attribute__((always_inline)) {
      sum = simd::multiply_add<A>(simd::load_weights<A>(column[i] + r), input[i], sum);
    });
    sum.store_aligned(sums + r);
  }
}

}  // namespace pare::inline PARE_ABI
