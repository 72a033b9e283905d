// SPDX-License-Identifier: Apache-2.0
// Magnitude: S_ij = |W_ij| (LeCun et al. 1989; Han et al. 2015; Zhu & Gupta 2017).
#pragma once

#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

struct magnitude {
  static constexpr scope compares = scope::matrix;  // the pool that its scores are meant for
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "magnitude"; }

  [[nodiscard]] auto row_scorer(auto const& /*stats*/) const {
    return [](matrix_span<float const> w, score_sink<float> out) {
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = 0; j < w.cols; ++j) out(i, j) = w(i, j) < 0.0f ? -w(i, j) : w(i, j);
    };
  }
  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    row_scorer(stats)(as_span(weights), out);
  }
};

}  // namespace pare::inline PARE_ABI
