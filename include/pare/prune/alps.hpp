// SPDX-License-Identifier: Apache-2.0
// ALPS: the layer-wise pruning problem by ADMM, then conjugate gradients on the support that it found
// (Meng, Behdin, Wang, Mazumder 2024, arXiv 2406.07831).
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <Eigen/Eigenvalues>

#include <pare/prune/damped_hessian.hpp>
#include <pare/prune/layer_pruner.hpp>

namespace pare::inline PARE_ABI {

/// Minimises ||(W - B) X||^2 over B with a mask of the pattern. With G = X X^T + damping mean(diag) I, scaled to a unit
/// diagonal (and W by its square root):
///
///   B = (W G - V + rho D) (G + rho I)^-1        one eigendecomposition of G serves all rho
///   D = the pattern's projection of B + V/rho   (the highest squares, in the whole matrix)
///   V = V + rho (B - D)
///
/// Every three rounds rho grows by 1.3, 1.2 or 1.1, the more the support still changes, and is divided by five (and the
/// start repeated) where it never did. Then the weights on the support are refined by conjugate gradients, each row
/// with steps of its own (the published code has one step for all rows).
///
/// With Z = B + V/rho what is kept of Z is D and what is not is V/rho, so Z and the mask are the whole state.
/// O(K^3 + rounds M K^2); working memory: about seven times W (two of them while the projection selects), and G in
/// float, its eigenvectors in both precisions.
struct alps {
  using needs = statistics<gram>;
  static constexpr char const* name() noexcept { return "alps"; }

  double damping = 0.01;
  double rho = 0.1;         // where it starts
  int rounds = 300;         // of ADMM, at most
  int refinements = 10;     // steps of conjugate gradients
  double tolerance = 1e-4;  // of a row's residual, relative, where its refinement ends

  [[nodiscard]] result<pruned_weights> prune(matrix_span<float const> w, needs const& stats, any_pattern const& pattern,
                                             sparsity target) const {
    gram const& g = stats.template get<gram>();
    PARE_EXPECTS(g.features() == w.cols, "alps: the statistics are of a layer with another number of inputs");
    PARE_EXPECTS(fits(pattern, w.shape()), "alps: the pattern does not tile the weights");
    PARE_EXPECTS(rho > 0.0 && damping >= 0.0, "alps: rho must be positive and damping not negative");
    if (g.samples() == 0) return error{errc::missing, "calibration", "no sample was seen, so the Gram matrix is empty"};
    index_t const n = w.cols;
    if (w.rows == 0 || n == 0) return pruned_weights{matrix<float>(w), mask(w.shape(), true)};

    Eigen::MatrixXd scaled(n, n);
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j) scaled(i, j) = static_cast<double>(g(i, j));
    if (!scaled.allFinite())
      return error{errc::not_finite, "calibration", "the Gram matrix of the inputs holds NaN or Inf"};
    double const mean = scaled.diagonal().mean();
    scaled.diagonal().array() += mean > 0.0 ? damping * mean : 1.0;
    Eigen::VectorXd const norm = scaled.diagonal().array().sqrt() + 1e-8;
    scaled = norm.cwiseInverse().asDiagonal() * scaled * norm.cwiseInverse().asDiagonal();
    row_major const hessian = scaled.cast<float>();
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const eigen(scaled);
    if (eigen.info() != Eigen::Success)
      return error{errc::not_finite, "calibration", "the eigenvalues of the Gram matrix could not be found"};
    scaled.resize(0, 0);

    row_major start(w.rows, n);
    for (index_t r = 0; r < w.rows; ++r)
      for (index_t c = 0; c < n; ++c) start(r, c) = w(r, c) * static_cast<float>(norm(c));
    pruned_weights out{matrix<float>(w.shape()), mask(w.shape(), true)};
    Eigen::Map<row_major> z(out.weights.data(), w.rows, n);
    search(start, eigen.eigenvectors().cast<float>(), eigen.eigenvalues(), pattern, target, z, out.keep);
    drop(z, out.keep);
    refine(start, hessian, out.keep, z);
    for (index_t r = 0; r < w.rows; ++r)
      for (index_t c = 0; c < n; ++c) z(r, c) = out.keep(r, c) ? z(r, c) / static_cast<float>(norm(c)) : 0.0f;
    return out;
  }

 private:
  using row_major = detail::row_major;

