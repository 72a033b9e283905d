// SPDX-License-Identifier: Apache-2.0
// Convolution as a matrix product: the patch under each output pixel becomes a column, so that the weights
// (O, I, kh, kw), read as the matrix (O, I*kh*kw), make it a linear layer that every pruning method applies to.
#pragma once

#include <algorithm>

#include <pare/core/index.hpp>
#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// A square convolution of images with `height` x `width` pixels, zeros around them.
struct convolution {
  index_t height = 0;
  index_t width = 0;
  index_t kernel = 3;
  index_t stride = 1;
  index_t padding = 1;

  [[nodiscard]] constexpr index_t out_height() const noexcept { return (height + 2 * padding - kernel) / stride + 1; }
  [[nodiscard]] constexpr index_t out_width() const noexcept { return (width + 2 * padding - kernel) / stride + 1; }
  [[nodiscard]] constexpr index_t out_pixels() const noexcept { return out_height() * out_width(); }
};

/// Lays out the patches: row (channel, ky, kx), column (y, x) of `columns` is the input pixel
/// (y * stride + ky - padding, x * stride + kx - padding) of that channel, 0 outside the image.
/// image (channels, height * width), columns (channels * kernel^2, out_pixels), both with contiguous rows.
inline void im2col(matrix_span<float const> image, convolution const& c, matrix_span<float> columns) noexcept {
  // Output x reads input x * stride + shift: inside the image for x in [low, high).
  auto const low = [&](index_t shift) { return shift < 0 ? ceil_div(-shift, c.stride) : 0; };
  auto const high = [&](index_t shift, index_t in, index_t out) {
    return in <= shift ? index_t{0} : std::min(out, ceil_div(in - shift, c.stride));
  };
  index_t row = 0;
  for (index_t channel = 0; channel < image.rows; ++channel) {
    for (index_t ky = 0; ky < c.kernel; ++ky) {
      for (index_t kx = 0; kx < c.kernel; ++kx, ++row) {
        index_t const shift = kx - c.padding;
        index_t const first = std::min(low(shift), c.out_width());
        index_t const last = std::max(first, high(shift, c.width, c.out_width()));
        for (index_t y = 0; y < c.out_height(); ++y) {
          float* const to = columns.row(row) + y * c.out_width();
          index_t const in_y = y * c.stride + ky - c.padding;
          if (in_y < 0 || in_y >= c.height) {
            std::fill_n(to, c.out_width(), 0.0f);
            continue;
          }
          float const* const from = image.row(channel) + in_y * c.width + shift;
          std::fill(to, to + first, 0.0f);
          if (c.stride == 1) {
            std::copy(from + first, from + last, to + first);
          } else {
            for (index_t x = first; x < last; ++x) to[x] = from[x * c.stride];
          }
          std::fill(to + last, to + c.out_width(), 0.0f);
        }
      }
    }
  }
}

}  // namespace pare::inline PARE_ABI
