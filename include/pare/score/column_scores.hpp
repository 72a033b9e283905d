// SPDX-License-Identifier: Apache-2.0
// Scores of whole rows and columns as scores of weights: what criteria of channels (FLAP, CFSP, FPGM ...) write.
#pragma once

#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI::detail {

/// Gives every weight of column j the M-th part of column(j), so that the sum over the column (or over a block of
/// columns, such as a head) is the method's score. Equal columns get equal sums.
template <class F>
void spread_over_columns(score_sink<float> out, F column) {
  for (index_t j = 0; j < out.cols; ++j) {
    auto const share = static_cast<float>(column(j) / static_cast<double>(out.rows));
    for (index_t i = 0; i < out.rows; ++i) out(i, j) = share;
  }
}

/// The same for rows: every weight of row i gets the K-th part of row(i).
template <class F>
void spread_over_rows(score_sink<float> out, F row) {
  spread_over_columns(out.transposed(), row);
}

/// The sum of f(w_ij) over column j, in double.
template <class T, class F>
[[nodiscard]] double column_total(matrix_span<T const> w, index_t j, F f) {
  double sum = 0.0;
  for (index_t i = 0; i < w.rows; ++i) sum += f(static_cast<double>(w(i, j)));
  return sum;
}

}  // namespace pare::inline PARE_ABI::detail
