// SPDX-License-Identifier: Apache-2.0
// Every matrix of a network pruned to several sparsities, for a search over them (allocate/evo_press.hpp).
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pare/allocate/evo_press.hpp>
#include <pare/format/bitmap.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/prune/layer_pruner.hpp>
#include <pare/prune/prune.hpp>

namespace pare::inline PARE_ABI {

struct level_options {
  int levels = 8;    // L: at most so many each way from the target
  index_t step = 0;  // units a level; 0: 0.5 min(s, 1 - s) / L of the mean layer's units: half of what it could move
};

/// One matrix at its levels: level l has floor(s n) + l * step of its n units removed.
struct matrix_levels {
  std::string name;
  std::size_t layer = 0;  // position in net.layers()
  index_t units = 0;
  index_t removed = 0;  // at level 0
  int lowest = 0;
  std::vector<bitmap<float>> solved;  // from `lowest` up
  [[nodiscard]] int highest() const noexcept { return lowest + static_cast<int>(solved.size()) - 1; }
};

/// All of them. A level removes the same number of units from every matrix, so levels that sum to 0 leave exactly the
/// budget of the uniform allocation (methods that compare within rows round down in each row: up to a unit a row less
/// is removed, at any level).
class level_database {
 public:
  level_database(std::vector<matrix_levels> matrices, index_t step) : matrices_(std::move(matrices)), step_(step) {}

  [[nodiscard]] std::vector<matrix_levels> const& matrices() const noexcept { return matrices_; }
  [[nodiscard]] index_t step() const noexcept { return step_; }
  [[nodiscard]] std::vector<level_range> ranges() const {
    std::vector<level_range> out;
    for (matrix_levels const& m : matrices_) out.push_back({m.lowest, m.highest()});
    return out;
  }
  /// The sparsity of each matrix, for prune_in_stages: a search's levels can be pruned anew, behind pruned stages.
  [[nodiscard]] std::vector<sparsity> shares(std::span<int const> levels) const {
    check(levels);
    std::vector<sparsity> out;
    for (std::size_t m = 0; m < levels.size(); ++m)
      out.push_back(exactly(matrices_[m].removed + levels[m] * step_, matrices_[m].units));
    return out;
  }
  /// Gives a network of the same shape the weights of these levels. Pre: one level a matrix, each within its range.
  /// O(weights).
  template <network N>
  void apply(N& net, std::span<int const> levels) const {
    check(levels);
    auto const layers = net.layers();
    for (std::size_t m = 0; m < levels.size(); ++m) {
      bitmap<float> const& solved = matrices_[m].solved[static_cast<std::size_t>(levels[m] - matrices_[m].lowest)];
      PARE_EXPECTS(matrices_[m].layer < layers.size(), "level_database: the network is another one");
      layers[matrices_[m].layer]->assign(decompress(solved), solved.bits());
    }
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t n = 0;
    for (matrix_levels const& m : matrices_)
      for (auto const& w : m.solved) n += w.bytes();
    return n;
  }

 private:
  void check(std::span<int const> levels) const {
    PARE_EXPECTS(levels.size() == matrices_.size(), "level_database: there must be one level a matrix");
    for (std::size_t m = 0; m < levels.size(); ++m)
      PARE_EXPECTS(matrices_[m].lowest <= levels[m] && levels[m] <= matrices_[m].highest(),
                   "level_database: a level that was not solved");
  }

  std::vector<matrix_levels> matrices_;
  index_t step_;
};

/// Solves every layer of layers_to_prune(net, settings) with `method` at all its levels, each from the dense weights
/// and the statistics of the dense network, which is not changed. Levels that would leave a layer nothing, or remove
/// less than nothing, are left out.
///
/// data:   as for prune_in_stages. The published code's default step has hidden^2 where ours has the mean size of a
/// layer. Errors: an N:M pattern, which has one level only; those of prune_in_stages. Time: (2 L + 1) times the
/// method's, and one run of each stage (of a callable: of the network a stage). Memory: the statistics of one stage,
/// and for each level of each matrix one bit a weight and 4 bytes a kept weight: at 50 % and L = 8 about 35 bytes a
/// weight.
template <network N, layer_pruner P, class Data>
[[nodiscard]] result<level_database> solve_levels(N const& net, P const& method, any_pattern const& pattern,
                                                  sparsity target, level_options const& options, Data&& data,
                                                  prune_settings const& settings = {}) {
  PARE_EXPECTS(options.levels >= 0 && options.step >= 0, "solve_levels: levels and step must not be negative");
  PARE_EXPECTS(target.value < 1.0, "solve_levels: the sparsity must lie in [0, 1)");
  auto const layers = net.layers();
  PARE_TRY(auto const chosen, layers_to_prune(net, settings));
  if (pattern.of() > 0)
    return error{errc::unsupported, "pattern " + to_string(pattern),
                 "N:M fixes the sparsity of every layer, so there are no levels to search"};
  PARE_TRY_VOID(require_fit(pattern, net, chosen));
  index_t all_units = 0;
  for (std::size_t const l : chosen) {
    PARE_TRY_VOID(detail::require_finite(layers[l]->weight(), layers[l]->name(), "the weight"));
    all_units += layers[l]->shape().size() / pattern.unit().size();
  }
  double const room = 0.5 * std::min(target.value, 1.0 - target.value) / std::max(options.levels, 1);
  auto const fitting = static_cast<index_t>(room * static_cast<double>(all_units) / static_cast<double>(chosen.size()));
  index_t const step = options.step > 0 ? options.step : std::max<index_t>(fitting, 1);

  std::vector<matrix_levels> solved;
  for (std::size_t first = 0; first < chosen.size();) {
    std::size_t last = first + 1;
    while (last < chosen.size() && stage_of<N>(chosen[last]) == stage_of<N>(chosen[first])) ++last;
    calibration<typename P::needs> stats(net, std::span(chosen).subspan(first, last - first));
    PARE_TRY_VOID(detail::calibrate_stage(net, stage_of<N>(chosen[first]), data, stats, true));
    for (; first < last; ++first) {
      linear const& layer = *layers[chosen[first]];
      P one = method;
      if constexpr (requires { one.by.seed; }) one.by.seed += chosen[first];  // every layer draws its own numbers
      matrix_levels m{layer.name(), chosen[first], layer.shape().size() / pattern.unit().size(), 0, 0, {}};
      m.removed = target.removed_of(m.units);
      m.lowest = static_cast<int>(-std::min<index_t>(options.levels, m.removed / step));
      for (int level = m.lowest; level <= options.levels && m.removed + level * step < std::max<index_t>(m.units, 1);
           ++level) {
        if (!settings.progress("solve levels", static_cast<index_t>(first), std::ssize(chosen)))
          return error{errc::cancelled, "solve_levels", "cancelled"};
        auto pruned =
            one.prune(layer.weight(), stats[chosen[first]], pattern, exactly(m.removed + level * step, m.units));
        if (!pruned) return in(layer.name(), std::move(pruned.error()));
        PARE_TRY_VOID(detail::require_finite(pruned->weights.span(), layer.name(), "the new weight"));
        m.solved.push_back(compress<bitmap<float>>(pruned->weights, pruned->keep));
      }
      solved.push_back(std::move(m));
    }
  }
  settings.progress("solve levels", std::ssize(chosen), std::ssize(chosen));
  return level_database(std::move(solved), step);
}

}  // namespace pare::inline PARE_ABI
