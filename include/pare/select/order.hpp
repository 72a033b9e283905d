// SPDX-License-Identifier: Apache-2.0
// The order of scores as an order of integers.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include <pare/core/version.hpp>

namespace pare::inline PARE_ABI::detail {

/// Maps a float to an integer of the same order, without gaps; -0 and +0 are both 0. Pre: not NaN.
[[nodiscard]] constexpr std::int32_t order_key(float score) noexcept {
  auto const bits = std::bit_cast<std::int32_t>(score);
  return bits < 0 ? std::numeric_limits<std::int32_t>::min() - bits : bits;
}

/// The score of a key.
[[nodiscard]] constexpr float score_of(std::int32_t key) noexcept {
  return std::bit_cast<float>(key < 0 ? std::numeric_limits<std::int32_t>::min() - key : key);
}

}  // namespace pare::inline PARE_ABI::detail
