// SPDX-License-Identifier: Apache-2.0
// Dense matmul: a register tile of rows x columns, so that each load of X serves several rows.
#pragma once

#include <pare/format/dense.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// 8 rows x 2 registers with 32 registers, 6 x 2 with 16: 2 loads of X and 8 (6) broadcasts feed 16 (12)
/// multiply-adds. With 8 sums or fewer their latency shows: 4 x 2 is a third slower than 6 x 2.
/// Pruned elements are multiplied as zeros; matmul() calls it only where X is finite, so that this changes nothing.
template <weight_value T>
struct dense_tile_spmm {
  using operand = dense<T>;
  static constexpr char const* name() noexcept { return "tile"; }
  template <class A>
  static constexpr index_t panel_vectors = 2;
  template <class A>
  static constexpr index_t tile_rows = simd::has_32_registers<A> ? 8 : 6;

  template <class A, epilogue E>
  static void run(dense<T> const& w, x_panel x, y_tile y, E const& e, index_t r0, index_t r1) noexcept;

 private:
  template <class A, index_t Rows, index_t Vectors, epilogue E>
  static void rows(dense<T> const& w, x_panel x, y_tile y, E const& e, index_t r0, index_t r1) noexcept;
  template <class A, index_t Rows, index_t Vectors, epilogue E>
  static void tile(dense<T> const& w, x_panel x, y_tile y, E const& e, index_t r) noexcept;
};

template <weight_value T>
template <class A, epilogue E>
void dense_tile_spmm<T>::run(dense<T> const& w, x_panel x, y_tile y, E const& e, index_t r0, index_t r1) noexcept {
  if (x.vectors == 2) {
    rows<A, tile_rows<A>, 2>(w, x, y, e, r0, r1);
  } else {
    rows<A, tile_rows<A>, 1>(w, x, y, e, r0, r1);
  }
}

/// Tiles of `Rows` rows, and ever smaller ones for the rows that are left.
template <weight_value T>
template <class A, index_t Rows, index_t Vectors, epilogue E>
void dense_tile_spmm<T>::rows(dense<T> const& w, x_panel x, y_tile y, E const& e, index_t r0, index_t r1) noexcept {
  index_t r = r0;
  for (; r + Rows <= r1; r += Rows) tile<A, Rows, Vectors>(w, x, y, e, r);
  if constexpr (Rows > 1) rows<A, Rows / 2, Vectors>(w, x, y, e, r, r1);
}

template <weight_value T>
template <class A, index_t Rows, index_t Vectors, epilogue E>
void dense_tile_spmm<T>::tile(dense<T> const& w, x_panel x, y_tile y, E const& e, index_t r) noexcept {
  using floats = simd::floats<A>;
  constexpr index_t lanes = simd::lanes<A>;
  floats sum[Rows][Vectors];
  for (auto& row : sum)
    for (floats& s : row) s = floats(0.0f);
  index_t const width = w.shape().cols;
  auto const multiply = [&](float const* weights, index_t stride, index_t first, index_t count) {
    float const* panel = x.data + first * Vectors * lanes;
    for (index_t k = 0; k < count; ++k, ++weights, panel += Vectors * lanes) {
      floats columns[Vectors];
      for (index_t t = 0; t < Vectors; ++t) columns[t] = floats::load_aligned(panel + t * lanes);
      for (index_t i = 0; i < Rows; ++i) {
        floats const weight(weights[i * stride]);
        for (index_t t = 0; t < Vectors; ++t) sum[i][t] = simd::multiply_add<A>(weight, columns[t], sum[i][t]);
      }
    }
  };
  if constexpr (std::is_same_v<T, float>) {
    multiply(w.values().row(r), width, 0, width);
  } else {  // widened a stretch at a time, many elements an instruction; one by one it takes longer than the products
    constexpr index_t stretch = 128;
    alignas(alignment) float wide[Rows * stretch];
    for (index_t first = 0; first < width; first += stretch) {
      index_t const count = width - first < stretch ? width - first : stretch;
      for (index_t i = 0; i < Rows; ++i) {
        T const* const row = w.values().row(r + i) + first;
        for (index_t k = 0; k < count; ++k) wide[i * stretch + k] = to_float(row[k]);
      }
      multiply(wide, stretch, first, count);
    }
  }
  for (index_t i = 0; i < Rows; ++i)
    for (index_t t = 0; t < Vectors; ++t)
      e(sum[i][t], r + i, x.first_column + t * lanes).store_unaligned(y.row(r + i) + t * lanes);
}

}  // namespace pare::inline PARE_ABI
