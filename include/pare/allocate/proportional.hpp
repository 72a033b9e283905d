// SPDX-License-Identifier: Apache-2.0
// Shares of what is kept by importance, with caps and redistribution (as SNELLA allocates: Shen et al. 2025).
#pragma once

#include <pare/allocate/budget.hpp>

namespace pare::inline PARE_ABI {

/// Layer l keeps t * importance_l of all weights that are kept, cut to the bounds (at most all of its own); what a cut
/// leaves over goes to the others in proportion. Layers of importance 0 keep the least, and share what is left where
/// all others are at their most. One importance >= 0 a layer, or one a block, which its layers share by size.
struct proportional {
  static constexpr bool needs_scores = false;

  std::vector<double> importances;
  sparsity_bounds bounds{};

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    std::vector<double> const values = detail::values_of_layers(layers, importances);
    bool const by_layer = importances.size() == layers.size();
    auto const blocks = detail::number_blocks(layers);
    std::vector<double> sizes(blocks.count, 0.0);
    for (std::size_t l = 0; l < layers.size(); ++l) sizes[blocks.of_layer[l]] += static_cast<double>(layers[l].size());
    std::vector<double> densities;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      PARE_EXPECTS(values[l] >= 0.0, "proportional: the importances must not be negative");
      double const n = by_layer ? static_cast<double>(layers[l].size()) : sizes[blocks.of_layer[l]];
      densities.push_back(n > 0.0 ? values[l] / n : 0.0);
    }
    return detail::scale_to_budget(layers, densities, target, bounds);
  }
};

}  // namespace pare::inline PARE_ABI
