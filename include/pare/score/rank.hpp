// SPDX-License-Identifier: Apache-2.0
// Score transform: the rank of a score instead of the score.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include <pare/score/normalise.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

/// A score and its position, row by row.
struct placed_score {
  float score;
  std::uint32_t position;
};

/// All scores, the lowest first, equal ones by lower position first: the order of removal. Empty where one is NaN.
/// O(n log n) time, 8 bytes a score. Pre: fewer than 2^32 scores.
[[nodiscard]] inline std::vector<placed_score> ascending(matrix_span<float const> scores) {
  PARE_EXPECTS(scores.shape().size() < (index_t{1} << 32), "score order: fewer than 2^32 scores in a pool");
  std::vector<placed_score> order;
  order.reserve(static_cast<std::size_t>(scores.shape().size()));
  for (index_t i = 0; i < scores.rows; ++i)
    for (index_t j = 0; j < scores.cols; ++j) {
      if (scores(i, j) != scores(i, j)) return {};
      order.push_back({scores(i, j), static_cast<std::uint32_t>(i * scores.cols + j)});
    }
  std::sort(order.begin(), order.end(), [](placed_score a, placed_score b) {
    return a.score != b.score ? a.score < b.score : a.position < b.position;
  });
  return order;
}

/// Writes f(i, order) to the place of the i-th lowest score of a pool; NaN everywhere where one score is NaN.
template <class F>
void rewrite_in_order(score_sink<float> s, std::vector<placed_score> const& order, F f) {
  if (order.empty()) {
    for (index_t i = 0; i < s.rows; ++i)
      for (index_t j = 0; j < s.cols; ++j) s(i, j) = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  for (std::size_t i = 0; i < order.size(); ++i) {
    auto const at = static_cast<index_t>(order[i].position);
    s(at / s.cols, at % s.cols) = f(i);
  }
}

}  // namespace detail

/// rank / n with rank 0 for the lowest of the n scores of a pool; equal scores rank by position, so no two are equal
/// (up to n = 2^24: beyond, neighbours can share a float). O(n log n).
struct to_rank {
  scope pool = scope::matrix;

  void apply(score_sink<float> scores) const {
    detail::for_each_pool(scores, pool, [](score_sink<float> s) {
      auto const n = static_cast<double>(s.shape().size());
      detail::rewrite_in_order(s, detail::ascending(s),
                               [&](std::size_t i) { return static_cast<float>(static_cast<double>(i) / n); });
    });
  }
};

}  // namespace pare::inline PARE_ABI
