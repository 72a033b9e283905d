// SPDX-License-Identifier: Apache-2.0
// CFSP, the criterion within a block: which channels of a feed-forward layer stay (Wang et al. 2025, COLING).
#pragma once

#include <cmath>

#include <pare/calibrate/input_norms.hpp>
#include <pare/score/column_scores.hpp>

namespace pare::inline PARE_ABI {

/// A score C_j of every input channel j of the down projection W (d_model, d_ff). The paper's is
///
///   C_j = mean_i( U_ij / sum_i U_ij + |up_ji| / sum_i |up_ji| + |gate_ji| / sum_i |gate_ji| ) ||X_j||^c,  U = |W|
///   ||X_j||
///
/// where each quotient sums to 1 over i, so that C_j = 3 / d_model ||X_j||^c: no weight has a part in it. This is what
/// `activation` gives, without the constant. Of the published code's other metrics, `one_a` and `three_w_one_a` are
/// `activation` too (one_a with exponent 0.5); `wanda_base` and `mag_base` are those that read weights.
/// Each weight of column j gets C_j / M: select with columns as units, any_pattern({M, 1}, 0, 0). O(M K).
struct channel_norm {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<input_norms>;
  static constexpr char const* name() noexcept { return "channel_norm"; }

  enum class metric {
    activation,  // ||X_j||^c (the published default: `three_w_one_wa`)
    wanda_base,  // mean_i |W_ij| ||X_j||
    mag_base,    // ||W_j||_2 (in the published code the mean over channels of it, a single number)
  };

  metric by = metric::activation;
  double exponent = 1.0;  // c, of `activation`

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    input_norms const& norms = stats.template get<input_norms>();
    PARE_EXPECTS(norms.features() == w.cols,
                 "channel_norm: the statistics are of a layer with another number of inputs");
    detail::spread_over_columns(out, [&](index_t j) {
      switch (by) {
        case metric::wanda_base:
          return norms.norm(j) * detail::column_total(w, j, [](double v) { return std::abs(v); }) /
                 static_cast<double>(w.rows);
        case metric::mag_base:
          return std::sqrt(detail::column_total(w, j, [](double v) { return v * v; }));
        case metric::activation:
          break;
      }
      return std::pow(norms.norm(j), exponent);
    });
  }
};

}  // namespace pare::inline PARE_ABI
