// SPDX-License-Identifier: Apache-2.0
// ALPS: the layer-wise pruning problem by ADMM, then conjugate gradients on the support that it found
// (Meng, Behdin, Wang, Mazumder 2024, arXiv 2406.07831).
#pragma once

#include <algorithm>
#include <utility>

#include <Eigen/Eigenvalues>

#include <pare/prune/damped_hessian.hpp>
#include <pare/prune/layer_pruner.hpp>

namespace pare::inline PARE_ABI {

/// Minimises ||(W - B) X||^2 over B with a mask of the pattern. With G = X X^T + damping mean(diag) I, scaled to a unit
/// diagonal (and W by its square root):
///
///   B = W + (rho D - V - rho W) (G + rho I)^-1   one eigendecomposition of G serves all rho
///   D = the pattern's projection of B + V/rho    (the highest squares, in the whole matrix)
///   V = V + rho (B - D)
///
/// Every three rounds rho grows by 1.3, 1.2 or 1.1, the more the support still changes, and is divided by five (and the
/// start repeated) where it never did. Then the weights on the support are refined by conjugate gradients, each row
/// with steps of its own (the published code has one step for all rows).
///
/// With Z = B + V/rho what is kept of Z is D and what is not is V/rho, so Z and the mask are the whole state. Z is the
/// output, B is needed for as many rows at a time as are multiplied at once: no copy of W beside it.
/// O(K^3 + rounds M K^2); working memory: 256 rows of W three times (or as many as share a choice), and 12 K^2 bytes
/// (the eigenvectors in double and float), of which 4 K^2 stay while it searches.
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
    pruned_weights out{matrix<float>(w.shape()), mask(w.shape(), true), detail::calibration_note(g, damping, damping)};
    if (w.rows == 0 || w.cols == 0) return out;
    problem const layer(w, g, damping);
    PARE_TRY_VOID(search(layer, pattern, target, out));
    refine(layer, out);
    for (index_t r = 0; r < w.rows; ++r)
      for (index_t c = 0; c < w.cols; ++c)
        out.weights(r, c) = out.keep(r, c) ? out.weights(r, c) / layer.norm(c) : 0.0f;
    return out;
  }

 private:
  using row_major = detail::row_major;

  /// The layer scaled so that the damped Gram matrix has a unit diagonal.
  struct problem {
    matrix_span<float const> weights;
    gram const& g;
    double added = 0.0;  // to the diagonal
    Eigen::VectorXd scale;
    Eigen::VectorXf norm;  // the same in float

    problem(matrix_span<float const> w, gram const& sums, double damping) : weights(w), g(sums), scale(w.cols) {
      for (index_t i = 0; i < w.cols; ++i) scale(i) = static_cast<double>(g(i, i));
      double const mean = scale.mean();
      added = mean > 0.0 ? damping * mean : 1.0;
      scale = (scale.array() + added).sqrt() + 1e-8;
      norm = scale.cast<float>();
    }
    [[nodiscard]] float w(index_t r, index_t c) const { return weights(r, c) * norm(c); }
    [[nodiscard]] double hessian(index_t i, index_t j) const {
      return (static_cast<double>(g(i, j)) + (i == j ? added : 0.0)) / (scale(i) * scale(j));
    }
  };
  struct basis {
    Eigen::MatrixXf vectors;
    Eigen::VectorXd values;
  };

  static result<basis> decompose(problem const& layer) {
    index_t const n = layer.weights.cols;
    for (index_t i = 0; i < n; ++i)
      for (index_t j = i; j < n; ++j)
        if (!math::is_finite(layer.g(i, j)))
          return error{errc::not_finite, "calibration", "the Gram matrix of the inputs holds NaN or Inf"};
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const eigen(
        Eigen::MatrixXd::NullaryExpr(n, n, [&](index_t i, index_t j) { return layer.hessian(i, j); }));
    if (eigen.info() != Eigen::Success)
      return error{errc::not_finite, "calibration", "the eigenvalues of the Gram matrix could not be found"};
    return basis{eigen.eigenvectors().cast<float>(), eigen.eigenvalues()};
  }

  /// f(first, count) for all rows, some at a time: enough for products of matrices to be fast, few enough for scratch.
  template <class F>
  static void by_rows(index_t rows, F f) {
    constexpr index_t at_once = 256;
    for (index_t first = 0; first < rows; first += at_once) f(first, std::min(at_once, rows - first));
  }

  /// The support of the pattern that holds most of z's squares, without a copy of them.
  static void project(matrix<float> const& z, any_pattern const& pattern, sparsity target, mask& keep) {
    detail::made_rows squares(z.shape(), [&z](index_t first, matrix_span<float> out) {
      for (index_t i = 0; i < out.rows; ++i)
        for (index_t j = 0; j < out.cols; ++j) out(i, j) = z(first + i, j) * z(first + i, j);
    });
    keep = detail::select_units(squares, pattern.unit(), [&](auto& units) {
      return pattern.of() > 0 ? detail::select_of_groups(units, pattern.keep(), pattern.of())
                              : detail::select_lowest(units, target, scope::matrix);
    });
  }

  /// Z = W on its support, V = 0: where the search starts.
  static void restart(problem const& layer, any_pattern const& pattern, sparsity target, pruned_weights& state) {
    matrix<float>& z = state.weights;
    for (index_t r = 0; r < z.rows(); ++r)
      for (index_t c = 0; c < z.cols(); ++c) z(r, c) = layer.w(r, c);
    project(z, pattern, target, state.keep);
    apply(state.keep, z);
  }

  /// ADMM: leaves D in `state`.
  result<void> search(problem const& layer, any_pattern const& pattern, sparsity target, pruned_weights& state) const {
    PARE_TRY(basis const turn, decompose(layer));
    matrix<float>& z = state.weights;
    restart(layer, pattern, target, state);
    mask before = state.keep;
    row_major work;
    row_major turned;
    double now = rho;
    bool raised = false;
    for (int round = 1; round <= rounds; ++round) {
      Eigen::RowVectorXf const shrink = (now * (turn.values.array() + now).inverse()).cast<float>();
      by_rows(z.rows(), [&](index_t first, index_t count) {
        work.resize(count, z.cols());
        for (index_t r = 0; r < count; ++r)  // D - V/rho - W
          for (index_t c = 0; c < z.cols(); ++c)
            work(r, c) = (state.keep(first + r, c) ? z(first + r, c) : -z(first + r, c)) - layer.w(first + r, c);
        turned.noalias() = work * turn.vectors;
        turned.array().rowwise() *= shrink.array();
        work.noalias() = turned * turn.vectors.transpose();  // B - W
        for (index_t r = 0; r < count; ++r)
          for (index_t c = 0; c < z.cols(); ++c)
            z(first + r, c) = work(r, c) + layer.w(first + r, c) + (state.keep(first + r, c) ? 0.0f : z(first + r, c));
      });
      project(z, pattern, target, state.keep);
      if (round % 3 != 0) continue;

      index_t const changed = (before ^ state.keep).count() / 2;  // left the support, as many as entered it
      before = state.keep;
      double const share = static_cast<double>(changed) / static_cast<double>(std::max<index_t>(state.keep.count(), 1));
      double next = now;
      if (share > 0.1) {
        next = 1.3 * now;
      } else if (share > 0.005) {
        next = 1.2 * now;
      } else if (changed > 0 && raised) {
        next = 1.1 * now;
      } else if (changed > 0) {  // too large from the start: again with less
        now /= 5.0;
        restart(layer, pattern, target, state);
        before = state.keep;
        continue;
      } else {
        if (raised) break;
        next = now / 5.0;
      }
      raised = raised || next > now;
      next = std::min(next, 1e6);
      if (round > 30 && share < 3e-4) break;
      // V stays what it is: its part of Z is V / rho.
      auto const factor = static_cast<float>(now / next);
      for (index_t r = 0; r < z.rows(); ++r)
        for (index_t c = 0; c < z.cols(); ++c)
          if (!state.keep(r, c)) z(r, c) *= factor;
      now = next;
    }
    apply(state.keep, z);
    return {};
  }

  /// Conjugate gradients for (W - B) G = 0 on the support, from B = D on.
  void refine(problem const& layer, pruned_weights& state) const {
    index_t const n = layer.weights.cols;
    row_major const hessian =
        row_major::NullaryExpr(n, n, [&](index_t i, index_t j) { return static_cast<float>(layer.hessian(i, j)); });
    auto const limit = static_cast<float>(tolerance * tolerance);
    row_major residual;
    row_major direction;
    row_major image;
    by_rows(state.weights.rows(), [&](index_t start, index_t count) {
      Eigen::Map<row_major> z(state.weights.row(start), count, n);
      auto const multiply = [&](row_major& out) {  // by the Hessian, on the support
        out.noalias() = direction * hessian;
        for (index_t r = 0; r < count; ++r)
          for (index_t c = 0; c < n; ++c)
            if (!state.keep(start + r, c)) out(r, c) = 0.0f;
      };
      direction.resize(count, n);
      for (index_t r = 0; r < count; ++r)
        for (index_t c = 0; c < n; ++c) direction(r, c) = layer.w(start + r, c) - z(r, c);
      multiply(residual);
      direction = residual;
      Eigen::VectorXf const first = residual.rowwise().squaredNorm();
      Eigen::VectorXf squared = first;
      bool done = false;
      for (int i = 0; i < refinements && !done; ++i) {
        multiply(image);
        done = true;
        for (index_t r = 0; r < count; ++r) {
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
      }
    });
  }
};

}  // namespace pare::inline PARE_ABI
