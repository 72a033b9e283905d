// SPDX-License-Identifier: Apache-2.0
// LIFT: magnitude after rank reduction (Liu et al. 2025), and the rank reduction. Here for its factorisations.
#pragma once

#include <algorithm>
#include <cstdint>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>

#include <pare/core/random.hpp>
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
  index_t const smaller = std::min(w.rows, w.cols);
  if (rank >= smaller) return out;
  Eigen::MatrixXd a(w.rows, w.cols);
  for (index_t i = 0; i < w.rows; ++i)
    for (index_t j = 0; j < w.cols; ++j) a(i, j) = static_cast<double>(w(i, j));
  index_t const q = std::min(2 * rank, smaller);
  auto const orthonormal = [q](Eigen::MatrixXd const& m) -> Eigen::MatrixXd {
    return Eigen::HouseholderQR<Eigen::MatrixXd>(m).householderQ() * Eigen::MatrixXd::Identity(m.rows(), q);
  };
  random_source random(seed);
  Eigen::MatrixXd start(w.cols, q);
  for (index_t j = 0; j < q; ++j)
    for (index_t i = 0; i < w.cols; ++i) start(i, j) = static_cast<double>(random.normal());
  Eigen::MatrixXd left = orthonormal(a * start);
  for (int i = 0; i < iterations; ++i) left = orthonormal(a * orthonormal(a.transpose() * left));
  Eigen::MatrixXd const inner = left.transpose() * a;  // (q, K)
  // Eigenvalues ascend, so the last `rank` vectors are the left singular ones of the largest values.
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const eigen(inner * inner.transpose());
  Eigen::MatrixXd const top = eigen.eigenvectors().rightCols(rank);
  Eigen::MatrixXd const reduced = (left * top) * (top.transpose() * inner);
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
