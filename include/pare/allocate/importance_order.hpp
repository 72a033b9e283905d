// SPDX-License-Identifier: Apache-2.0
// By the order of given importances: the least important layers lose most (the order that IST draws its layers by:
// Yao et al. 2024, "Layer-wise importance matters", arXiv 2410.11772).
#pragma once

#include <utility>

#include <pare/allocate/budget.hpp>

namespace pare::inline PARE_ABI {

/// Sparsity target - span * (r - 1/2) + t with the rank r of the layer's importance, from 0 (the least) to 1 (the most;
/// equal importances share a rank), cut to the bounds; t makes the network meet its target. Only the order matters, so
/// importances of any scale will do. One importance a layer, or one a block (layer_info::group).
struct importance_order {
  static constexpr bool needs_scores = false;

  std::vector<double> importances;
  double span = 0.2;  // in [0, 1]
  sparsity_bounds bounds{};

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    PARE_EXPECTS(0.0 <= span && span <= 1.0, "importance_order: the span must lie in [0, 1]");
    std::vector<double> const values = detail::values_of_layers(layers, importances);
    std::vector<double> order = values;
    std::sort(order.begin(), order.end());
    order.erase(std::unique(order.begin(), order.end()), order.end());
    std::vector<double> wanted;
    for (double const v : values) {
      auto const rank = std::lower_bound(order.begin(), order.end(), v) - order.begin();
      wanted.push_back(span * static_cast<double>(rank) /
                       static_cast<double>(std::max<std::size_t>(order.size(), 2) - 1));
    }
    return detail::shift_to_budget(layers, wanted, target, bounds);
  }
};

}  // namespace pare::inline PARE_ABI
