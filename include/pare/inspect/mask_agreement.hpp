// SPDX-License-Identifier: Apache-2.0
// How far two methods choose the same weights.
#pragma once

#include <algorithm>
#include <span>

#include <pare/mask/mask.hpp>

namespace pare::inline PARE_ABI {

/// What two masks have in common. Of masks at sparsity s chosen independently, kept_iou is (1 - s) / (1 + s) and
/// removed_in_common is s, on average: only what exceeds that is agreement.
struct mask_agreement {
  double kept_iou = 1.0;           // |A & B| / |A | B| of what is kept (Jaccard; pare::overlap)
  double removed_iou = 1.0;        // the same of what is removed
  double removed_in_common = 1.0;  // share of what the mask that removes less removes, that the other removes too
};

/// The agreement of two masks of a network, all layers as one set: a[l] and b[l] are of layer l. Shares of an empty set
/// are 1. Pre: as many layers, with equal shapes. O(elements / 64).
[[nodiscard]] inline mask_agreement compare(std::span<mask const> a, std::span<mask const> b) {
  PARE_EXPECTS(a.size() == b.size(), "compare: both networks must have as many masks");
  index_t size = 0, both = 0, in_a = 0, in_b = 0;
  for (std::size_t l = 0; l < a.size(); ++l) {
    both += (a[l] & b[l]).count();  // requires equal shapes
    in_a += a[l].count();
    in_b += b[l].count();
    size += a[l].shape().size();
  }
  index_t const either = in_a + in_b - both;
  auto const share = [](index_t part, index_t of) {
    return of == 0 ? 1.0 : static_cast<double>(part) / static_cast<double>(of);
  };
  return {share(both, either), share(size - either, size - both),
          share(size - either, std::min(size - in_a, size - in_b))};
}

[[nodiscard]] inline mask_agreement compare(mask const& a, mask const& b) {
  return compare(std::span<mask const>(&a, 1), std::span<mask const>(&b, 1));
}

}  // namespace pare::inline PARE_ABI
