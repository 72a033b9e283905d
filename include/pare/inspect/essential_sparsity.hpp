// SPDX-License-Identifier: Apache-2.0
// Essential sparsity (Jaiswal et al. 2023, arXiv 2306.03805): how much can go before quality turns down sharply.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// What was measured at a sparsity; higher = better. (Of a perplexity take the negative, or its logarithm's.)
struct measured_sparsity {
  sparsity at{0.0};
  double value = 0.0;
};

/// Where a curve of measurements has its knee.
struct essential_sparsity {
  sparsity last_within{0.0};            // the highest sparsity before the first fall
  std::optional<sparsity> first_below;  // the first that fell by more than the tolerance; none if no one did
};

/// The knee of a curve: the first point whose value is more than `tolerance` below that of the first point, which is
/// the dense network's as a rule. tolerance: in the unit of the values (0.01 = one point of an accuracy in [0, 1], the
/// paper's practice). A NaN counts as a fall. What comes after the first fall is not looked at.
/// Pre: at least one point, sparsities ascending, tolerance >= 0. O(points).
[[nodiscard]] inline essential_sparsity find_essential_sparsity(std::span<measured_sparsity const> curve,
                                                                double tolerance) {
  PARE_EXPECTS(!curve.empty() && tolerance >= 0.0, "find_essential_sparsity: needs a point and a tolerance >= 0");
  for (std::size_t i = 1; i < curve.size(); ++i)
    PARE_EXPECTS(curve[i - 1].at.value < curve[i].at.value, "find_essential_sparsity: sparsities must ascend");
  essential_sparsity knee{curve[0].at, {}};
  for (measured_sparsity const& point : curve) {
    if (!(point.value >= curve[0].value - tolerance)) {
      knee.first_below = point.at;
      break;
    }
    knee.last_within = point.at;
  }
  return knee;
}

/// The same where each measurement is worth saving: measures the dense network and then `levels` in their order, and
/// stops after the first fall. measure(sparsity) -> value, higher = better. Pre: levels ascending, the first above 0.
template <class Measure>
  requires requires(Measure& measure, sparsity s) {
    { measure(s) } -> std::convertible_to<double>;
  }
[[nodiscard]] essential_sparsity find_essential_sparsity(Measure&& measure, std::span<sparsity const> levels,
                                                         double tolerance) {
  std::vector<measured_sparsity> curve{{sparsity{0.0}, static_cast<double>(measure(sparsity{0.0}))}};
  for (sparsity const s : levels) {
    curve.push_back({s, static_cast<double>(measure(s))});
    if (find_essential_sparsity(curve, tolerance).first_below) break;
  }
  return find_essential_sparsity(curve, tolerance);
}

}  // namespace pare::inline PARE_ABI
