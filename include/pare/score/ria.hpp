// SPDX-License-Identifier: Apache-2.0
// RIA: relative importance and activations (Zhang et al. 2024, "Plug-and-Play", ICLR).
#pragma once

#include <cmath>

#include <pare/calibrate/input_norms.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// S_ij = (|W_ij| / sum_o |W_oj| + |W_ij| / sum_k |W_ik|) * ||X_j||^a: a weight's share of its column and of its row.
/// The published code compares within the whole matrix; within rows (`scope::row`) it is comparable with Wanda.
struct ria {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<input_norms>;
  static constexpr char const* name() noexcept { return "ria"; }

  double power = 0.5;  // a

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    auto const w = as_span(weights);
    input_norms const& norms = stats.template get<input_norms>();
    PARE_EXPECTS(norms.features() == w.cols, "ria: the statistics are of a layer with another number of inputs");
    auto const magnitude = [&](index_t i, index_t j) { return std::abs(static_cast<double>(w(i, j))); };
    matrix<double> column(1, w.cols);
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) column(0, j) += magnitude(i, j);
    matrix<double> activity(1, w.cols);
    for (index_t j = 0; j < w.cols; ++j) activity(0, j) = std::pow(norms.norm(j), power);
    for (index_t i = 0; i < w.rows; ++i) {
      double row = 0.0;
      for (index_t j = 0; j < w.cols; ++j) row += magnitude(i, j);
      for (index_t j = 0; j < w.cols; ++j) {
        double const m = magnitude(i, j);  // 0 where a sum is 0
        out(i, j) = m == 0.0 ? 0.0f : static_cast<float>((m / column(0, j) + m / row) * activity(0, j));
      }
    }
  }
};

}  // namespace pare::inline PARE_ABI