  static mask project(Eigen::Ref<row_major const> z, any_pattern const& pattern, sparsity target) {
    matrix<float> squares(z.rows(), z.cols());
    for (index_t r = 0; r < z.rows(); ++r)
      for (index_t c = 0; c < z.cols(); ++c) squares(r, c) = z(r, c) * z(r, c);
    return pattern.of() > 0 ? select(squares, pattern) : select(squares, pattern, target, scope::matrix);
  }

  static void drop(Eigen::Ref<row_major> z, mask const& keep) {
    for (index_t r = 0; r < z.rows(); ++r)
      for (index_t c = 0; c < z.cols(); ++c)
        if (!keep(r, c)) z(r, c) = 0.0f;
  }

  /// ADMM from `start` on: leaves Z in z and the support in `keep`.
  void search(row_major const& start, Eigen::MatrixXf const& vectors, Eigen::VectorXd const& values,
              any_pattern const& pattern, sparsity target, Eigen::Ref<row_major> z, mask& keep) const {
    // W G in the basis of the eigenvectors.
    row_major const rotated = (start * vectors) * values.cast<float>().asDiagonal();
    row_major work(start.rows(), start.cols());
    z = start;
    keep = project(z, pattern, target);
    drop(z, keep);  // V = 0
    mask before = keep;
    double now = rho;
    bool raised = false;
    for (int round = 1; round <= rounds; ++round) {
      for (index_t r = 0; r < z.rows(); ++r)  // rho D - V
        for (index_t c = 0; c < z.cols(); ++c) work(r, c) = static_cast<float>(now) * (keep(r, c) ? z(r, c) : -z(r, c));
      work = work * vectors;
      work = (work + rotated) * (values.array() + now).inverse().matrix().cast<float>().asDiagonal();
      work = work * vectors.transpose();  // B
      for (index_t r = 0; r < z.rows(); ++r)
        for (index_t c = 0; c < z.cols(); ++c) z(r, c) = work(r, c) + (keep(r, c) ? 0.0f : z(r, c));
      keep = project(z, pattern, target);
      if (round % 3 != 0) continue;

      index_t const changed = (before ^ keep).count() / 2;  // left the support, as many as entered it
      before = keep;
      double const share = static_cast<double>(changed) / static_cast<double>(std::max<index_t>(keep.count(), 1));
      double next = now;
      if (share > 0.1) {
        next = 1.3 * now;
      } else if (share > 0.005) {
        next = 1.2 * now;
      } else if (changed > 0 && raised) {
        next = 1.1 * now;
      } else if (changed > 0) {  // too large from the start: again with less
        now /= 5.0;
        z = start;
        keep = before = project(z, pattern, target);
        drop(z, keep);
        continue;
      } else {
        if (raised) return;
        next = now / 5.0;
      }
      raised = raised || next > now;
      next = std::min(next, 1e6);
      if (round > 30 && share < 3e-4) return;
      // V stays what it is: its part of Z is V / rho.
      auto const factor = static_cast<float>(now / next);
      for (index_t r = 0; r < z.rows(); ++r)
        for (index_t c = 0; c < z.cols(); ++c)
          if (!keep(r, c)) z(r, c) *= factor;
      now = next;
    }
  }

  /// Conjugate gradients for (W - B) G = 0 on the support, from B = z on.
  void refine(row_major const& w, row_major const& hessian, mask const& keep, Eigen::Ref<row_major> z) const {
    row_major residual = (w - z) * hessian;
    drop(residual, keep);
    row_major direction = residual;
    row_major image(w.rows(), w.cols());
    Eigen::VectorXf const first = residual.rowwise().squaredNorm();
    Eigen::VectorXf squared = first;
    auto const limit = static_cast<float>(tolerance * tolerance);
    for (int i = 0; i < refinements; ++i) {
      image.noalias() = direction * hessian;
      drop(image, keep);
      bool done = true;
      for (index_t r = 0; r < w.rows(); ++r) {
        float const curvature = direction.row(r).dot(image.row(r));
        if (!(squared(r) > limit * first(r)) || !(curvature > 0.0f)) continue;
        done = false;
        float const step = squared(r) / curvature;
        z.row(r) += step * direction.row(r);
        residual.row(r) -= step * image.row(r);
        float const next = residual.row(r).squaredNorm();
        direction.row(r) = residual.row(r) + (next / squared(r)) * direction.row(r);
        squared(r) = next;
      }
      if (done) return;
    }
  }
};

}  // namespace pare::inline PARE_ABI
