// SPDX-License-Identifier: Apache-2.0
// FPGM: filters near the geometric median of all are the ones that others can replace (He et al. 2019, arXiv
// 1811.00250).
#pragma once

#include <cmath>

#include <pare/core/reduce.hpp>
#include <pare/score/column_scores.hpp>

namespace pare::inline PARE_ABI {

/// R_i = sum_o ||W_i - W_o||_2 over all rows o: the filter of the smallest sum is (nearest to) the geometric median.
/// Each weight of row i gets R_i / K: select with rows as units, any_pattern({1, K}, 0, 0). Of two equal filters both
/// are as replaceable; the first one goes. O(M^2 K / 2) time.
struct fpgm {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "fpgm"; }

  template <matrix_view W>
  void score(W const& weights, auto const& /*stats*/, score_sink<float> out) const {
    auto const w = as_span(weights);
    matrix<double> distances(1, w.rows);
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t o = i + 1; o < w.rows; ++o) {
        double const d = std::sqrt(sum_of<double>(w.cols, [&](index_t j) {
          double const difference = static_cast<double>(w(i, j)) - static_cast<double>(w(o, j));
          return difference * difference;
        }));
        distances(0, i) += d;
        distances(0, o) += d;
      }
    detail::spread_over_rows(out, [&](index_t i) { return distances(0, i); });
  }
};

}  // namespace pare::inline PARE_ABI
