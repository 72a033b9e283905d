// SPDX-License-Identifier: Apache-2.0
// What allocators share: densities that are shifted or scaled until the whole network meets its target.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include <pare/allocate/allocator.hpp>

namespace pare::inline PARE_ABI {

/// The least and the most that any layer may lose. What a layer at a bound cannot take the others share. A target that
/// is itself outside cannot be met within the bounds: every layer then gets the target.
struct sparsity_bounds {
  double lowest = 0.0;
  double highest = 1.0;
};

namespace detail {

/// The weights that a layer keeps, as a function of an unknown t: from + slope * t, cut to [least, most].
struct kept_line {
  double from;
  double slope;  // >= 0
  double least;
  double most;
  [[nodiscard]] double at(double t) const noexcept { return std::clamp(from + slope * t, least, most); }
};

/// What every layer keeps at the t where all of them together keep `budget`. Between two neighbouring corners of the
/// lines their sum is linear. What lines without slope leave over they share, each by what it has to its `most`.
/// Pre: budget between the sums of least and most. O(n^2).
[[nodiscard]] inline std::vector<double> meet_budget(std::vector<kept_line> const& lines, double budget) {
  std::vector<double> corners;
  for (kept_line const& l : lines)
    if (l.slope > 0.0) {
      corners.push_back((l.least - l.from) / l.slope);
      corners.push_back((l.most - l.from) / l.slope);
    }
  std::sort(corners.begin(), corners.end());
  if (corners.empty()) corners.push_back(0.0);
  auto const kept_at = [&](double t) {
    std::vector<double> kept;
    for (kept_line const& l : lines) kept.push_back(l.at(t));
    return kept;
  };
  auto const sum = [](std::vector<double> const& kept) {
    double total = 0.0;
    for (double const k : kept) total += k;
    return total;
  };
  auto const after =
      std::partition_point(corners.begin(), corners.end(), [&](double t) { return sum(kept_at(t)) < budget; });
  std::vector<double> kept = kept_at(after == corners.begin() ? corners.front() : *(after - 1));
  std::vector<double> next;
  if (after != corners.end()) {
    next = kept_at(*after);
  } else {
    for (kept_line const& l : lines) next.push_back(l.most);
  }
  double const step = sum(next) - sum(kept);
  double const part = step > 0.0 ? std::clamp((budget - sum(kept)) / step, 0.0, 1.0) : 0.0;
  for (std::size_t l = 0; l < kept.size(); ++l) kept[l] += part * (next[l] - kept[l]);
  return kept;
}

/// Shares of layers that keep clamp(from + slope t) weights each; `line` gives from and slope of the layer of n
/// weights.
template <class Line>
[[nodiscard]] std::vector<sparsity> shares_of(std::vector<layer_info> const& layers, sparsity target,
                                              sparsity_bounds bounds, Line line) {
  PARE_EXPECTS(0.0 <= bounds.lowest && bounds.lowest <= bounds.highest && bounds.highest <= 1.0,
               "sparsity_bounds: 0 <= lowest <= highest <= 1");
  std::vector<sparsity> out(layers.size(), target);
  if (target.value < bounds.lowest || target.value > bounds.highest) return out;
  std::vector<kept_line> lines;
  double budget = 0.0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    auto const n = static_cast<double>(layers[l].size());
    auto const [from, slope] = line(l, n);
    lines.push_back({from, slope, (1.0 - bounds.highest) * n, (1.0 - bounds.lowest) * n});
    budget += (1.0 - target.value) * n;
  }
  std::vector<double> const kept = meet_budget(lines, budget);
  // Half of what is removed of a layer must be that half under the count rule's floor, whatever this rounded off.
  constexpr double rounding = 1e-13;
  for (std::size_t l = 0; l < layers.size(); ++l)
    if (auto const n = static_cast<double>(layers[l].size()); n > 0.0) {
      double const s = 1.0 - kept[l] / n;
      out[l] = sparsity(s > 0.0 ? std::min(s + rounding, 1.0) : 0.0);
    }
  return out;
}

struct line_of_layer {
  double from;
  double slope;
};

/// Densities wanted[l] + t, cut to the bounds.
[[nodiscard]] inline std::vector<sparsity> shift_to_budget(std::vector<layer_info> const& layers,
                                                           std::vector<double> const& wanted, sparsity target,
                                                           sparsity_bounds bounds = {}) {
  return shares_of(layers, target, bounds, [&](std::size_t l, double n) { return line_of_layer{wanted[l] * n, n}; });
}

/// Densities wanted[l] * t, cut to the bounds. Layers that want nothing keep the least, and share what is left where
/// all others are at their most. Pre: wanted >= 0.
[[nodiscard]] inline std::vector<sparsity> scale_to_budget(std::vector<layer_info> const& layers,
                                                           std::vector<double> const& wanted, sparsity target,
                                                           sparsity_bounds bounds = {}) {
  return shares_of(layers, target, bounds, [&](std::size_t l, double n) { return line_of_layer{0.0, wanted[l] * n}; });
}

/// The block of every layer, numbered from 0 in the order in which they first appear.
struct block_numbers {
  std::vector<std::size_t> of_layer;
  std::size_t count = 0;
};

[[nodiscard]] inline block_numbers number_blocks(std::vector<layer_info> const& layers) {
  block_numbers out;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    std::size_t same = 0;
    while (same < l && (layers[l].group < 0 || layers[same].group != layers[l].group)) ++same;
    out.of_layer.push_back(same < l ? out.of_layer[same] : out.count++);
  }
  return out;
}

/// One value a layer, out of one a layer or one a block. Pre: as many values as layers, or as blocks; all finite.
[[nodiscard]] inline std::vector<double> values_of_layers(std::vector<layer_info> const& layers,
                                                          std::vector<double> const& values) {
  for (double const v : values) PARE_EXPECTS(v - v == 0.0, "allocate: the importances must be finite");
  if (values.size() == layers.size()) return values;
  block_numbers const blocks = number_blocks(layers);
  PARE_EXPECTS(values.size() == blocks.count, "allocate: there must be one importance a layer, or one a block");
  std::vector<double> out;
  for (std::size_t const b : blocks.of_layer) out.push_back(values[b]);
  return out;
}

}  // namespace detail
}  // namespace pare::inline PARE_ABI
