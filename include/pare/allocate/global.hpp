// SPDX-License-Identifier: Apache-2.0
// Global allocation: all units of the network compete in one pool (Han et al. 2015; Frankle & Carbin 2019).
#pragma once

#include <pare/allocate/allocator.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

/// Each layer loses what the network-wide order takes from it; with scope::matrix the masks together are exactly those
/// of select_network. Needs scores that are comparable between layers (magnitude is; Wanda's depend on the scale of
/// each layer's input).
struct global {
  static constexpr bool needs_scores = true;

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    std::vector<matrix_span<float const>> units;
    for (auto const& layer : layers) {
      PARE_EXPECTS(layer.scores.shape().size() == layer.units, "global: the allocator needs one score a unit");
      units.push_back(layer.scores);
    }
    std::vector<index_t> const removed = network_removals(units, target);
    std::vector<sparsity> out;
    for (std::size_t l = 0; l < layers.size(); ++l) out.push_back(exactly(removed[l], layers[l].units));
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
