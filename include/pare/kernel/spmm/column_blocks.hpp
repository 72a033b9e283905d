// SPDX-License-Identifier: Apache-2.0
// SpMM for blocks of rows that share their columns: the dense register tile, with the columns that are there.
#pragma once

#include <pare/kernel/operand/column_blocks.hpp>

namespace pare::inline PARE_ABI {

/// 8 rows x 2 registers or 4 x 4 with 32 registers (4 x 2 with 16, 8 rows as twice 4): 2 (4) loads of X and 8 (4)
/// broadcasts feed 16 multiply-adds, one column number serves all. Nothing is gained from blocking K: each load of X
/// serves 8 (4) rows, so it may come from the second-level cache.
template <index_t H, index_t C, weight_value T>
struct column_blocks_spmm {
  using operand = column_blocks<H, C, T>;
  static constexpr char const* name() noexcept { return "tile"; }
  template <class A>
  static constexpr index_t widest = simd::has_32_registers<A> ? 16 / H : 2;
  template <class A>
  static panel_request panels(operand const&, index_t) noexcept {
    return {.vectors = widest<A>};
  }

  template <class A, epilogue E>
  static void run(operand const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  template <class A, index_t Rows, index_t Vectors, epilogue E>
  static void tile(operand const& w, x_panel x, y_tile y, E const& e, index_t r, index_t first) noexcept;
};

template <index_t H, index_t C, weight_value T>
template <class A, epilogue E>
void column_blocks_spmm<H, C, T>::run(operand const& w, x_panel x, float*, y_tile y, E const& e, index_t r0,
                                      index_t r1) noexcept {
  constexpr index_t rows = simd::has_32_registers<A> ? H : 4;
  for (index_t r = r0; r < r1; r += H)
    for (index_t first = 0; first < H; first += rows) {
      if constexpr (widest<A> == 4) {
        if (x.vectors == 4) tile<A, rows, 4>(w, x, y, e, r, first);
        if (x.vectors == 3) tile<A, rows, 3>(w, x, y, e, r, first);
      }
      if (x.vectors == 2) tile<A, rows, 2>(w, x, y, e, r, first);
      if (x.vectors == 1) tile<A, rows, 1>(w, x, y, e, r, first);
    }
}

/// Rows [first, first + Rows) of the tile at row r.
template <index_t H, index_t C, weight_value T>
template <class A, index_t Rows, index_t Vectors, epilogue E>
void column_blocks_spmm<H, C, T>::tile(operand const& w, x_panel x, y_tile y, E const& e, index_t r,
                                       index_t first) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t stride = Vectors * lanes;
  constexpr index_t ahead = 1024 / static_cast<index_t>(sizeof(T));
  floats sum[Rows][Vectors];
  for (auto& row : sum)
    for (floats& s : row) s = floats(0.0f);
  index_t const begin = w.begin(r / H);
  index_t const end = w.end(r / H);
  std::uint32_t const* column = w.columns() + begin;
  T const* values = w.values(begin) + first;
  for (index_t b = begin; b < end; ++b, ++column) {
    float const* panel = x.data + static_cast<index_t>(*column) * stride;
    for (index_t c = 0; c < C; ++c, values += H, panel += stride) {
      __builtin_prefetch(values + ahead);
      floats inputs[Vectors];
      for (index_t t = 0; t < Vectors; ++t) inputs[t] = simd::in_register<A>(floats::load_aligned(panel + t * lanes));
      for (index_t i = 0; i < Rows; i += 2) {
        auto const [weight_0, weight_1] = simd::broadcast_pair<A>(values + i);
        for (index_t t = 0; t < Vectors; ++t) {
          sum[i][t] = simd::multiply_add<A>(weight_0, inputs[t], sum[i][t]);
          sum[i + 1][t] = simd::multiply_add<A>(weight_1, inputs[t], sum[i + 1][t]);
        }
      }
    }
  }
  for (index_t i = 0; i < Rows; ++i)
    for (index_t t = 0; t < Vectors; ++t)
      e(sum[i][t], r + first + i, x.first_column + t * lanes).store_unaligned(y.row(r + first + i) + t * lanes);
}

}  // namespace pare::inline PARE_ABI
