// SPDX-License-Identifier: Apache-2.0
// Prunes a network stage by stage, calibrating each stage on the activations that the stages before it leave.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pare/prune/calibration.hpp>
#include <pare/prune/layer_pruner.hpp>
#include <pare/prune/prune.hpp>

namespace pare::inline PARE_ABI {

/// Which activations a stage is calibrated on: those behind the stages that are pruned already (as SparseGPT, Wanda
/// and ALPS are published), or those of the dense network.
enum class calibration_stream { pruned, dense };

/// Prunes `net` with `method`, stage by stage (stage_of: transformer blocks, or single layers).
///
/// data:    a stage_walk of `net` at its start (nn/walk.hpp has one for each network that pare knows), or a callable
///          result<void> feed(N const& net, auto& tap) that runs all data through the network: for what a walk does not
///          show (gradients, several corpora), and for networks that have none.
/// shares:  the sparsity of each layer of layers_to_prune(net, settings), in its order (see share_out); ignored by N:M.
/// Errors: a pattern that does not fit a layer (all are named); those of data and of the method, with the layer's name;
///         NaN or infinite weights; cancelled by progress. On error the network is as it was.
/// Time: the method's, and of a walk two runs of each stage (one for the dense stream), of a callable one run of the
/// network a stage; both give the same weights to the bit. Memory: the statistics of one stage, the old weights, and
/// the walk: 4 bytes times the values at one boundary (samples * positions * width).
template <network N, layer_pruner P, class Data>
[[nodiscard]] result<std::vector<pruned_layer>> prune_in_stages(N& net, P const& method, any_pattern const& pattern,
                                                                std::span<sparsity const> shares, Data&& data,
                                                                calibration_stream stream = calibration_stream::pruned,
                                                                prune_settings const& settings = {}) {
  auto const layers = net.layers();
  PARE_TRY(auto const chosen, layers_to_prune(net, settings));
  PARE_EXPECTS(shares.size() == chosen.size(), "prune_in_stages: there must be one share for each layer to prune");
  PARE_TRY_VOID(require_fit(pattern, net, chosen));
  for (std::size_t const l : chosen)
    PARE_TRY_VOID(detail::require_finite(layers[l]->weight(), layers[l]->name(), "the weight"));

  std::vector<std::pair<linear*, linear>> before;  // what an error brings back
  auto const give_up = [&](error e) {
    for (auto& [layer, old] : before) *layer = std::move(old);
    return e;
  };
  std::vector<pruned_weights> waiting;  // of the dense stream: nothing changes before the end
  std::vector<pruned_layer> done;
  for (std::size_t first = 0; first < chosen.size();) {
    std::size_t last = first + 1;
    while (last < chosen.size() && stage_of<N>(chosen[last]) == stage_of<N>(chosen[first])) ++last;
    if (!settings.progress("prune", static_cast<index_t>(first), std::ssize(chosen)))
      return give_up(error{errc::cancelled, "prune", "cancelled"});
    calibration<typename P::needs> stats(net, std::span(chosen).subspan(first, last - first));
    result<void> const seen = detail::calibrate_stage(std::as_const(net), stage_of<N>(chosen[first]), data, stats,
                                                      stream == calibration_stream::dense);
    if (!seen) return give_up(seen.error());
    for (; first < last; ++first) {
      linear& layer = *layers[chosen[first]];
      P one = method;
      if constexpr (requires { one.by.seed; }) one.by.seed += chosen[first];  // every layer draws its own numbers
      auto pruned = one.prune(layer.weight(), stats[chosen[first]], pattern, shares[first]);
      if (!pruned) return give_up(in(layer.name(), std::move(pruned.error())));
      if (result<void> const finite = detail::require_finite(pruned->weights.span(), layer.name(), "the new weight");
          !finite)
        return give_up(finite.error());
      done.push_back({layer.name(), layer.shape(), pruned->keep.count(), std::move(pruned->note)});
      before.emplace_back(&layer, layer);
      if (stream == calibration_stream::pruned) {
        layer.assign(pruned->weights, pruned->keep);
      } else {
        waiting.push_back(*std::move(pruned));
      }
    }
  }
  for (std::size_t i = 0; i < waiting.size(); ++i) before[i].first->assign(waiting[i].weights, waiting[i].keep);
  settings.progress("prune", std::ssize(chosen), std::ssize(chosen));
  return done;
}

namespace detail {

/// N:M takes no allocation but uniform.
template <budget_allocator A>
[[nodiscard]] result<void> require_budget(any_pattern const& pattern) {
  if (pattern.of() == 0 || std::same_as<A, uniform>) return {};
  return error{errc::unsupported, "pattern " + to_string(pattern),
               "N:M fixes the sparsity of every layer, so it takes no allocation but uniform"};
}

template <network N>
[[nodiscard]] layer_info info_of(N const& net, std::size_t layer, any_pattern const& pattern) {
  linear const& l = *net.layers()[layer];
  return {l.name(),
          l.tensor_shape(),
          l.shape().size() / pattern.unit().size(),
          {},
          static_cast<index_t>(stage_of<N>(layer))};
}

}  // namespace detail

/// The sparsity of each layer that will be pruned, for prune_in_stages, by an allocator that looks at no scores
/// (uniform, erk, table, ...). The layers of a stage are a block of the allocator.
/// Errors: those of layers_to_prune and of the allocator; N:M and an allocator that is not uniform.
template <network N, budget_allocator A>
  requires(!A::needs_scores)
[[nodiscard]] result<std::vector<sparsity>> share_out(N const& net, any_pattern const& pattern, sparsity target,
                                                      A const& budget, prune_settings const& settings = {}) {
  PARE_TRY(auto const chosen, layers_to_prune(net, settings));
  PARE_TRY_VOID(detail::require_budget<A>(pattern));
  std::vector<layer_info> infos;
  for (std::size_t const l : chosen) infos.push_back(detail::info_of(net, l, pattern));
  return allocate(budget, infos, target);
}

/// The same by an allocator that compares scores (global, owl, lamp, flap): those that the criterion `by` gives the
/// network as it is, with its statistics. What prunes afterwards may be another method, such as a solver.
/// Errors: as above; a pattern that does not fit a layer; NaN or infinite weights or scores.
/// O(weights) time; the scores of all chosen layers are held at once.
template <network N, criterion C, budget_allocator A>
[[nodiscard]] result<std::vector<sparsity>> share_out(N const& net, C const& by,
                                                      calibration<typename C::needs> const& stats,
                                                      any_pattern const& pattern, sparsity target, A const& budget,
                                                      prune_settings const& settings = {}) {
  auto const layers = net.layers();
  PARE_EXPECTS(stats.size() == layers.size(), "share_out: the statistics are of another network");
  PARE_TRY(auto const chosen, layers_to_prune(net, settings));
  PARE_TRY_VOID(detail::require_budget<A>(pattern));
  PARE_TRY_VOID(require_fit(pattern, net, chosen));
  std::vector<layer_info> infos;
  std::vector<matrix<float>> units;
  for (std::size_t const l : chosen) {
    linear const& layer = *layers[l];
    PARE_TRY_VOID(detail::require_finite(layer.weight(), layer.name(), "the weight"));
    C scored = by;
    if constexpr (requires { scored.seed; }) scored.seed += l;  // every layer draws its own random numbers
    matrix<float> const scores = score(layer.weight(), scored, stats[l]);
    PARE_TRY_VOID(detail::require_finite(scores.span(), layer.name(), "the score"));
    units.push_back(unit_scores(scores.span(), pattern));
    infos.push_back(detail::info_of(net, l, pattern));
    infos.back().scores = units.back().span();
  }
  return allocate(budget, infos, target);
}

}  // namespace pare::inline PARE_ABI
