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
/// feed:    result<void> feed(N const& net, auto& tap): runs the calibration data through the network.
/// shares:  the sparsity of each layer of layers_to_prune(net, settings), in its order (see share_out); ignored by N:M.
/// Errors: a pattern that does not fit a layer (all are named); those of feed and of the method, with the layer's name;
///         NaN or infinite weights; cancelled by progress. On error the network is as it was.
/// Time: one run of feed a stage, and the method; memory: the statistics of one stage, and the old weights.
template <network N, layer_pruner P, class Feed>
[[nodiscard]] result<std::vector<pruned_layer>> prune_in_stages(N& net, P const& method, any_pattern const& pattern,
                                                                std::span<sparsity const> shares, Feed&& feed,
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
    if constexpr (!std::same_as<typename P::needs, statistics<>>) {
      result<void> const fed = feed(std::as_const(net), stats);
      if (!fed) return give_up(fed.error());
    }
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

/// The sparsity of each layer that will be pruned, by an allocator that looks at shapes only (uniform, erk), for
/// prune_in_stages. Errors: those of layers_to_prune.
template <network N, budget_allocator A>
  requires(!A::needs_scores)
[[nodiscard]] result<std::vector<sparsity>> share_out(N const& net, any_pattern const& pattern, sparsity target,
                                                      A const& budget, prune_settings const& settings = {}) {
  PARE_TRY(auto const chosen, layers_to_prune(net, settings));
  std::vector<layer_info> infos;
  for (std::size_t const l : chosen) {
    linear const& layer = *net.layers()[l];
    infos.push_back({layer.name(), layer.tensor_shape(), layer.shape().size() / pattern.unit().size(), {}});
  }
  return budget.allocate(infos, target);
}

}  // namespace pare::inline PARE_ABI
