// SPDX-License-Identifier: Apache-2.0
// D-Pruner: dual pruning, for what the domain's loss needs and what is general (Zhang et al. 2024, arXiv 2405.06275).
#pragma once

#include <cmath>
#include <vector>

#include <pare/calibrate/fisher.hpp>
#include <pare/prune/damped_hessian.hpp>
#include <pare/prune/layer_pruner.hpp>

namespace pare::inline PARE_ABI {

/// Scores a weight by the change of the domain's loss without it, sample by sample, where the loss is regularised by
/// the weight's importance G for general data (SparseGPT's w^2 / [H^-1]_jj^2 of its Cholesky factor):
///
///     S = |w| (E|g| + 2 lambda lr^2 G F) + F w^2 / 2
///
/// E|g|: the mean magnitude of the domain's gradients over samples, F their mean square. Changes no weight.
///
/// The published code sums |g' w + (g' w)^2 / 2000 + w^3|, g' = g + 2 lambda lr^2 G g^2 / 1000, over the steps of a
/// fine-tuning, its constants included and the paper's remainder O(w^3) taken literally; `cubic` adds |w|^3 here too.
/// Here there is no fine-tuning, and the parts of a sample's sum are taken to have one sign.
/// Needs: the Gram matrix of the general corpus, 4 K^2 bytes, and 16 M K bytes of the domain's. O(K^3 + M K).
struct d_pruner {
  using general_gram = of<general_corpus, gram>;
  using domain_gradient = of<domain_corpus, gradient_magnitude>;
  using domain_fisher = of<domain_corpus, fisher>;
  using needs = statistics<general_gram, domain_gradient, domain_fisher>;

  double lambda = 0.1;
  double learning_rate = 0.03;
  double damping = 0.01;
  bool cubic = false;
  /// The pool: the matrix, or every 128 columns ("iterative blocking").
  index_t block_columns = 0;  // 0: the matrix

  [[nodiscard]] result<pruned_weights> prune(matrix_span<float const> w, needs const& stats, any_pattern const& pattern,
                                             sparsity target) const {
    detail::row_major u;
    PARE_TRY(double const used, detail::factor_inverse(stats.template get<general_gram>(), damping, u));
    matrix<float> const s = scores(w, stats, u);
    for (index_t i = 0; i < s.size(); ++i)
      if (!math::is_finite(s.data()[i])) return error{errc::not_finite, "scores", "a score is NaN or infinite"};
    pruned_weights out{matrix<float>(w), mask(w.shape(), true),
                       detail::calibration_note(stats.template get<general_gram>(), damping, used)};
    if (pattern.of() > 0) {
      out.keep = select(s, pattern);
    } else {
      index_t const width = block_columns == 0 ? w.cols : round_up(block_columns, pattern.unit().cols);
      index_t const lines = w.rows / pattern.unit().rows;  // of units, in a pool
      auto const removed_before = [&](index_t column) {
        return target.removed_of(lines * (column / pattern.unit().cols));
      };
      for (index_t first = 0; first < w.cols; first += width) {
        index_t const last = std::min(first + width, w.cols);
        index_t const removed = removed_before(last) - removed_before(first);
        mask const keep = select(s.span().col_range(first, last - first), pattern,
                                 exactly(removed, lines * ((last - first) / pattern.unit().cols)));
        for (index_t r = 0; r < w.rows; ++r)
          for (index_t c = first; c < last; ++c) out.keep.set(r, c, keep(r, c - first));
      }
    }
    for (index_t r = 0; r < w.rows; ++r)
      for (index_t c = 0; c < w.cols; ++c)
        if (!out.keep(r, c)) out.weights(r, c) = 0.0f;
    return out;
  }

 private:
  [[nodiscard]] matrix<float> scores(matrix_span<float const> w, needs const& stats, detail::row_major const& u) const {
    gradient_magnitude const& g = stats.template get<domain_gradient>();
    fisher const& f = stats.template get<domain_fisher>();
    PARE_EXPECTS(g.shape() == w.shape() && f.shape() == w.shape() && u.rows() == w.cols,
                 "d_pruner: the statistics are of a layer of another shape");
    matrix<float> out(w.shape());
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        auto const m = std::abs(static_cast<double>(w(i, j)));
        auto const diagonal = static_cast<double>(u(j, j));
        double const general = m * m / (diagonal * diagonal);
        double const gradient = g(i, j) + 2.0 * lambda * learning_rate * learning_rate * general * f(i, j);
        out(i, j) = static_cast<float>(gradient * m + 0.5 * f(i, j) * m * m + (cubic ? m * m * m : 0.0));
      }
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
