// SPDX-License-Identifier: Apache-2.0
// Scores that training learned elsewhere, and movement pruning's (Sanh et al. 2020, arXiv 2005.07683).
#pragma once

#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// S = the given logits, of one layer; they must outlive the criterion. With `select` this is the top-k of movement
/// pruning and of edge-popup; `soft_threshold` (pare/select/soft_threshold.hpp) is its variant with a threshold.
struct learned_score {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "learned"; }

  matrix_span<float const> logits{};  // (M, K)

  template <matrix_view W>
  void score(W const& weights, auto const& /*stats*/, score_sink<float> out) const {
    PARE_EXPECTS(logits.shape() == as_span(weights).shape(), "learned_score: the logits must have the weights' shape");
    for (index_t i = 0; i < out.rows; ++i)
      for (index_t j = 0; j < out.cols; ++j) out(i, j) = logits(i, j);
  }
};

/// One step of movement pruning: S - lr * W * G elementwise, G the gradient with respect to the masked weights. The
/// score of a weight rises while training moves it away from 0. scores, w, gradient (M, K); begin with zeros.
[[nodiscard]] inline matrix<float> movement_step(matrix_span<float const> scores, matrix_span<float const> w,
                                                 matrix_span<float const> gradient, double learning_rate) {
  PARE_EXPECTS(scores.shape() == w.shape() && gradient.shape() == w.shape(),
               "movement_step: scores, weights and gradient must have one shape");
  matrix<float> next(w.shape());
  for (index_t i = 0; i < w.rows; ++i)
    for (index_t j = 0; j < w.cols; ++j)
      next(i, j) = static_cast<float>(static_cast<double>(scores(i, j)) - learning_rate * static_cast<double>(w(i, j)) *
                                                                              static_cast<double>(gradient(i, j)));
  return next;
}

}  // namespace pare::inline PARE_ABI
