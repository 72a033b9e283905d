// SPDX-License-Identifier: Apache-2.0
// Some positions of a mask, ranked by a value: what updates of a mask drop and grow.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <pare/mask/mask.hpp>

namespace pare::inline PARE_ABI::detail {

/// A value and its position, row by row: lower values come first, of equal ones the lower position. Pre: not NaN.
struct ranked_position {
  float value;
  std::uint32_t position;
  friend constexpr bool operator<(ranked_position a, ranked_position b) noexcept {
    return a.value != b.value ? a.value < b.value : a.position < b.position;
  }
};

/// The positions that `among` accepts with their `value`, in the order of positions.
template <class Among, class Value>
std::vector<ranked_position> candidates(extents shape, Among among, Value value) {
  PARE_EXPECTS(shape.size() < (index_t{1} << 32), "mask update: fewer than 2^32 elements");
  std::vector<ranked_position> out;
  for (index_t r = 0; r < shape.rows; ++r)
    for (index_t c = 0; c < shape.cols; ++c) {
      if (!among(r, c)) continue;
      float const v = value(r, c);
      PARE_EXPECTS(v == v, "mask update: a weight, gradient or score is NaN, so there is no order to select by");
      out.push_back({v, static_cast<std::uint32_t>(r * shape.cols + c)});
    }
  return out;
}

/// Drops the `count` lowest of the pool from a mask. O(pool).
inline void drop_lowest(mask& m, std::vector<ranked_position>& pool, index_t count) {
  if (count > 0 && count < std::ssize(pool)) std::nth_element(pool.begin(), pool.begin() + count, pool.end());
  for (index_t i = 0; i < count; ++i) {
    auto const at = static_cast<index_t>(pool[static_cast<std::size_t>(i)].position);
    m.set(at / m.cols(), at % m.cols(), false);
  }
}

/// Adds the `count` highest of the pool to a mask. O(pool).
inline void keep_highest(mask& m, std::vector<ranked_position>& pool, index_t count) {
  if (count > 0 && count < std::ssize(pool)) std::nth_element(pool.begin(), pool.end() - count, pool.end());
  for (index_t i = std::ssize(pool) - count; i < std::ssize(pool); ++i) {
    auto const at = static_cast<index_t>(pool[static_cast<std::size_t>(i)].position);
    m.set(at / m.cols(), at % m.cols());
  }
}

}  // namespace pare::inline PARE_ABI::detail
