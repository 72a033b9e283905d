// SPDX-License-Identifier: Apache-2.0
// LAMP: layer-adaptive magnitude pruning (Lee et al. 2021, arXiv 2010.07964).
#pragma once

#include <cmath>
#include <cstdint>

#include <pare/allocate/allocator.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

/// With a layer's scores, to the given power, in ascending order s_1 <= s_2 <= ..., the LAMP score of unit i is
/// s_i / sum over j >= i of s_j (0 where all of these are 0); all units of the network compete by it. Layers lose what
/// that takes from them, in the order of their scores, which the transform keeps. The largest unit of every layer has
/// the score 1 and goes last. Of equal ones the lower layer loses first.
///
/// power 2 with the scores of `magnitude` is the paper's; 1 takes scores that are squares already.
/// O(n log n) time, 16 bytes a unit.
struct lamp {
  static constexpr bool needs_scores = true;

  double power = 2.0;

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    struct ranked_layer {
      double score;
      std::uint32_t layer;
      bool operator<(ranked_layer const& o) const noexcept {
        return score != o.score ? score < o.score : layer < o.layer;
      }
    };
    std::vector<ranked_layer> pool;
    std::vector<double> s;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      matrix_span<float const> const scores = layers[l].scores;
      PARE_EXPECTS(scores.shape().size() == layers[l].units, "lamp: the allocator needs one score a unit");
      s.clear();
      for (index_t r = 0; r < scores.rows; ++r)
        for (index_t c = 0; c < scores.cols; ++c) {
          PARE_EXPECTS(scores(r, c) >= 0.0f, "lamp: the scores must not be negative or NaN");
          s.push_back(std::pow(static_cast<double>(scores(r, c)), power));
        }
      std::sort(s.begin(), s.end(), [](double a, double b) { return a > b; });
      double sum = 0.0;  // from the largest down: of those not below this one
      for (double const score : s) {
        sum += score;
        pool.push_back({sum > 0.0 ? score / sum : 0.0, static_cast<std::uint32_t>(l)});
      }
    }
    index_t const removed = target.removed_of(std::ssize(pool));
    if (removed > 0 && removed < std::ssize(pool)) std::nth_element(pool.begin(), pool.begin() + removed, pool.end());
    std::vector<index_t> counts(layers.size(), 0);
    for (index_t i = 0; i < removed; ++i) ++counts[pool[static_cast<std::size_t>(i)].layer];
    std::vector<sparsity> out;
    for (std::size_t l = 0; l < layers.size(); ++l) out.push_back(exactly(counts[l], layers[l].units));
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
