// SPDX-License-Identifier: Apache-2.0
// Some positions of a mask, ranked by a value: what updates of a mask drop and grow.
#pragma once

#include <cstdint>
#include <vector>

#include <pare/mask/mask.hpp>
#include <pare/select/order.hpp>

namespace pare::inline PARE_ABI::detail {

/// The positions that `among` accepts with their `value`, in the order of positions.
template <class Among, class Value>
std::vector<ranked> candidates(extents shape, Among among, Value value) {
  PARE_EXPECTS(shape.size() < (index_t{1} << 32), "mask update: fewer than 2^32 elements");
  std::vector<ranked> out;
  for (index_t r = 0; r < shape.rows; ++r)
    for (index_t c = 0; c < shape.cols; ++c) {
      if (!among(r, c)) continue;
      float const v = value(r, c);
      PARE_EXPECTS(v == v, "mask update: a weight, gradient or score is NaN, so there is no order to select by");
      out.push_back({order_key(v), static_cast<std::uint32_t>(r * shape.cols + c)});
    }
  return out;
}

/// Sets the `count` lowest of the pool, of equal ones those of lower position.
inline void set_lowest(mask& m, std::vector<ranked>& pool, index_t count, bool keep) {
  partition_lowest(pool, count);
  for (index_t i = 0; i < count; ++i) {
    auto const at = static_cast<index_t>(pool[static_cast<std::size_t>(i)].position);
    m.set(at / m.cols(), at % m.cols(), keep);
  }
}

/// Sets the `count` highest of the pool, of equal ones those of higher position.
inline void set_highest(mask& m, std::vector<ranked>& pool, index_t count, bool keep) {
  for (ranked& candidate : pool) candidate = {~candidate.score, ~candidate.position};
  partition_lowest(pool, count);
  for (index_t i = 0; i < count; ++i) {
    auto const at = static_cast<index_t>(~pool[static_cast<std::size_t>(i)].position);
    m.set(at / m.cols(), at % m.cols(), keep);
  }
}

}  // namespace pare::inline PARE_ABI::detail
