// SPDX-License-Identifier: Apache-2.0
// CFSP's coarse step: densities from the importance of blocks (Wang et al. 2024, arXiv 2409.13199).
#pragma once

#include <cmath>

#include <pare/allocate/budget.hpp>

namespace pare::inline PARE_ABI {

/// r_b = sigmoid(sharpness (I_b - mean I)); density q_b = r_b / (mean r) * (1 - target). Where a q would reach 1, all
/// deviations of r from its mean are shrunk by one factor, so that the largest q is 1 - target + target / 1.05. Means
/// are weighted by size, so the network meets its target and no density leaves [0, 1].
///
/// I_b: the mean over tokens of arccos(cos(h_in, h_out)) / pi of the block's hidden states before and after; one a
/// block (layer_info::group), or one a layer. The published code sums over 128 x 2048 tokens and divides by 1e4: the
/// default sharpness is that for a mean.
struct cfsp {
  static constexpr bool needs_scores = false;

  std::vector<double> importances;
  double sharpness = 128.0 * 2048.0 / 1e4;

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    std::vector<double> const values = detail::values_of_layers(layers, importances);
    auto const mean_of = [&](std::vector<double> const& v) {
      double sum = 0.0;
      double all = 0.0;
      for (std::size_t l = 0; l < layers.size(); ++l) {
        sum += v[l] * static_cast<double>(layers[l].size());
        all += static_cast<double>(layers[l].size());
      }
      return all > 0.0 ? sum / all : 0.0;
    };
    double const middle = mean_of(values);
    std::vector<double> r;
    for (double const v : values) r.push_back(1.0 / (1.0 + std::exp(-sharpness * (v - middle))));
    double const mean = mean_of(r);
    double const density = 1.0 - target.value;
    double largest = 0.0;
    for (double const v : r) largest = std::max(largest, v);
    if (density > 0.0 && largest * density >= mean && largest > mean) {
      double const factor = mean * (1.0 / density - 1.0) / (largest - mean) / 1.05;
      for (double& v : r) v = mean + factor * (v - mean);
    }
    for (double& v : r) v = mean > 0.0 ? v / mean * density : density;
    return detail::shift_to_budget(layers, r, target);  // shifts by rounding only
  }
};

}  // namespace pare::inline PARE_ABI
