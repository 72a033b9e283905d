// SPDX-License-Identifier: Apache-2.0
// The statistics of GraSP: mean gradients a step along the gradient and a step against it.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include <pare/nn/gradient.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/score/grasp.hpp>

namespace pare::inline PARE_ABI {

/// Collects what `grasp` needs: the mean gradients g of the loss at w + e g and at w - e g, whose difference is
/// 2 e H g to third order in e. e is chosen so that ||e g|| = step ||w||, over all layers of layers().
///
/// feed: result<...> feed(N const& net, auto&& gradient_tap): the loss's gradients over the calibration data, the same
///       each time; it is called three times. GraSP divides logits by 200: see `tempered` in nn/loss.hpp.
/// The network is changed while it runs and is as it was in the end. Errors: those of feed; gradients that are all 0.
/// Memory: the weights twice and gradients three times.
template <network N, class Feed>
[[nodiscard]] result<calibration<grasp::needs>> grasp_gradients(N& net, Feed&& feed, double step = 1e-3) {
  auto const layers = net.layers();
  calibration<statistics<gradient_mean>> at(net);
  PARE_TRY_VOID(feed(std::as_const(net), at));
  double gradient = 0.0;
  double weight = 0.0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    auto const w = layers[l]->weight();
    auto const& g = at[l].template get<gradient_mean>();
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        gradient += g(i, j) * g(i, j);
        weight += static_cast<double>(w(i, j)) * static_cast<double>(w(i, j));
      }
  }
  if (!(gradient > 0.0) || !std::isfinite(gradient))
    return error{errc::not_finite, "gradients", "expected finite gradients that are not all 0"};
  double const e = step * std::sqrt(weight / gradient);

  std::vector<linear> before;
  for (linear* l : layers) before.push_back(*l);
  calibration<grasp::needs> stats(net);
  auto const move = [&](double by) {
    for (std::size_t l = 0; l < layers.size(); ++l) {
      matrix<float> w(before[l].weight());
      auto const& g = at[l].template get<gradient_mean>();
      for (index_t i = 0; i < w.rows(); ++i)
        for (index_t j = 0; j < w.cols(); ++j)
          w(i, j) = static_cast<float>(static_cast<double>(w(i, j)) + by * g(i, j));
      layers[l]->assign(w, mask(w.shape(), true));
    }
  };
  move(e);
  auto fed = feed(std::as_const(net), stats.template from<ahead_of_gradient>());
  if (fed) {
    move(-e);
    fed = feed(std::as_const(net), stats.template from<behind_gradient>());
  }
  for (std::size_t l = 0; l < layers.size(); ++l) *layers[l] = std::move(before[l]);
  if (!fed) return fed.error();
  return stats;
}

}  // namespace pare::inline PARE_ABI
