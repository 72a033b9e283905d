// SPDX-License-Identifier: Apache-2.0
// A prior by position: later blocks bear more (Kwon et al. 2025, HierarchicalPrune, arXiv 2508.04663).
#pragma once

#include <pare/allocate/budget.hpp>

namespace pare::inline PARE_ABI {

/// Sparsity target + span * (b / (blocks - 1) - 1/2) + t for block b, cut to the bounds; t makes the network meet its
/// target. span > 0: the last block loses more than the first; < 0: the first loses more. The paper removes whole late
/// blocks by hand-made lists; this is its prior as an allocation.
struct position {
  static constexpr bool needs_scores = false;

  double span = 0.2;  // in [-1, 1]
  sparsity_bounds bounds{};

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    PARE_EXPECTS(-1.0 <= span && span <= 1.0, "position: the span must lie in [-1, 1]");
    auto const blocks = detail::number_blocks(layers);
    std::vector<double> wanted;
    for (std::size_t const b : blocks.of_layer)
      wanted.push_back(-span * static_cast<double>(b) /
                       static_cast<double>(std::max<std::size_t>(blocks.count, 2) - 1));
    return detail::shift_to_budget(layers, wanted, target, bounds);
  }
};

}  // namespace pare::inline PARE_ABI
