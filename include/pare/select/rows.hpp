// SPDX-License-Identifier: Apache-2.0
// The rows of a score matrix one after the other, each contiguous: as they are stored, or made a few at a time.
#pragma once

#include <algorithm>
#include <utility>

#include <pare/core/cast.hpp>
#include <pare/core/matrix.hpp>
#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI::detail {

/// Rows that lie in memory as they are needed.
struct stored_rows {
  matrix_span<float const> scores;  // col_stride 1
  [[nodiscard]] extents shape() const noexcept { return scores.shape(); }
  [[nodiscard]] float const* row(index_t i) const noexcept { return scores.row(i); }
};

/// Rows that fill(first row, matrix_span<float> rows) writes, 8 at a time: few enough for the cache.
template <class Fill>
class made_rows {
 public:
  made_rows(extents shape, Fill fill) : shape_(shape), fill_(std::move(fill)) {}
  [[nodiscard]] extents shape() const noexcept { return shape_; }
  /// Valid until another row is asked for.
  [[nodiscard]] float const* row(index_t i) {
    if (i < first_ || i >= first_ + held_.rows()) {
      index_t const count = std::min<index_t>(8, shape_.rows - i);
      if (held_.rows() != count) held_ = matrix<float>(count, shape_.cols);
      first_ = i;
      fill_(first_, held_.span());
    }
    return held_.row(i - first_);
  }

 private:
  extents shape_;
  Fill fill_;
  matrix<float> held_;
  index_t first_ = 0;
};

/// The rows of given scores: f(rows).
template <class F>
auto with_rows_of(matrix_span<float const> scores, F f) {
  if (scores.col_stride == 1) return f(stored_rows{scores});
  return f(made_rows(scores.shape(), [scores](index_t first, matrix_span<float> out) {
    for (index_t j = 0; j < out.cols; ++j)  // a transposed matrix is read along its memory
      for (index_t i = 0; i < out.rows; ++i) out(i, j) = scores(first + i, j);
  }));
}

/// The rows of the scores of w, of a criterion that scores each row on its own: f(rows).
template <weight_value T, row_wise_criterion C, class Stats, class F>
auto with_rows_of(matrix_span<T const> w, C const& by, Stats const& stats, F f) {
  matrix<float> values;  // of a few rows, where T is not float
  return f(made_rows(w.shape(), [&, score_rows = by.row_scorer(stats)](index_t first, matrix_span<float> out) {
    matrix_span<T const> const rows = w.row_range(first, out.rows);
    if constexpr (std::same_as<T, float>) {
      score_rows(rows, out);
    } else {
      if (values.shape() != out.shape()) values = matrix<float>(out.shape());
      for (index_t i = 0; i < out.rows; ++i)
        for (index_t j = 0; j < out.cols; ++j) values(i, j) = value_cast<float>(rows(i, j));
      score_rows(std::as_const(values).span(), out);
    }
  }));
}

}  // namespace pare::inline PARE_ABI::detail
