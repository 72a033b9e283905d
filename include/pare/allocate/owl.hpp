// SPDX-License-Identifier: Apache-2.0
// OWL: outlier-weighed layerwise sparsity (Yin et al. 2023, arXiv 2310.05175).
#pragma once

#include <pare/allocate/budget.hpp>

namespace pare::inline PARE_ABI {

/// D_b: the fraction of the scores of block b that exceed `outlier` times their mean. Densities are D_b scaled to a
/// window of 2 * window from the block with the least outliers to the one with the most, and shifted so that the
/// network meets its target; cut to the bounds. All matrices of a block (layer_info::group: a transformer block) pool
/// their scores and get one sparsity, as in the paper; layers without a group are blocks of their own.
///
/// For Wanda's scores. The paper takes outlier = 5 (its code's default is 3) and window = 0.08. The published code
/// shifts by the plain mean over blocks, which meets the target where all blocks are of one size, as here they need
/// not be; and it sets what is not positive to sparsity 0.01.
struct owl {
  static constexpr bool needs_scores = true;

  double outlier = 5.0;  // M
  double window = 0.08;  // lambda
  sparsity_bounds bounds{};

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    PARE_EXPECTS(outlier >= 0.0 && window >= 0.0, "owl: outlier and window must not be negative");
    auto const blocks = detail::number_blocks(layers);
    std::vector<double> sum(blocks.count, 0.0);
    std::vector<double> count(blocks.count, 0.0);
    std::vector<double> above(blocks.count, 0.0);
    auto const for_each_score = [&](auto visit) {
      for (std::size_t l = 0; l < layers.size(); ++l) {
        matrix_span<float const> const scores = layers[l].scores;
        for (index_t r = 0; r < scores.rows; ++r)
          for (index_t c = 0; c < scores.cols; ++c) visit(blocks.of_layer[l], static_cast<double>(scores(r, c)));
      }
    };
    for (layer_info const& l : layers)
      PARE_EXPECTS(l.scores.shape().size() == l.units, "owl: the allocator needs one score a unit");
    for_each_score([&](std::size_t b, double score) {
      sum[b] += score;
      count[b] += 1.0;
    });
    for_each_score([&](std::size_t b, double score) { above[b] += score > outlier * sum[b] / count[b] ? 1.0 : 0.0; });
    std::vector<double> ratio;
    for (std::size_t b = 0; b < blocks.count; ++b) ratio.push_back(count[b] > 0.0 ? above[b] / count[b] : 0.0);
    std::vector<double> wanted(layers.size(), 0.0);
    if (!ratio.empty()) {
      auto const [low, high] = std::minmax_element(ratio.begin(), ratio.end());
      if (*high > *low)
        for (std::size_t l = 0; l < layers.size(); ++l)
          wanted[l] = (ratio[blocks.of_layer[l]] - *low) / (*high - *low) * 2.0 * window;
    }
    return detail::shift_to_budget(layers, wanted, target, bounds);
  }
};

}  // namespace pare::inline PARE_ABI
