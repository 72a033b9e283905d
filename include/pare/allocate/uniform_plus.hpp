// SPDX-License-Identifier: Apache-2.0
// Uniform+: uniform but for the first layer and the last (Gale et al. 2019, arXiv 1902.09574).
#pragma once

#include <pare/allocate/allocator.hpp>

namespace pare::inline PARE_ABI {

/// The first layer stays dense; where the network's density is below 0.2, the last layer has density 0.2; all others
/// have one density, which makes the network meet its target. Where these two alone would keep more than there is to
/// keep, uniform.
///
/// The code of Liu et al. (2022, arXiv 2202.02643) leaves the others at the target's density, which misses the target.
struct uniform_plus {
  static constexpr bool needs_scores = false;
  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    std::vector<sparsity> out(layers.size(), target);
    if (layers.size() < 2) return out;
    constexpr double least_last = 0.2;
    double const density = 1.0 - target.value;
    bool const last_apart = density < least_last;
    double all = 0.0;
    for (layer_info const& l : layers) all += static_cast<double>(l.size());
    double const first = static_cast<double>(layers.front().size());
    double const last = last_apart ? static_cast<double>(layers.back().size()) : 0.0;
    double const rest = all - first - last;
    double const removed = target.value * all - (1.0 - least_last) * last;  // of the rest
    if (removed > rest || rest <= 0.0) return out;
    for (sparsity& s : out) s = sparsity(removed > 0.0 ? removed / rest : 0.0);
    out.front() = sparsity(0.0);
    if (last_apart) out.back() = sparsity(1.0 - least_last);
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
