// SPDX-License-Identifier: Apache-2.0
// The layer-wise Hessian of solvers that update weights: the Gram matrix of the inputs, damped, and its factor.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include <Eigen/Core>
#include <Eigen/Cholesky>

#include <pare/calibrate/gram.hpp>
#include <pare/core/result.hpp>

namespace pare::inline PARE_ABI::detail {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// u (n, n), upper triangular, to its inverse, in place; below the diagonal is neither read nor written. By halves, so
/// that products of matrices do the work: n^3 / 3 multiply-adds in all.
inline void invert_upper(Eigen::Ref<row_major> u) {
  Eigen::Index const n = u.rows();
  if (n <= 32) {
    for (Eigen::Index j = 0; j < n; ++j) {
      float const inverse = 1.0f / u(j, j);
      for (Eigen::Index i = 0; i < j; ++i) {
        float sum = 0.0f;
        for (Eigen::Index k = i; k < j; ++k) sum += u(i, k) * u(k, j);  // rows i <= k < j are inverted already
        u(i, j) = -sum * inverse;
      }
      u(j, j) = inverse;
    }
    return;
  }
  Eigen::Index const h = n / 2;
  Eigen::Ref<row_major> a = u.topLeftCorner(h, h);
  Eigen::Ref<row_major> b = u.topRightCorner(h, n - h);
  Eigen::Ref<row_major> d = u.bottomRightCorner(n - h, n - h);
  invert_upper(a);
  invert_upper(d);
  b = -(a.triangularView<Eigen::Upper>() * b).eval();  // [A B; 0 D]^-1 = [A^-1, -A^-1 B D^-1; 0, D^-1]
  b = (b * d.triangularView<Eigen::Upper>()).eval();
}

/// The upper triangular U with (G + damping mean(diag G) I)^-1 = U^T U, in u (K, K), where inputs that never were
/// active count as one that has G_jj = 1. Returns the damping that was used: ten times more for each Cholesky
/// factorisation that failed. Errors: no samples; NaN or infinite entries; a factorisation that fails with a damping
/// of 1 and more.
///
/// U comes from the factorisation of G with rows and columns in reverse order: J G J = L L^T makes G = (J L J)(J L J)^T
/// with J L J upper triangular, so U is its inverse, and neither G^-1 is formed nor a second factorisation needed.
[[nodiscard]] inline result<double> factor_inverse(gram const& g, double damping, row_major& u) {
  index_t const n = g.features();
  if (g.samples() == 0) return error{errc::missing, "calibration", "no sample was seen, so the Gram matrix is empty"};
  double mean = 0.0;
  for (index_t j = 0; j < n; ++j) {
    for (index_t i = 0; i <= j; ++i)
      if (!std::isfinite(g(i, j)))
        return error{errc::not_finite, "calibration", "the Gram matrix of the inputs holds NaN or Inf"};
    mean += static_cast<double>(g(j, j) > 0.0f ? g(j, j) : 1.0f) / static_cast<double>(n);
  }
  u.resize(n, n);
  for (; damping < 10.0; damping = std::max(damping, 1e-6) * 10.0) {
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j <= i; ++j) u(i, j) = g(n - 1 - i, n - 1 - j);
    for (index_t j = 0; j < n; ++j) {
      if (!(u(j, j) > 0.0f)) u(j, j) = 1.0f;
      u(j, j) += static_cast<float>(damping * mean);
    }
    Eigen::LLT<Eigen::Ref<row_major>> const llt(u);  // in place
    if (llt.info() != Eigen::Success || !u.diagonal().allFinite()) continue;
    std::reverse(u.data(), u.data() + u.size());  // rows and columns
    for (index_t i = 0; i < n; ++i) std::fill_n(u.data() + i * n, i, 0.0f);
    invert_upper(u);
    return damping;
  }
  return error{errc::not_finite, "calibration", "the Gram matrix of the inputs has no Cholesky factor, however damped"};
}

/// What to tell the user of a Gram matrix of too few samples, and of a damping that had to be raised; mostly empty.
[[nodiscard]] inline std::string calibration_note(gram const& g, double asked, double used) {
  index_t active = 0;
  for (index_t j = 0; j < g.features(); ++j) active += g(j, j) > 0.0f ? 1 : 0;
  std::string note;
  if (g.samples() < active)
    note = "calibrated on " + std::to_string(g.samples()) + " samples for " + std::to_string(active) +
           " active inputs: where the samples say nothing, only the damping keeps the new weights close to the old";
  if (used != asked)
    note += (note.empty() ? "" : "; ") + ("damping raised from " + std::to_string(asked)) + " to " +
            std::to_string(used) + ": the Gram matrix of the inputs is too close to singular";
  return note;
}

}  // namespace pare::inline PARE_ABI::detail
