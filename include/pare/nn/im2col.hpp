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

namespace detail {
struct column_range {
  index_t first, last;
};
/// Output x reads input x * stride + shift: inside the image for x in [first, last).
[[nodiscard]] inline column_range inside_image(index_t shift, convolution const& c) noexcept {
  index_t const low = shift < 0 ? ceil_div(-shift, c.stride) : 0;
  index_t const high = c.width <= shift ? index_t{0} : std::min(c.out_width(), ceil_div(c.width - shift, c.stride));
  index_t const first = std::min(low, c.out_width());
  return {first, std::max(first, high)};
}
}  // namespace detail

/// Lays out the patches: row (channel, ky, kx), column (y, x) of `columns` is the input pixel
/// (y * stride + ky - padding, x * stride + kx - padding) of that channel, 0 outside the image.
/// image (channels, height * width), columns (channels * kernel^2, out_pixels), both with contiguous rows.
inline void im2col(matrix_span<float const> image, convolution const& c, matrix_span<float> columns) noexcept {
  index_t row = 0;
  for (index_t channel = 0; channel < image.rows; ++channel) {
    for (index_t ky = 0; ky < c.kernel; ++ky) {
      for (index_t kx = 0; kx < c.kernel; ++kx, ++row) {
        index_t const shift = kx - c.padding;
        auto const [first, last] = detail::inside_image(shift, c);
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

/// Adds the columns back to the pixels that they were read from, the transpose of im2col: a gradient by the patches
/// becomes one by the image. Shapes as there.
inline void col2im(matrix_span<float const> columns, convolution const& c, matrix_span<float> image) noexcept {
  index_t row = 0;
  for (index_t channel = 0; channel < image.rows; ++channel)
    for (index_t ky = 0; ky < c.kernel; ++ky)
      for (index_t kx = 0; kx < c.kernel; ++kx, ++row) {
        index_t const shift = kx - c.padding;
        auto const [first, last] = detail::inside_image(shift, c);
        for (index_t y = 0; y < c.out_height(); ++y) {
          index_t const in_y = y * c.stride + ky - c.padding;
          if (in_y < 0 || in_y >= c.height) continue;
          float const* const from = columns.row(row) + y * c.out_width();
          float* const to = image.row(channel) + in_y * c.width + shift;
          for (index_t x = first; x < last; ++x) to[x * c.stride] += from[x];
        }
      }
}

}  // namespace pare::inline PARE_ABI
