// SPDX-License-Identifier: Apache-2.0
// SynFlow: pruning without data that keeps every layer connected (Tanaka, Kunin, Yamins, Ganguli 2020, arXiv
// 2006.05467).
#pragma once

#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pare/calibrate/gradient_mean.hpp>
#include <pare/nn/backward.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/prune/prune.hpp>

namespace pare::inline PARE_ABI {

/// Prunes `net` in rounds: with all weights and biases of the linear layers replaced by their magnitudes, R is the sum
/// of the outputs for `ones`, S = |dR/dw w|, and after round k of n the density is density^(k / n), over one pool of
/// all chosen layers. What is pruned stays pruned. Norms stay as they are.
///
/// ones:    the input (1, inputs) that reaches the first layer as ones, as the network's forward takes it.
/// Errors:  those of layers_to_prune and require_fit; N:M patterns, which have no pool over the network; an R or a
/// score
///          that overflows float, as deep networks' can; cancelled. On error the network is unchanged.
/// O(rounds) backward passes of one input; memory: the network and its weights' gradients once more.
template <network N, sparsity_pattern P>
[[nodiscard]] result<std::vector<pruned_layer>> synflow(N& net, matrix_span<float const> ones, P const& pattern,
                                                        sparsity target, index_t rounds = 100,
                                                        prune_settings const& settings = {}) {
  static_assert(!fixed_ratio_pattern<P>,
                "pare::synflow: N:M fixes the sparsity of every layer, so there is no pool over the network");
  PARE_EXPECTS(rounds > 0, "synflow: expected at least one round");
  PARE_EXPECTS(target.value < 1.0, "synflow: the sparsity must lie in [0, 1)");
  PARE_TRY(auto const chosen, layers_to_prune(net, settings));
  if (pattern.of() > 0)
    return error{errc::unsupported, "pattern " + to_string(any_pattern(pattern)),
                 "N:M fixes the sparsity of every layer, so there is no pool over the network"};
  PARE_TRY_VOID(require_fit(pattern, net, chosen));
  N positive = net;
  auto const layers = positive.layers();
  for (linear* l : layers) {
    PARE_TRY_VOID(detail::require_finite(l->weight(), l->name(), "the weight"));
    matrix<float> w(l->weight());
    for (index_t i = 0; i < w.size(); ++i) w.data()[i] = std::abs(w.data()[i]);
    std::vector<float> bias = l->bias();
    for (float& b : bias) b = std::abs(b);
    mask const keep = kept(l->weights());
    *l = linear(l->name(), std::move(w), std::move(bias));
    l->keep(keep);
  }
  std::vector<mask> masks;
  for (index_t round = 1; round <= rounds; ++round) {
    if (!settings.progress("synflow", round - 1, rounds)) return error{errc::cancelled, "synflow", "cancelled"};
    calibration<statistics<gradient_mean>> stats(positive, chosen);
    PARE_TRY_VOID(backward(std::as_const(positive), ones, sum_of_logits{}, stats));
    stats.close(1);
    std::vector<matrix<float>> scores;
    for (std::size_t const l : chosen) {
      auto const w = layers[l]->weight();
      auto const& g = stats[l].template get<gradient_mean>();
      matrix<float>& s = scores.emplace_back(w.shape());
      mask const keep = kept(layers[l]->weights());
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = 0; j < w.cols; ++j)  // what is gone goes again before anything else
          s(i, j) = keep(i, j) ? static_cast<float>(std::abs(g(i, j) * static_cast<double>(w(i, j)))) : -1.0f;
      PARE_TRY_VOID(detail::require_finite(s.span(), layers[l]->name(), "the score"));
    }
    std::vector<matrix_span<float const>> views;
    for (matrix<float> const& s : scores) views.push_back(s.span());
    double const share = static_cast<double>(round) / static_cast<double>(rounds);
    masks = select_network(std::span<matrix_span<float const> const>(views), pattern,
                           round == rounds ? target : sparsity(1.0 - std::pow(1.0 - target.value, share)));
    for (std::size_t i = 0; i < chosen.size(); ++i) layers[chosen[i]]->keep(masks[i]);
  }
  std::vector<pruned_layer> done;
  auto const originals = net.layers();
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    linear& layer = *originals[chosen[i]];
    layer.keep(masks[i]);
    done.push_back({layer.name(), layer.shape(), masks[i].count(), {}});
  }
  settings.progress("synflow", rounds, rounds);
  return done;
}

}  // namespace pare::inline PARE_ABI
