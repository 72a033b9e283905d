// SPDX-License-Identifier: Apache-2.0
// Erdos-Renyi allocation (Mocanu et al. 2018, "Scalable training of ... adaptive sparse connectivity").
#pragma once

#include <pare/allocate/erk.hpp>

namespace pare::inline PARE_ABI {

/// As erk, with p_l = (out + in) / (out * in): the first two dims only. Equal to erk for linear layers; of convolutions
/// it keeps more of those with large kernels.
struct er {
  static constexpr bool needs_scores = false;
  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    return detail::erdos_renyi(layers, target, 2);
  }
};

}  // namespace pare::inline PARE_ABI
