// SPDX-License-Identifier: Apache-2.0
// Activation norm: S_ij = ||X_j||_2^a, the factor that Wanda and RIA weigh inputs with.
#pragma once

#include <cmath>

#include <pare/calibrate/input_norms.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// The same for all weights of a column; weights do not count. A piece to build with:
///   Wanda is `magnitude{} * activation_norm{}`,
///   RIA is `((magnitude{} | column_share{}) + (magnitude{} | row_share{})) * activation_norm{0.5}`.
struct activation_norm {
  static constexpr scope compares = scope::row;
  using needs = statistics<input_norms>;
  static constexpr char const* name() noexcept { return "activation_norm"; }

  double exponent = 1.0;  // a

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    input_norms const& norms = stats.template get<input_norms>();
    PARE_EXPECTS(norms.features() == w.cols,
                 "activation_norm: the statistics are of a layer with another number of inputs");
    for (index_t j = 0; j < w.cols; ++j) {
      auto const activity = static_cast<float>(std::pow(norms.norm(j), exponent));
      for (index_t i = 0; i < w.rows; ++i) out(i, j) = activity;
    }
  }
};

}  // namespace pare::inline PARE_ABI
