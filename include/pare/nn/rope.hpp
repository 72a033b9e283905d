// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (Su et al. 2021), half-split: the pair (i, i + D/2) of a head of size D is turned by
// position * theta^(-2i/D).
#pragma once

#include <cmath>

#include <pare/core/index.hpp>
#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// The cosines and sines of all positions up to a limit.
class rope {
 public:
  /// Pre: head_size even. O(positions * head_size), angles computed in double.
  rope(index_t positions, index_t head_size, double theta)
      : cosine_(positions, head_size / 2), sine_(positions, head_size / 2) {
    for (index_t i = 0; i < cosine_.cols(); ++i) {
      double const frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_size));
      for (index_t p = 0; p < positions; ++p) {
        cosine_(p, i) = static_cast<float>(std::cos(static_cast<double>(p) * frequency));
        sine_(p, i) = static_cast<float>(std::sin(static_cast<double>(p) * frequency));
      }
    }
  }

  /// Turns `heads` heads, stored one after the other, in place.
  void rotate(float* x, index_t heads, index_t position) const noexcept { turn(x, heads, position, 1.0f); }
  /// The inverse of rotate, which is also its transpose: what a gradient goes through.
  void rotate_back(float* x, index_t heads, index_t position) const noexcept { turn(x, heads, position, -1.0f); }

 private:
  void turn(float* x, index_t heads, index_t position, float direction) const noexcept {
    index_t const half = cosine_.cols();
    float const* const c = cosine_.row(position);
    float const* const s = sine_.row(position);
    for (index_t h = 0; h < heads; ++h) {
      float* const low = x + 2 * h * half;
      float* const high = low + half;
      for (index_t i = 0; i < half; ++i) {
        float const a = low[i];
        float const b = high[i];
        low[i] = a * c[i] - b * (direction * s[i]);
        high[i] = b * c[i] + a * (direction * s[i]);
      }
    }
  }

  matrix<float> cosine_;  // (positions, head_size / 2)
  matrix<float> sine_;
};

}  // namespace pare::inline PARE_ABI
