// SPDX-License-Identifier: Apache-2.0
// First-order Taylor expansion of the loss: |g w| (Molchanov et al. 2017, arXiv 1611.06440), its signed form, and the
// second-order mix of LLM-Pruner (Ma et al. 2023, arXiv 2305.11627).
#pragma once

#include <pare/calibrate/fisher.hpp>
#include <pare/calibrate/gradient_mean.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// S_ij = |g_ij w_ij|: how much the loss changes, to first order, without the weight; g the mean gradient.
struct taylor {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<gradient_mean>;
  static constexpr char const* name() noexcept { return "taylor"; }

  /// S_ij = -g_ij w_ij instead: how much the loss *grows* without the weight, so that weights that hurt go first.
  bool with_sign = false;

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    gradient_mean const& g = stats.template get<gradient_mean>();
    PARE_EXPECTS(g.shape() == w.shape(), "taylor: the gradients are of a layer of another shape");
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        double const change = -g(i, j) * static_cast<double>(w(i, j));
        out(i, j) = static_cast<float>(with_sign || change > 0.0 ? change : -change);
      }
  }
};

/// S_ij = |w_ij| E|g_ij|: the mean over samples of how much the loss of a sample changes, to first order. Where a mean
/// gradient is near 0, as at the end of training, it says what `taylor` cannot.
struct taylor_by_sample {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<gradient_magnitude>;
  static constexpr char const* name() noexcept { return "taylor-sample"; }

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    gradient_magnitude const& g = stats.template get<gradient_magnitude>();
    PARE_EXPECTS(g.shape() == w.shape(), "taylor_by_sample: the gradients are of a layer of another shape");
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        double const change = g(i, j) * static_cast<double>(w(i, j));
        out(i, j) = static_cast<float>(change < 0.0 ? -change : change);
      }
  }
};

/// S_ij = |g_ij w_ij - F_ij w_ij^2 / 2|, F the diagonal Fisher information in the Hessian's place (`param_mix` of
/// LLM-Pruner, whose code fails for attention layers).
struct taylor_second_order {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<gradient_mean, fisher>;
  static constexpr char const* name() noexcept { return "taylor-second"; }

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    gradient_mean const& g = stats.template get<gradient_mean>();
    fisher const& f = stats.template get<fisher>();
    PARE_EXPECTS(g.shape() == w.shape() && f.shape() == w.shape(),
                 "taylor_second_order: the gradients are of a layer of another shape");
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        auto const v = static_cast<double>(w(i, j));
        double const change = g(i, j) * v - 0.5 * f(i, j) * v * v;
        out(i, j) = static_cast<float>(change < 0.0 ? -change : change);
      }
  }
};

}  // namespace pare::inline PARE_ABI
