// SPDX-License-Identifier: Apache-2.0
// Wanda: S_ij = |W_ij| * ||X_j||_2, compared within a row (Sun, Liu, Bair, Kolter 2023, arXiv 2306.11695).
#pragma once

#include <utility>

#include <pare/calibrate/input_norms.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

struct wanda {
  static constexpr scope compares = scope::row;  // the pool that its scores are meant for
  using needs = statistics<input_norms>;
  static constexpr char const* name() noexcept { return "wanda"; }

  [[nodiscard]] auto row_scorer(auto const& stats) const {
    input_norms const& norms = stats.template get<input_norms>();
    matrix<float> norm(1, norms.features());
    for (index_t j = 0; j < norm.cols(); ++j) norm(0, j) = static_cast<float>(norms.norm(j));
    return [norm = std::move(norm)](matrix_span<float const> w, score_sink<float> out) {
      PARE_EXPECTS(norm.cols() == w.cols, "wanda: the statistics are of a layer with another number of inputs");
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = 0; j < w.cols; ++j) out(i, j) = (w(i, j) < 0.0f ? -w(i, j) : w(i, j)) * norm(0, j);
    };
  }
  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    row_scorer(stats)(as_span(weights), out);
  }
};

}  // namespace pare::inline PARE_ABI
