// SPDX-License-Identifier: Apache-2.0
// Prunes a whole network: score, allocate, select, mask, layer by layer, all or nothing.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <pare/allocate/allocator.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/core/math.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>
#include <pare/core/wildcard.hpp>
#include <pare/nn/network.hpp>
#include <pare/pattern/parse.hpp>
#include <pare/score/criterion.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

/// What does not depend on the method.
struct prune_settings {
  /// Layers left dense: exact tensor names, or patterns with `*` for any run of characters.
  std::vector<std::string> skip{};
  /// Also prune the layers that networks keep dense by default.
  bool all_layers = false;
  pare::progress progress{};
};

/// What was done to one layer.
struct pruned_layer {
  std::string name;
  extents shape;
  index_t kept = 0;
  std::string note{};  // what the method has to say of it; mostly empty
};

namespace detail {

inline result<void> require_finite(matrix_span<float const> m, std::string const& where, char const* what) {
  for (index_t r = 0; r < m.rows; ++r)
    for (index_t c = 0; c < m.cols; ++c)
      if (!math::is_finite(m(r, c)))
        return error{errc::not_finite, where,
                     std::string(what) + " at row " + std::to_string(r) + ", column " + std::to_string(c) +
                         " is NaN or infinite"};
  return {};
}

}  // namespace detail

/// The layers that `prune` will work on, as positions in net.layers().
/// Errors: a skip pattern that matches no layer; nothing left to prune.
template <network N>
[[nodiscard]] result<std::vector<std::size_t>> layers_to_prune(N const& net, prune_settings const& settings) {
  auto const layers = net.layers();
  std::vector<bool> used(settings.skip.size(), false);
  std::vector<std::size_t> chosen;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    bool skipped = !settings.all_layers && net.keeps_dense_by_default(*layers[l]);
    for (std::size_t s = 0; s < settings.skip.size(); ++s)
      if (matches_wildcard(settings.skip[s], layers[l]->name())) skipped = used[s] = true;
    if (!skipped) chosen.push_back(l);
  }
  for (std::size_t s = 0; s < used.size(); ++s)
    if (!used[s])
      return error{errc::missing, "skip '" + settings.skip[s] + "'", "no layer of the network has a name that matches"};
  if (chosen.empty()) return error{errc::missing, "network", "every layer is skipped, so there is nothing to prune"};
  return chosen;
}

/// Whether the pattern tiles the layers at these positions. Error: all that it does not tile, by name.
template <network N>
[[nodiscard]] result<void> require_fit(any_pattern const& pattern, N const& net,
                                       std::vector<std::size_t> const& chosen) {
  auto const layers = net.layers();
  std::string misfits;
  for (std::size_t const l : chosen)
    if (extents const s = layers[l]->shape(); !fits(pattern, s))
      misfits += (misfits.empty() ? "" : ", ") + layers[l]->name() + " (" + std::to_string(s.rows) + " x " +
                 std::to_string(s.cols) + ")";
  if (misfits.empty()) return {};
  return error{errc::pattern_misfit, "pattern " + to_string(pattern),
               "it does not tile these layers, which can be skipped by name: " + misfits};
}

