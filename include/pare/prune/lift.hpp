// SPDX-License-Identifier: Apache-2.0
// LIFT: magnitude after rank reduction (Liu et al. 2025), and the rank reduction. Here for its factorisation.
#pragma once

#include <algorithm>
#include <cstdint>

#include <Eigen/Core>

#include <pare/prune/low_rank.hpp>
#include <pare/score/criterion.hpp>
#include <pare/score/magnitude.hpp>

namespace pare::inline PARE_ABI {

/// W_r, the matrix of rank `rank` that is nearest to w (M, K): its first singular triplets. Found by subspace iteration
/// with q = min(2 rank, M, K) directions (Halko, Martinsson, Tropp 2011): exact up to rounding where q = min(M, K) or
/// where w has rank q; otherwise the error beyond the best shrinks by (sigma_{q+1} / sigma_rank)^2 an iteration. The
/// same seed gives the same result on one machine. O(M K q iterations) time, 8 bytes a weight and 16 (M + K) q. Pre:
/// rank > 0, iterations >= 0, w finite.
[[nodiscard]] inline matrix<float> rank_reduced(matrix_span<float const> w, index_t rank, int iterations = 4,
                                                std::uint64_t seed = 0) {
  PARE_EXPECTS(rank > 0, "rank_reduced: the rank must be positive");
  PARE_EXPECTS(iterations >= 0, "rank_reduced: the number of iterations must not be negative");
  matrix<float> out(w);
  if (rank >= std::min(w.rows, w.cols)) return out;
  auto const t = detail::svd(detail::to_eigen(w), rank, detail::projection{2 * rank, iterations, seed});
  Eigen::MatrixXd const reduced = t.u * t.s.asDiagonal() * t.v.transpose();
  for (index_t i = 0; i < w.rows; ++i)
    for (index_t j = 0; j < w.cols; ++j) out(i, j) = static_cast<float>(reduced(i, j));
  return out;
}

/// S_ij = |(W_r)_ij|, with rank_reduced's W_r. The paper trains the (M + K) r' highest weights of a matrix and freezes
/// the rest, where pruning removes the lowest.
struct lift {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "lift"; }

  index_t rank = 128;
  int iterations = 4;

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    magnitude{}.score(rank_reduced(as_span(weights), rank, iterations), stats, out);
  }
};

}  // namespace pare::inline PARE_ABI
