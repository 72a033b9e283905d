// SPDX-License-Identifier: Apache-2.0
// SpMM for blocks of rows that share their columns: the dense register tile, with the columns that are there.
#pragma once

#include <pare/kernel/operand/column_blocks.hpp>

namespace pare::inline PARE_ABI {

/// 4 rows x 4 registers of columns with 32 registers, 4 x 2 with 16: 4 (2) loads of X, one load and four shuffles of
/// weights feed 16 (8) multiply-adds; one column number serves R rows. Nothing is gained from blocking K: each load of
/// X serves four rows, so it may come from the second-level cache. 8 rows x 2 registers, as g++ 12 compiles them,
/// are slower (at best 78 against 86 % of the peak for 16 x 1 at 70 %): every number brings half as much work.
template <index_t R, index_t C, weight_value T>
struct column_blocks_spmm {
  using operand = column_blocks<R, C, T>;
  static constexpr char const* name() noexcept { return "tile"; }
  template <class A>
  static panel_request panels(operand const&, index_t) noexcept {
    return {.vectors = simd::has_32_registers<A> ? 4 : 2};
  }

  template <class A, epilogue E>
  static void run(operand const& w, x_panel x, float* sums, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  template <class A, index_t Vectors, epilogue E>
  static void tile(operand const& w, x_panel x, y_tile y, E const& e, index_t r, index_t first) noexcept;
};

template <index_t R, index_t C, weight_value T>
template <class A, epilogue E>
void column_blocks_spmm<R, C, T>::run(operand const& w, x_panel x, float*, y_tile y, E const& e, index_t r0,
                                      index_t r1) noexcept {
  for (index_t r = r0; r < r1; r += R)
    for (index_t first = 0; first < R; first += operand::tile_rows) {
      if constexpr (simd::has_32_registers<A>) {
        if (x.vectors == 4) tile<A, 4>(w, x, y, e, r, first);
        if (x.vectors == 3) tile<A, 3>(w, x, y, e, r, first);
      }
      if (x.vectors == 2) tile<A, 2>(w, x, y, e, r, first);
      if (x.vectors == 1) tile<A, 1>(w, x, y, e, r, first);
    }
}

/// The four rows from r + first on.
template <index_t R, index_t C, weight_value T>
template <class A, index_t Vectors, epilogue E>
void column_blocks_spmm<R, C, T>::tile(operand const& w, x_panel x, y_tile y, E const& e, index_t r,
                                       index_t first) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  constexpr index_t stride = Vectors * lanes;
  constexpr index_t height = operand::tile_rows;
  constexpr index_t ahead = 1024 / static_cast<index_t>(sizeof(T));
  floats sum[height][Vectors];
  for (auto& row : sum)
    for (floats& s : row) s = floats(0.0f);
  std::uint32_t const* column = w.columns(r / R);
  T const* values = w.values(r / R, first);
  // Three blocks ahead: an address that comes straight from a load costs cycles (see sliced_ell_spmm).
  index_t next_0 = column[0];
  index_t next_1 = column[1];
  index_t next_2 = column[2];
  for (index_t n = w.blocks(r / R); n > 0; --n, ++column) {
    float const* panel = x.data + next_0 * stride;
    next_0 = next_1;
    next_1 = next_2;
    next_2 = column[3];
    for (index_t c = 0; c < C; ++c, values += height, panel += stride) {
      __builtin_prefetch(values + ahead);
      simd::weight_four<A> const weight = simd::broadcast_four<A>(values);
      for (index_t t = 0; t < Vectors; ++t) {
        floats const input = simd::in_register<A>(floats::load_aligned(panel + t * lanes));
        for (index_t i = 0; i < height; ++i) sum[i][t] = simd::multiply_add<A>(weight.row[i], input, sum[i][t]);
      }
    }
  }
  for (index_t i = 0; i < height; ++i)
    for (index_t t = 0; t < Vectors; ++t)
      e(sum[i][t], r + first + i, x.first_column + t * lanes).store_unaligned(y.row(r + first + i) + t * lanes);
}

}  // namespace pare::inline PARE_ABI
