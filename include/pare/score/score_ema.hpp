// SPDX-License-Identifier: Apache-2.0
// Scores averaged over the steps of a training: a moving average, and sensitivity times uncertainty.
#pragma once

#include <cmath>

#include <pare/core/math.hpp>
#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// E <- beta E + (1 - beta) S, from E = 0 (LoRAPrune, Zhang et al. 2024: beta = 0.9). Without a correction for the
/// start: it would scale all scores alike. Memory: 8 bytes a score.
class score_ema {
 public:
  /// For scores (M, K). Pre: 0 <= beta < 1.
  explicit score_ema(extents shape, double beta = 0.9) : average_(shape), beta_(beta) {
    PARE_EXPECTS(beta >= 0.0 && beta < 1.0, "score_ema: beta must lie in [0, 1)");
  }

  /// scores (M, K). Where one of them is NaN or infinite the step changes nothing, and this returns false.
  bool update(matrix_span<float const> scores) {
    PARE_EXPECTS(scores.shape() == average_.shape(), "score_ema: the scores must have the average's shape");
    for (index_t i = 0; i < scores.rows; ++i)
      for (index_t j = 0; j < scores.cols; ++j)
        if (!math::is_finite(scores(i, j))) return false;
    for (index_t i = 0; i < scores.rows; ++i)
      for (index_t j = 0; j < scores.cols; ++j)
        average_(i, j) = beta_ * average_(i, j) + (1.0 - beta_) * static_cast<double>(scores(i, j));
    return true;
  }
  /// E, (M, K).
  [[nodiscard]] matrix<float> result() const {
    matrix<float> out(average_.shape());
    for (index_t i = 0; i < out.size(); ++i) out.data()[i] = static_cast<float>(average_.data()[i]);
    return out;
  }

 private:
  matrix<double> average_;
  double beta_;
};

/// Sensitivity E <- b1 E + (1 - b1) S, then uncertainty U <- b2 U + (1 - b2) |S - E|; the result is E * U, elementwise
/// (AdaLoRA, Zhang et al. 2023; with b1 = b2 = 0.85 IncreLoRA and SNELLA). For one score a module give (1, 1).
/// Memory: 16 bytes a score.
class uncertain_ema {
 public:
  /// For scores (M, K). Pre: 0 <= beta1, beta2 < 1.
  explicit uncertain_ema(extents shape, double beta1 = 0.85, double beta2 = 0.85)
      : sensitivity_(shape), uncertainty_(shape), beta1_(beta1), beta2_(beta2) {
    PARE_EXPECTS(beta1 >= 0.0 && beta1 < 1.0 && beta2 >= 0.0 && beta2 < 1.0,
                 "uncertain_ema: both betas must lie in [0, 1)");
  }

  /// scores (M, K), mostly |w g|. A NaN counts as 0, as in SNELLA's code.
  void update(matrix_span<float const> scores) {
    PARE_EXPECTS(scores.shape() == sensitivity_.shape(), "uncertain_ema: the scores must have the average's shape");
    for (index_t i = 0; i < scores.rows; ++i)
      for (index_t j = 0; j < scores.cols; ++j) {
        double const s = scores(i, j) != scores(i, j) ? 0.0 : static_cast<double>(scores(i, j));
        double& e = sensitivity_(i, j);
        double& u = uncertainty_(i, j);
        e = beta1_ * e + (1.0 - beta1_) * s;
        u = beta2_ * u + (1.0 - beta2_) * std::abs(s - e);
      }
  }
  /// E * U, (M, K).
  [[nodiscard]] matrix<float> result() const {
    matrix<float> out(sensitivity_.shape());
    for (index_t i = 0; i < out.size(); ++i)
      out.data()[i] = static_cast<float>(sensitivity_.data()[i] * uncertainty_.data()[i]);
    return out;
  }

 private:
  matrix<double> sensitivity_;
  matrix<double> uncertainty_;
  double beta1_;
  double beta2_;
};

}  // namespace pare::inline PARE_ABI
