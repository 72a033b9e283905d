// SPDX-License-Identifier: Apache-2.0
// Packs a few columns of activations for the kernels that read the weights once for all of them.
//
// Width 2, inputs k0, k1, ...:   x(k0 .. k15, 0) x(k0 .. k15, 1) | x(k16 .. k31, 0) x(k16 .. k31, 1) | ...
#pragma once

#include <bit>

#include <pare/core/reduce.hpp>
#include <pare/kernel/kernel.hpp>
#include <pare/kernel/panels.hpp>

namespace pare::inline PARE_ABI::detail {

/// How many columns a kernel for few columns takes at a time.
inline constexpr index_t most_columns = 8;

/// Columns [first, first + 8) of x (K, N), or as many as there are, into working memory. O(K).
template <class A>
x_columns pack_columns(matrix_span<float const> x, index_t first) {
  constexpr index_t run = 16;
  index_t const count = x.cols - first < most_columns ? x.cols - first : most_columns;
  auto const width = static_cast<index_t>(std::bit_ceil(static_cast<std::size_t>(count)));
  index_t const size = round_up(x.rows, mask::word_bits) * width;
  float* const out = scratch<A>(1, size);
  for (index_t k0 = 0; k0 * width < size; k0 += run)
    for (index_t j = 0; j < width; ++j) {
      float* const to = out + k0 * width + j * run;
      index_t n = j < count ? x.rows - k0 : 0;
      n = n < 0 ? 0 : (n > run ? run : n);
      for (index_t i = 0; i < n; ++i) to[i] = x(k0 + i, first + j);
      for (index_t i = n; i < run; ++i) to[i] = 0.0f;
    }
  return {out, width, count, first, all_finite<A>(out, size)};
}

}  // namespace pare::inline PARE_ABI::detail
