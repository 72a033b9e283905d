// SPDX-License-Identifier: Apache-2.0
// Erdos-Renyi-Kernel allocation (Mocanu et al. 2018; Evci et al. 2020, arXiv 1911.11134).
#pragma once

#include <pare/allocate/budget.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

/// Densities eps * (sum of the first `extents` dims / their product).
[[nodiscard]] inline std::vector<sparsity> erdos_renyi(std::vector<layer_info> const& layers, sparsity target,
                                                       std::size_t extents) {
  std::vector<double> raw;
  for (layer_info const& layer : layers) {
    double sum = 0.0;
    double product = 1.0;
    for (std::size_t d = 0; d < std::min(extents, layer.dims.size()); ++d) {
      sum += static_cast<double>(layer.dims[d]);
      product *= static_cast<double>(layer.dims[d]);
    }
    raw.push_back(product > 0.0 ? sum / product : 0.0);
  }
  return scale_to_budget(layers, raw, target);
}

}  // namespace detail

/// Density of layer l is eps * p_l with p_l = sum of dims / product of dims: small layers stay denser. eps makes the
/// network meet its target; layers whose density would exceed 1 are dense, and eps is that of the rest.
struct erk {
  static constexpr bool needs_scores = false;
  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    return detail::erdos_renyi(layers, target, static_cast<std::size_t>(-1));
  }
};

}  // namespace pare::inline PARE_ABI
