// SPDX-License-Identifier: Apache-2.0
// Score transforms of one score at a time: power, clip, softplus, sigmoid. All but clip are strictly increasing, so
// they matter only before scores are added, multiplied or summed over a unit.
#pragma once

#include <cmath>

#include <pare/score/transform.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// Replaces every score by f of it, computed in double.
template <class F>
void for_each_score(score_sink<float> scores, F f) {
  for (index_t i = 0; i < scores.rows; ++i)
    for (index_t j = 0; j < scores.cols; ++j) scores(i, j) = static_cast<float>(f(static_cast<double>(scores(i, j))));
}
}  // namespace detail

/// sign(s) |s|^exponent. Pre: exponent > 0.
struct power {
  double exponent = 2.0;

  void apply(score_sink<float> scores) const {
    PARE_EXPECTS(exponent > 0.0, "power: the exponent must be positive, or the order of the scores would turn");
    detail::for_each_score(scores, [this](double s) { return std::copysign(std::pow(std::abs(s), exponent), s); });
  }
};

/// min(max(s, low), high). Pre: low <= high.
struct clip {
  double low = 0.0;
  double high = 1.0;

  void apply(score_sink<float> scores) const {
    PARE_EXPECTS(low <= high, "clip: the lower bound must not be above the upper one");
    detail::for_each_score(scores, [this](double s) { return s < low ? low : (s > high ? high : s); });
  }
};

/// log(1 + e^s), positive. As a float it cannot tell scores apart that are within 1e-7 of 0.
struct softplus_of {
  void apply(score_sink<float> scores) const {
    detail::for_each_score(scores, [](double s) {  // e^s itself would overflow from 710 on
      return (s > 0.0 ? s : 0.0) + std::log1p(std::exp(-std::abs(s)));
    });
  }
};

/// 1 / (1 + e^(-s / temperature)). Pre: temperature > 0. As a float it is 1 from s / temperature = 17 on.
struct sigmoid_of {
  double temperature = 1.0;

  void apply(score_sink<float> scores) const {
    PARE_EXPECTS(temperature > 0.0, "sigmoid_of: the temperature must be positive");
    detail::for_each_score(scores, [this](double s) { return 1.0 / (1.0 + std::exp(-s / temperature)); });
  }
};

}  // namespace pare::inline PARE_ABI
