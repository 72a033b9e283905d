// SPDX-License-Identifier: Apache-2.0
// Optimal Brain Damage (LeCun, Denker, Solla 1989) with the empirical Fisher information for the Hessian's diagonal.
#pragma once

#include <concepts>

#include <pare/calibrate/fisher.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// S_ij = w_ij^2 F_ij / 2: how much the loss grows without the weight, at a minimum of the loss. F: the diagonal Fisher
/// information by samples (`fisher`), or by positions (`position_fisher`), of any corpus.
template <layer_statistic Fisher>
struct basic_obd {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<Fisher>;
  static constexpr char const* name() noexcept {
    return std::derived_from<Fisher, position_fisher> ? "obd-position" : "obd";
  }

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    Fisher const& f = stats.template get<Fisher>();
    PARE_EXPECTS(f.shape() == w.shape(), "obd: the Fisher information is of a layer of another shape");
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        auto const v = static_cast<double>(w(i, j));
        out(i, j) = static_cast<float>(0.5 * v * v * f(i, j));
      }
  }
};

using obd = basic_obd<fisher>;
using position_obd = basic_obd<position_fisher>;

}  // namespace pare::inline PARE_ABI
