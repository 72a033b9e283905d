// SPDX-License-Identifier: Apache-2.0
// WoodFisher: optimal brain surgery with the empirical Fisher information (Singh & Alistarh 2020, arXiv 2004.14340).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <Eigen/Cholesky>
#include <Eigen/Core>

#include <pare/calibrate/fisher_blocks.hpp>
#include <pare/prune/layer_pruner.hpp>

namespace pare::inline PARE_ABI {

/// Minimises the quadratic model d^T F d / 2 of what a change d of the weights costs, with the Fisher information in
/// blocks F = damping I + (1/N) sum over samples of g g^T:
///
///   score   w_j^2 / (2 [F^-1]_jj)                          what it costs to remove the weight j alone
///   update  d = -F^-1 (w_j / [F^-1]_jj, 0 where j stays)    summed: the removed weights' single updates (published)
///           d_S = (F_SS)^-1 F_SP w_P                        joint: the best for all of P removed together; S stays
///
/// F^-1 is that of the published recursion F^-1 <- F^-1 - F^-1 g g^T F^-1 / (N + g^T F^-1 g) from I / damping on; here
/// it comes from a Cholesky factorisation in double. The damping is absolute, as published: where the mean squared
/// gradient is far below it, the choice is that of magnitude.
///
/// All weights of the layer compete; every pattern. O(M K block^2); working memory: scores (M, K), 8 M K bytes for the
/// diagonal, three blocks.
struct wood_fisher {
  using needs = statistics<fisher_blocks>;
  static constexpr char const* name() noexcept { return "woodfisher"; }

  enum class update { summed, joint };

  update how = update::summed;
  double damping = 1e-3;

  /// Errors: no sample; a gradient that was not finite; a block that is singular to working precision.
  [[nodiscard]] result<pruned_weights> prune(matrix_span<float const> w, fisher_blocks const& fisher,
                                             any_pattern const& pattern, sparsity target) const {
    PARE_EXPECTS(fits(pattern, w.shape()), "wood_fisher: the pattern does not tile the weights");
    matrix<double> diagonal;
    PARE_TRY(matrix<float> const scores, score(w, fisher, diagonal));
    pruned_weights out{matrix<float>(w),
                       pattern.of() > 0 ? select(scores, pattern) : select(scores, pattern, target, scope::matrix),
                       note(fisher)};
    for (index_t q = 0; q < fisher.blocks(); ++q) {
      index_t const first = fisher.first(q);
      float* const weights = out.weights.data() + first;  // rows follow each other without a gap
      std::vector<index_t> gone;
      std::vector<index_t> stays;
      for (index_t j = 0; j < fisher.size(q); ++j)
        (out.keep((first + j) / w.cols, (first + j) % w.cols) ? stays : gone).push_back(j);
      if (gone.empty() || stays.empty()) continue;
      Eigen::MatrixXd const f = damped(fisher, q);
      Eigen::VectorXd change(std::ssize(stays));
      if (how == update::summed) {
        Eigen::VectorXd shares = Eigen::VectorXd::Zero(f.rows());
        for (index_t const j : gone) shares(j) = static_cast<double>(weights[j]) / diagonal(0, first + j);
        change = -f.llt().solve(shares)(stays);
      } else {
        Eigen::VectorXd removed(std::ssize(gone));
        for (index_t i = 0; i < removed.size(); ++i) removed(i) = weights[gone[static_cast<std::size_t>(i)]];
        change = f(stays, stays).llt().solve(f(stays, gone) * removed);
      }
      for (index_t i = 0; i < change.size(); ++i) {
        float& weight = weights[stays[static_cast<std::size_t>(i)]];
        weight = static_cast<float>(static_cast<double>(weight) + change(i));
      }
    }
    apply(out.keep, out.weights);
    return out;
  }

  /// The scores alone, (M, K); higher = keep. Errors: as for prune.
  [[nodiscard]] result<matrix<float>> score(matrix_span<float const> w, fisher_blocks const& fisher) const {
    matrix<double> diagonal;
    return score(w, fisher, diagonal);
  }

 private:
  [[nodiscard]] Eigen::MatrixXd damped(fisher_blocks const& fisher, index_t block) const {
    matrix_span<float const> const sums = fisher.sums(block);
    Eigen::MatrixXd f(sums.rows, sums.cols);
    for (index_t i = 0; i < sums.rows; ++i)
      for (index_t j = 0; j < sums.cols; ++j)
        f(i, j) = static_cast<double>(sums(i, j)) / static_cast<double>(fisher.samples()) + (i == j ? damping : 0.0);
    return f;
  }

  /// Leaves the diagonal of F^-1 in `diagonal` (1, M K).
  [[nodiscard]] result<matrix<float>> score(matrix_span<float const> w, fisher_blocks const& fisher,
                                            matrix<double>& diagonal) const {
    PARE_EXPECTS(fisher.shape() == w.shape(), "wood_fisher: the statistics are of a layer of another shape");
    PARE_EXPECTS(damping > 0.0, "wood_fisher: the damping must be positive");
    if (fisher.samples() == 0) return error{errc::missing, "calibration", "no gradient of a sample was seen"};
    matrix<float> scores(w.shape());
    diagonal = matrix<double>(1, w.shape().size());
    for (index_t q = 0; q < fisher.blocks(); ++q) {
      Eigen::MatrixXd const f = damped(fisher, q);
      if (!f.allFinite()) return error{errc::not_finite, "calibration", "the Fisher information holds NaN or Inf"};
      Eigen::LLT<Eigen::MatrixXd> const llt(f);
      if (llt.info() != Eigen::Success)
        return error{errc::out_of_range, "damping", "it is too small: a block of the Fisher information is singular"};
      Eigen::MatrixXd const inverse = llt.solve(Eigen::MatrixXd::Identity(f.rows(), f.cols()));
      for (index_t j = 0; j < f.rows(); ++j) {
        index_t const at = fisher.first(q) + j;
        diagonal(0, at) = inverse(j, j);
        auto const weight = static_cast<double>(w(at / w.cols, at % w.cols));
        scores.data()[at] = static_cast<float>(weight * weight / (2.0 * inverse(j, j)));
      }
    }
    return scores;
  }

  /// What the user should know: a damping that hides the gradients.
  [[nodiscard]] std::string note(fisher_blocks const& fisher) const {
    double total = 0.0;
    for (index_t q = 0; q < fisher.blocks(); ++q)
      for (index_t j = 0; j < fisher.size(q); ++j) total += static_cast<double>(fisher.sums(q)(j, j));
    if (total >= damping * static_cast<double>(fisher.samples()) * static_cast<double>(fisher.shape().size()))
      return {};
    return "the damping exceeds the mean squared gradient, so the choice is close to that of magnitude";
  }
};

}  // namespace pare::inline PARE_ABI
