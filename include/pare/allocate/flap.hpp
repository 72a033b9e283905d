// SPDX-License-Identifier: Apache-2.0
// FLAP's adaptive search: standardised scores compete across the network (An et al. 2024, arXiv 2312.11983).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <pare/allocate/allocator.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

/// Each layer's scores become z = (s - mean) / std (of n - 1; all 0 where std is 0), so that layers of any scale can
/// compete in one pool, where a unit costs the weights that go with it. The lowest z go until the cost that is gone is
/// nearest to target * all cost (of two that are as near, the lesser). Of equal ones the lower layer loses first.
///
/// The published code also removes the unit at its threshold. It counts attention heads as 512/3 neurons; here the
/// costs are weights, by default those of the layer itself.
/// O(n log n) time, 16 bytes a unit.
struct flap {
  static constexpr bool needs_scores = true;

  std::vector<double> unit_costs{};  // of a unit of each layer, with all that goes with it; empty: size() / units

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    PARE_EXPECTS(unit_costs.empty() || unit_costs.size() == layers.size(), "flap: there must be one cost a layer");
    struct ranked_layer {
      double z;
      std::uint32_t layer;
      bool operator<(ranked_layer const& o) const noexcept { return z != o.z ? z < o.z : layer < o.layer; }
    };
    std::vector<ranked_layer> pool;
    std::vector<double> costs;
    double all = 0.0;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      matrix_span<float const> const s = layers[l].scores;
      PARE_EXPECTS(s.shape().size() == layers[l].units, "flap: the allocator needs one score a unit");
      auto const n = static_cast<double>(layers[l].units);
      costs.push_back(!unit_costs.empty() ? unit_costs[l] : n > 0.0 ? static_cast<double>(layers[l].size()) / n : 0.0);
      PARE_EXPECTS(costs[l] >= 0.0, "flap: costs must not be negative");
      all += n * costs[l];
      double mean = 0.0;
      double squares = 0.0;
      auto const for_each = [&](auto visit) {
        for (index_t r = 0; r < s.rows; ++r)
          for (index_t c = 0; c < s.cols; ++c) visit(static_cast<double>(s(r, c)));
      };
      for_each([&](double v) { mean += v / n; });
      for_each([&](double v) { squares += (v - mean) * (v - mean); });
      PARE_EXPECTS(squares - squares == 0.0, "flap: a score is NaN or infinite");
      double const deviation = n > 1.0 ? std::sqrt(squares / (n - 1.0)) : 0.0;
      // What rounding makes of equal scores is no deviation.
      bool const equal = !(deviation > 1e-12 * std::abs(mean));
      for_each([&](double v) {
        pool.push_back({equal ? 0.0 : (v - mean) / deviation, static_cast<std::uint32_t>(l)});
      });
    }
    std::sort(pool.begin(), pool.end());
    std::vector<index_t> counts(layers.size(), 0);
    double const goal = target.value * all;
    double gone = 0.0;
    for (ranked_layer const& unit : pool) {
      double const after = gone + costs[unit.layer];
      if (after - goal >= goal - gone) break;  // not nearer than before
      gone = after;
      ++counts[unit.layer];
    }
    std::vector<sparsity> out;
    for (std::size_t l = 0; l < layers.size(); ++l) out.push_back(exactly(counts[l], layers[l].units));
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
