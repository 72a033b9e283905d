// SPDX-License-Identifier: Apache-2.0
// Singular values of a layer before and after pruning: how ill-conditioned a mask leaves it (TSCNC, arXiv 2503.20454).
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <Eigen/SVD>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/mask/mask.hpp>

namespace pare::inline PARE_ABI {

/// Singular values s_1 >= ... >= s_r, r = min(M, K), of a matrix (M, K).
struct spectrum {
  std::vector<double> values;  // descending
  index_t rank = 0;            // how many exceed max(M, K) * 2^-52 * s_1; the others are rounding errors of zero

  /// s_1, the Lipschitz constant of x -> W x; 0 for an empty matrix.
  [[nodiscard]] double norm() const noexcept { return values.empty() ? 0.0 : values.front(); }
  /// s_1 / s_r, infinite where the rank is not full. Already one empty row of a wide matrix makes it so.
  [[nodiscard]] double condition() const noexcept {
    return rank > 0 && rank == static_cast<index_t>(values.size()) ? values.front() / values.back()
                                                                   : std::numeric_limits<double>::infinity();
  }
  /// s_1 / s_rank, the condition on the inputs that the matrix does not send to zero; infinite for a zero matrix.
  [[nodiscard]] double effective_condition() const noexcept {
    return rank > 0 ? values.front() / values[static_cast<std::size_t>(rank - 1)]
                    : std::numeric_limits<double>::infinity();
  }
};

namespace detail {
inline result<spectrum> singular_values(Eigen::MatrixXd const& w) {
  if (!w.allFinite()) return error{errc::not_finite, "weights", "expected finite weights, found NaN or Inf"};
  spectrum s;
  if (w.size() == 0) return s;
  Eigen::VectorXd const values = Eigen::BDCSVD<Eigen::MatrixXd>(w).singularValues();
  s.values.assign(values.data(), values.data() + values.size());
  double const noise =
      static_cast<double>(std::max(w.rows(), w.cols())) * std::numeric_limits<double>::epsilon() * values(0);
  s.rank = std::count_if(s.values.begin(), s.values.end(), [&](double v) { return v > noise; });
  return s;
}

template <matrix_view W, class Keep>
Eigen::MatrixXd widened(W const& weights, Keep keep) {
  auto const w = as_span(weights);
  Eigen::MatrixXd wide(w.rows, w.cols);
  for (index_t i = 0; i < w.rows; ++i)
    for (index_t j = 0; j < w.cols; ++j)
      wide(i, j) = keep(i, j) ? static_cast<double>(static_cast<float>(w(i, j))) : 0.0;
  return wide;
}
}  // namespace detail

/// The singular values of weights (M, K), in double. O(M K min(M, K)): 1024 x 1024 takes about a second.
/// Errors: weights that are not finite.
template <matrix_view W>
[[nodiscard]] result<spectrum> singular_values(W const& weights) {
  return detail::singular_values(detail::widened(weights, [](index_t, index_t) { return true; }));
}

/// The same for W o M, the weights that a mask keeps. Pre: equal shapes.
template <matrix_view W>
[[nodiscard]] result<spectrum> singular_values(W const& weights, mask const& keep) {
  PARE_EXPECTS(as_span(weights).shape() == keep.shape(), "singular_values: the mask must have the weights' shape");
  return detail::singular_values(detail::widened(weights, keep));
}

}  // namespace pare::inline PARE_ABI
