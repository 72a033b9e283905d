// SPDX-License-Identifier: Apache-2.0
// Packs activations of either layout into the panels that SpMM kernels read, and unpacks what they computed.
//
// A panel holds some columns of X: one row of `width` floats for each of the K rows. Kernels that block K want a row of
// zeros before every block and after the last one, for padding to point at (so that it multiplies no real activation):
//
//   block = 3, K = 5:   0 | k0 k1 k2 | 0 | k3 k4 - | 0        (- is zeros as well)
#pragma once

#include <cstring>

#include <pare/core/matrix.hpp>
#include <pare/kernel/transpose.hpp>

namespace pare::inline PARE_ABI::detail {

/// Working memory of one thread; grows to the largest size asked for and stays. Slot 0: packed X, slot 1: a vector x, a
/// few columns or their codes, slot 2: a tile of Y, slot 3: a product that waits for its epilogue. (A: see
/// dispatch.hpp.)
/// It ends with the thread: destructors of static and thread_local objects must not multiply.
template <class A>
float* scratch(int slot, index_t floats) {
  struct buffer {
    float* data = nullptr;
    index_t size = 0;
    [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(size) * sizeof(float); }
    ~buffer() { deallocate(data, bytes()); }
  };
  thread_local buffer buffers[4];
  buffer& b = buffers[slot];
  if (floats > b.size) {
    deallocate(b.data, b.bytes());
    b = {};
    b.data = static_cast<float*>(allocate(static_cast<std::size_t>(floats) * sizeof(float)));
    b.size = floats;
  }
  return b.data;
}

/// Rows of a panel for K inputs in blocks of `block` (0: not blocked).
[[nodiscard]] constexpr index_t panel_rows(index_t inputs, index_t block) noexcept {
  return block == 0 ? inputs : ceil_div(inputs, block) * (block + 1) + 1;
}

/// The row of a panel that holds input k.
[[nodiscard]] constexpr index_t panel_row(index_t k, index_t block) noexcept {
  return block == 0 ? k : k + k / block + 1;
}

/// Where the inputs of a panel may be cut, so that several threads can pack it: at multiples of this.
[[nodiscard]] constexpr index_t panel_step(index_t block) noexcept { return block == 0 ? 64 : block; }

/// Columns [first, first + count) and rows [k0, k1) of x (K, N) into a panel `width` floats wide, zeros behind them.
/// count <= width; block is a multiple of 16; k0 and k1 are multiples of panel_step(block), or k1 = K.
/// O((k1 - k0) width).
template <class A>
void pack_panel(matrix_span<float const> x, index_t k0, index_t k1, index_t first, index_t count, index_t width,
                index_t block, float* out) noexcept {
  auto const clear = [&](index_t row, index_t column, index_t n) {
    if (n > 0) std::memset(out + row * width + column, 0, static_cast<std::size_t>(n) * sizeof(float));
  };
  if (block != 0) {
    for (index_t k = k0; k < k1; k += block) clear(panel_row(k, block) - 1, 0, width);
    index_t const rows = k1 < x.rows ? 0 : panel_rows(x.rows, block);
    for (index_t row = x.rows == 0 ? 0 : panel_row(x.rows - 1, block) + 1; row < rows; ++row) clear(row, 0, width);
  }
  if (x.col_stride == 1) {
    for (index_t k = k0; k < k1; ++k) {
      index_t const row = panel_row(k, block);
      std::memcpy(out + row * width, x.row(k) + first, static_cast<std::size_t>(count) * sizeof(float));
      clear(row, count, width - count);
    }
    return;
  }
  // Token-major: each column of x is a run in memory. Some columns at a time, so that each run is read in order.
  constexpr index_t side = transpose_side<A>;
  static constexpr float zeros[side] = {};
  bool const whole = x.row_stride == 1 && width % side == 0;
  index_t const turned = whole ? k0 + (k1 - k0) / side * side : k0;
  for (index_t j0 = 0; j0 < width && turned > k0; j0 += side) {
    float const* rows[side];
    for (index_t j = 0; j < side; ++j) rows[j] = j0 + j < count ? x.data + (first + j0 + j) * x.col_stride + k0 : zeros;
    for (index_t k = k0; k < turned; k += side) {
      transpose_block<A>(rows, out + panel_row(k, block) * width + j0, width);
      for (index_t j = 0; j < side && j0 + j < count; ++j) rows[j] += side;
    }
  }
  // The last rows, and strides both ways: small blocks stay cached.
  for (index_t from = turned; from < k1; from += side) {
    index_t const to = from + side < k1 ? from + side : k1;
    for (index_t j = 0; j < count; ++j)
      for (index_t k = from; k < to; ++k) out[panel_row(k, block) * width + j] = x(k, first + j);
    for (index_t k = from; k < to; ++k) clear(panel_row(k, block), count, width - count);
  }
}

/// y(i, first + j) = tile[i * width + j] for i < y.rows, j < count.
template <class A>
void unpack_tile(float const* tile, index_t width, index_t count, matrix_span<float> y, index_t first) noexcept {
  if (y.col_stride == 1) {
    for (index_t i = 0; i < y.rows; ++i)
      std::memcpy(y.row(i) + first, tile + i * width, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  constexpr index_t side = transpose_side<A>;
  index_t const turned = y.row_stride == 1 ? y.rows / side * side : 0;
  index_t j0 = 0;
  for (; j0 + side <= count && turned > 0; j0 += side)
    for (index_t i0 = 0; i0 < turned; i0 += side) {
      float const* rows[side];
      for (index_t i = 0; i < side; ++i) rows[i] = tile + (i0 + i) * width + j0;
      transpose_block<A>(rows, &y(i0, first + j0), y.col_stride);
    }
  for (index_t j = 0; j < count; ++j)
    for (index_t i = j < j0 ? turned : 0; i < y.rows; ++i) y(i, first + j) = tile[i * width + j];
}

/// A vector x (K, 1) as consecutive floats, copied to `out` only where it is strided.
template <class A>
float const* pack_vector(matrix_span<float const> x, float* out) noexcept {
  if (x.row_stride == 1) return x.data;
  for (index_t k = 0; k < x.rows; ++k) out[k] = x(k, 0);
  return out;
}

}  // namespace pare::inline PARE_ABI::detail
