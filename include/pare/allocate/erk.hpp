// SPDX-License-Identifier: Apache-2.0
// Erdos-Renyi-Kernel allocation (Mocanu et al. 2018; Evci et al. 2020, arXiv 1911.11134).
#pragma once

#include <pare/allocate/allocator.hpp>

namespace pare::inline PARE_ABI {

/// Density of layer l is eps * p_l with p_l = (sum of dims / product of dims)^power: small layers stay denser. eps
/// makes the network meet its target; while a density would exceed 1, the layers at the largest p_l are made dense and
/// eps is solved again over the rest.
struct erk {
  static constexpr bool needs_scores = false;

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    std::size_t const count = layers.size();
    double const density = 1.0 - target.value;
    std::vector<double> raw(count);
    for (std::size_t l = 0; l < count; ++l) {
      index_t sum = 0;
      for (index_t d : layers[l].dims) sum += d;
      index_t const n = layers[l].size();
      raw[l] = n > 0 ? static_cast<double>(sum) / static_cast<double>(n) : 0.0;
    }
    std::vector<bool> dense(count, false);
    double eps = 0.0;
    for (bool again = true; again;) {
      double budget = 0.0;
      double divisor = 0.0;
      double largest = 0.0;
      for (std::size_t l = 0; l < count; ++l) {
        auto const n = static_cast<double>(layers[l].size());
        if (dense[l]) {
          budget -= (1.0 - density) * n;
        } else {
          budget += density * n;
          divisor += raw[l] * n;
          if (raw[l] > largest) largest = raw[l];
        }
      }
      eps = divisor > 0.0 ? budget / divisor : 0.0;
      again = eps * largest > 1.0;
      if (again)
        for (std::size_t l = 0; l < count; ++l) dense[l] = dense[l] || raw[l] == largest;
    }
    std::vector<sparsity> out;
    out.reserve(count);
    for (std::size_t l = 0; l < count; ++l) {
      double const s = dense[l] ? 0.0 : 1.0 - eps * raw[l];
      out.emplace_back(s < 0.0 ? 0.0 : (s > 1.0 ? 1.0 : s));
    }
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
