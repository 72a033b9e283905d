// SPDX-License-Identifier: Apache-2.0
// Packs activations of either layout into the panels that SpMM kernels read.
#pragma once

#include <cstring>
#include <new>

#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI::detail {

/// Working memory of one thread; grows to the largest size asked for and stays. Slot 0: packed X, slot 1: a vector x.
inline float* scratch(int slot, index_t floats) {
  struct buffer {
    float* data = nullptr;
    index_t size = 0;
    ~buffer() { ::operator delete (data, std::align_val_t{alignment}); }
  };
  thread_local buffer buffers[2];
  buffer& b = buffers[slot];
  if (floats > b.size) {
    ::operator delete (b.data, std::align_val_t{alignment});
    b.data = nullptr;
    b.data = static_cast<float*>(
        ::operator new (static_cast<std::size_t>(floats) * sizeof(float), std::align_val_t{alignment}));
    b.size = floats;
  }
  return b.data;
}

/// Columns [first, first + count) of x (K, N) into out[K][width], zeros behind them. count <= width. O(K width).
inline void pack_panel(matrix_span<float const> x, index_t first, index_t count, index_t width, float* out) noexcept {
  if (x.col_stride == 1) {
    for (index_t k = 0; k < x.rows; ++k, out += width) {
      std::memcpy(out, x.row(k) + first, static_cast<std::size_t>(count) * sizeof(float));
      for (index_t j = count; j < width; ++j) out[j] = 0.0f;
    }
    return;
  }
  // Token-major: each column of x is a run in memory. Small square blocks keep both sides in cache lines.
  constexpr index_t block = 16;
  for (index_t k0 = 0; k0 < x.rows; k0 += block) {
    index_t const k1 = k0 + block < x.rows ? k0 + block : x.rows;
    for (index_t j = 0; j < count; ++j) {
      float const* const column = x.data + (first + j) * x.col_stride;
      for (index_t k = k0; k < k1; ++k) out[k * width + j] = column[k * x.row_stride];
    }
    for (index_t k = k0; k < k1; ++k)
      for (index_t j = count; j < width; ++j) out[k * width + j] = 0.0f;
  }
}

/// A vector x (K, 1) as consecutive floats, copied to `out` only where it is strided.
inline float const* pack_vector(matrix_span<float const> x, float* out) noexcept {
  if (x.row_stride == 1) return x.data;
  for (index_t k = 0; k < x.rows; ++k) out[k] = x(k, 0);
  return out;
}

}  // namespace pare::inline PARE_ABI::detail
