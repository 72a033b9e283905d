// SPDX-License-Identifier: Apache-2.0
// Score transforms that measure a score against the others of its row, column or matrix: share, mean, z-score, min-max.
#pragma once

#include <cmath>

#include <pare/core/reduce.hpp>
#include <pare/score/transform.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

/// Calls f with each pool's scores: those of one row, or all. Pre: pool is scope::row or scope::matrix.
template <class F>
void for_each_pool(score_sink<float> scores, scope pool, F f) {
  PARE_EXPECTS(pool != scope::network, "score transform: a transform sees one layer, so its pool is a row or a matrix");
  if (scores.shape().size() == 0) return;
  if (pool == scope::matrix) return f(scores);
  for (index_t i = 0; i < scores.rows; ++i) f(scores.row_range(i, 1));
}

/// The sum of f(score) over a pool, in double.
template <class F>
[[nodiscard]] double total(score_sink<float> s, F f) {
  double sum = 0.0;
  for (index_t i = 0; i < s.rows; ++i)
    sum += sum_of<double>(s.cols, [&](index_t j) { return f(static_cast<double>(s(i, j))); });
  return sum;
}

/// s <- (s - shift) / divisor; 0 where the divisor is 0.
inline void shift_and_divide(score_sink<float> s, double shift, double divisor) {
  for (index_t i = 0; i < s.rows; ++i)
    for (index_t j = 0; j < s.cols; ++j)
      s(i, j) = divisor == 0.0 ? 0.0f : static_cast<float>((static_cast<double>(s(i, j)) - shift) / divisor);
}

/// The lowest and the highest score of a pool; both NaN where one is.
struct score_range {
  float low;
  float high;
};
[[nodiscard]] inline score_range range_of(score_sink<float> s) {
  score_range r{s(0, 0), s(0, 0)};
  for (index_t i = 0; i < s.rows; ++i)
    for (index_t j = 0; j < s.cols; ++j) {
      float const v = s(i, j);
      if (v != v) return {v, v};
      r.low = v < r.low ? v : r.low;
      r.high = v > r.high ? v : r.high;
    }
  return r;
}

}  // namespace detail

/// s_ij / sum_k |s_ik|: the share of the row; 0 in a row of zeros.
struct row_share {
  void apply(score_sink<float> scores) const {
    detail::for_each_pool(scores, scope::row, [](score_sink<float> row) {
      detail::shift_and_divide(row, 0.0, detail::total(row, [](double s) { return std::abs(s); }));
    });
  }
};

/// s_ij / sum_o |s_oj|: the share of the column; 0 in a column of zeros.
struct column_share {
  void apply(score_sink<float> scores) const {
    matrix<double> sums(1, scores.cols);
    for (index_t i = 0; i < scores.rows; ++i)
      for (index_t j = 0; j < scores.cols; ++j) sums(0, j) += std::abs(static_cast<double>(scores(i, j)));
    for (index_t i = 0; i < scores.rows; ++i)
      for (index_t j = 0; j < scores.cols; ++j)
        scores(i, j) = sums(0, j) == 0.0 ? 0.0f : static_cast<float>(static_cast<double>(scores(i, j)) / sums(0, j));
  }
};

/// s / mean |s| over the pool; 0 in a pool of zeros. Makes layers comparable (Fang et al. 2023, arXiv 2301.12900).
struct over_mean {
  scope pool = scope::matrix;

  void apply(score_sink<float> scores) const {
    detail::for_each_pool(scores, pool, [](score_sink<float> s) {
      double const sum = detail::total(s, [](double v) { return std::abs(v); });
      detail::shift_and_divide(s, 0.0, sum / static_cast<double>(s.shape().size()));
    });
  }
};

/// (s - mean) / sd over the pool, sd with n - 1; 0 where all scores of the pool are equal.
struct zscore {
  scope pool = scope::matrix;

  void apply(score_sink<float> scores) const {
    detail::for_each_pool(scores, pool, [](score_sink<float> s) {
      auto const n = static_cast<double>(s.shape().size());
      double const mean = detail::total(s, [](double v) { return v; }) / n;
      auto const [low, high] = detail::range_of(s);
      // The rounding of the mean must not make a deviation of equal scores.
      double const squares = low == high ? 0.0 : detail::total(s, [&](double v) { return (v - mean) * (v - mean); });
      detail::shift_and_divide(s, mean, low == high ? 0.0 : std::sqrt(squares / (n - 1.0)));
    });
  }
};

/// (s - min) / (max - min) over the pool, in [0, 1]; 0 where all scores of the pool are equal.
struct min_max {
  scope pool = scope::matrix;

  void apply(score_sink<float> scores) const {
    detail::for_each_pool(scores, pool, [](score_sink<float> s) {
      auto const [low, high] = detail::range_of(s);
      detail::shift_and_divide(s, static_cast<double>(low), static_cast<double>(high) - static_cast<double>(low));
    });
  }
};

}  // namespace pare::inline PARE_ABI
