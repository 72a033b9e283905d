// SPDX-License-Identifier: Apache-2.0
// GraSP: gradient signal preservation (Wang, Zhang, Grosse 2020, arXiv 2002.07376).
#pragma once

#include <pare/calibrate/gradient_mean.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// The corpora of GraSP's two mean gradients: with the weights moved along the gradient, and against it.
struct ahead_of_gradient {};
struct behind_gradient {};

/// S_ij = w_ij (H g)_ij, with H g, the Hessian times the gradient, up to a positive factor as the difference of the
/// mean gradients at w + e g and at w - e g (see grasp_gradients in prune/grasp.hpp). The paper's -w H g is what is
/// *removed* when large: what goes is what, when gone, keeps the gradient's norm largest. In one pool over the network.
struct grasp {
  static constexpr scope compares = scope::network;
  using ahead = of<ahead_of_gradient, gradient_mean>;
  using behind = of<behind_gradient, gradient_mean>;
  using needs = statistics<ahead, behind>;
  static constexpr char const* name() noexcept { return "grasp"; }

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    gradient_mean const& a = stats.template get<ahead>();
    gradient_mean const& b = stats.template get<behind>();
    PARE_EXPECTS(a.shape() == w.shape() && b.shape() == w.shape(),
                 "grasp: the gradients are of a layer of another shape");
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j)
        out(i, j) = static_cast<float>(static_cast<double>(w(i, j)) * (a(i, j) - b(i, j)));
  }
};

}  // namespace pare::inline PARE_ABI