/// Prunes `net` to the sparsity `target` of its chosen layers: scores them with `method`, shares the budget out with
/// `budget`, selects masks of `pattern` with exact counts (see select.hpp) in the method's scope, and applies them.
///
/// stats:  what the method needs, of this network. For N:M patterns `target` is ignored: the pattern fixes it.
/// Errors: a pattern that does not fit a layer (all such layers are named); NaN or infinite weights, statistics or
/// scores;
///         cancelled by progress. On error the network is unchanged.
/// O(weights) time; memory: the masks of all chosen layers, and the scores of one (of all where the budget or the
/// pattern needs them to be compared: A::needs_scores).
template <network N, criterion C, sparsity_pattern P, budget_allocator A = uniform>
[[nodiscard]] result<std::vector<pruned_layer>> prune(N& net, C const& method, P const& pattern, sparsity target,
                                                      calibration<typename C::needs> const& stats, A const& budget = {},
                                                      prune_settings const& settings = {}) {
  static_assert(
      !fixed_ratio_pattern<P> || std::same_as<A, uniform>,
      "pare::prune: N:M fixes the sparsity of every layer, so there is no budget to share out; use pare::uniform");
  auto const layers = net.layers();
  PARE_EXPECTS(stats.size() == layers.size(), "prune: the statistics are of another network");
  PARE_EXPECTS(target.value < 1.0, "prune: the sparsity must lie in [0, 1)");
  PARE_TRY(auto const chosen, layers_to_prune(net, settings));
  if (pattern.of() > 0 && !std::same_as<A, uniform>)
    return error{errc::unsupported, "pattern " + to_string(any_pattern(pattern)),
                 "N:M fixes the sparsity of every layer, so it takes no allocation but uniform"};

  PARE_TRY_VOID(require_fit(pattern, net, chosen));

  C shown = method;
  std::vector<layer_info> infos;
  for (std::size_t const l : chosen) {
    linear const& layer = *layers[l];
    PARE_TRY_VOID(detail::require_finite(layer.weight(), layer.name(), "the weight"));
    if constexpr (network_criterion<C>) shown.look(layer.weight(), stats[l]);
    infos.push_back({layer.name(),
                     layer.tensor_shape(),
                     layer.shape().size() / pattern.unit().size(),
                     {},
                     static_cast<index_t>(stage_of<N>(l))});
  }
  auto const scores_of = [&](std::size_t i) -> result<matrix<float>> {
    linear const& layer = *layers[chosen[i]];
    C scored = shown;
    if constexpr (requires { scored.seed; }) scored.seed += chosen[i];  // every layer draws its own random numbers
    matrix<float> scores = score(layer.weight(), scored, stats[chosen[i]]);
    PARE_TRY_VOID(detail::require_finite(scores.span(), layer.name(), "the score"));
    return scores;
  };

  std::vector<matrix<float>> scores(A::needs_scores ? chosen.size() : 0);
  std::vector<matrix<float>> units(A::needs_scores && pattern.unit() != extents{1, 1} ? chosen.size() : 0);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!settings.progress("score", static_cast<index_t>(i), std::ssize(chosen)))
      return error{errc::cancelled, "prune", "cancelled"};
    PARE_TRY(scores[i], scores_of(i));
    infos[i].scores = scores[i].span();
    if (!units.empty()) {
      units[i] = unit_scores(scores[i].span(), pattern);
      infos[i].scores = units[i].span();
    }
  }
  PARE_TRY(std::vector<sparsity> const shares, allocate(budget, infos, target));
  units.clear();

  std::vector<mask> masks;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (!settings.progress("select", static_cast<index_t>(i), std::ssize(chosen)))
      return error{errc::cancelled, "prune", "cancelled"};
    matrix<float> of_layer;
    if constexpr (A::needs_scores) {
      of_layer = std::move(scores[i]);
    } else {
      PARE_TRY(of_layer, scores_of(i));
    }
    if constexpr (fixed_ratio_pattern<P>) {
      masks.push_back(select(of_layer, pattern));
    } else {
      // A network-wide pool counts whole layers, so it also selects in whole layers.
      scope const pool = A::needs_scores || default_scope<C>() == scope::network ? scope::matrix : default_scope<C>();
      masks.push_back(pattern.of() > 0 ? select(of_layer, any_pattern(pattern))
                                       : select(of_layer, pattern, shares[i], pool));
    }
  }
  std::vector<pruned_layer> done;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    linear& layer = *layers[chosen[i]];
    layer.keep(masks[i]);
    done.push_back({layer.name(), layer.shape(), masks[i].count(), {}});
  }
  settings.progress("select", std::ssize(chosen), std::ssize(chosen));
  return done;
}

}  // namespace pare::inline PARE_ABI
