// SPDX-License-Identifier: Apache-2.0
// The one order in which units are removed: lower score first, ties by lower position.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include <pare/core/index.hpp>

namespace pare::inline PARE_ABI::detail {

/// A score and the position of its unit as one comparable pair; the position breaks ties, so the order is total.
struct ranked {
  std::uint32_t score;
  std::uint32_t position;
  friend constexpr bool operator<(ranked a, ranked b) noexcept {
    return a.score != b.score ? a.score < b.score : a.position < b.position;
  }
};

/// Maps a float to an integer of the same order; -0 and +0 are equal. Pre: not NaN.
[[nodiscard]] constexpr std::uint32_t order_key(float score) noexcept {
  auto const u = std::bit_cast<std::uint32_t>(score + 0.0f);
  return (u & 0x80000000u) != 0 ? ~u : u | 0x80000000u;
}

/// Moves the `removed` lowest units to the front of `pool`, in no order. O(pool).
inline void partition_lowest(std::vector<ranked>& pool, index_t removed) {
  if (removed > 0 && removed < static_cast<index_t>(pool.size()))
    std::nth_element(pool.begin(), pool.begin() + removed, pool.end());
}

}  // namespace pare::inline PARE_ABI::detail
