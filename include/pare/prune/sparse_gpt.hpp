// SPDX-License-Identifier: Apache-2.0
// SparseGPT: one sweep over the columns that prunes and makes up for it (Frantar & Alistarh 2023, arXiv 2301.00774).
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <pare/prune/damped_hessian.hpp>
#include <pare/prune/layer_pruner.hpp>

namespace pare::inline PARE_ABI {

/// Minimises ||(W - W') X|| greedily. With H = X X^T + damping mean(diag) I and H^-1 = U^T U (U upper triangular):
///
///   for each block of columns:  scores w_ij^2 / U_jj^2, the lowest are removed (N:M: when the sweep reaches a group)
///     for each column j:        e = (w_j - w'_j) / U_jj;  w_j.. -= e U_j,j..   (within the block; after it, the rest)
///
/// Inputs that never were active lose their weights' values (the mask keeps its exact counts). The published code
/// removes k + 1 of a block by its threshold's `<=`, here exactly k are.
/// O(K^3 + M K^2); working memory beside the result: U in float, 4 K^2 bytes and half as much while it is found, and
/// one block (M, 128).
struct sparse_gpt {
  using needs = statistics<gram>;
  static constexpr char const* name() noexcept { return "sparsegpt"; }

  /// The units that compete within a block of columns: all of them (as published), or those of each row.
  enum class pool { block, row };

  pool compares = pool::block;
  index_t block_columns = 128;  // rounded up to whole units and groups of the pattern
  double damping = 0.01;

  [[nodiscard]] result<pruned_weights> prune(matrix_span<float const> w, needs const& stats, any_pattern const& pattern,
                                             sparsity target) const {
    gram const& g = stats.template get<gram>();
    PARE_EXPECTS(g.features() == w.cols, "sparse_gpt: the statistics are of a layer with another number of inputs");
    PARE_EXPECTS(fits(pattern, w.shape()), "sparse_gpt: the pattern does not tile the weights");
    PARE_EXPECTS(block_columns > 0, "sparse_gpt: a block has at least one column");
    detail::row_major u;
    PARE_TRY(double const used, detail::factor_inverse(g, damping, u));
    pruned_weights out{matrix<float>(w), mask(w.shape(), true), detail::calibration_note(g, damping, used)};
    for (index_t c = 0; c < w.cols; ++c)
      if (!(g(c, c) > 0.0f))
        for (index_t r = 0; r < w.rows; ++r) out.weights(r, c) = 0.0f;

    index_t const step = pattern.of() > 0 ? pattern.of() : pattern.unit().cols;
    index_t const width = round_up(block_columns, step);
    for (index_t first = 0; first < w.cols; first += width) {
      index_t const last = std::min(first + width, w.cols);
      if (pattern.of() == 0) choose(out, u, pattern, target, first, last);
      sweep(out, u, pattern, first, last);
    }
    for (index_t r = 0; r < w.rows; ++r)
      for (index_t c = 0; c < w.cols; ++c)
        if (!out.keep(r, c)) out.weights(r, c) = 0.0f;
    return out;
  }

 private:
  static float saliency(float w, float u) noexcept { return w * w / (u * u); }

  /// Removes the lowest units of columns [first, last): as many as bring what is gone up to `target` of all so far.
  void choose(pruned_weights& out, detail::row_major const& u, any_pattern const& pattern, sparsity target,
              index_t first, index_t last) const {
    matrix<float> scores(out.weights.rows(), last - first);
    for (index_t r = 0; r < scores.rows(); ++r)
      for (index_t c = first; c < last; ++c) scores(r, c - first) = saliency(out.weights(r, c), u(c, c));
    extents const unit = pattern.unit();
    index_t const rows = compares == pool::row ? 1 : scores.rows() / unit.rows;  // of units, in a pool
    auto const removed_before = [&](index_t column) { return target.removed_of(rows * (column / unit.cols)); };
    index_t const removed = removed_before(last) - removed_before(first);
    sparsity const share = exactly(removed, rows * (scores.cols() / unit.cols));
    mask const keep = select(scores, pattern, share, compares == pool::row ? scope::row : scope::matrix);
    for (index_t r = 0; r < scores.rows(); ++r)
      for (index_t c = first; c < last; ++c) out.keep.set(r, c, keep(r, c - first));
  }

  static void sweep(pruned_weights& out, detail::row_major const& u, any_pattern const& pattern, index_t first,
                    index_t last) {
    index_t const width = last - first;
    index_t const rows = out.weights.rows();
    detail::row_major errors = detail::row_major::Zero(rows, width);
    for (index_t r = 0; r < rows; r += pattern.unit().rows) {  // rows that share a choice sweep together
      for (index_t c = first; c < last; ++c) {
        if (pattern.of() > 0 && c % pattern.of() == 0) choose_group(out, u, pattern, r, c);
        for (index_t i = r; i < r + pattern.unit().rows; ++i) {
          if (out.keep(i, c)) continue;
          float* const row = out.weights.row(i);
          float const e = row[c] / u(c, c);
          errors(i, c - first) = e;
          Eigen::Map<Eigen::RowVectorXf>(row + c, last - c).noalias() -= e * u.row(c).segment(c, last - c);
        }
      }
    }
    if (last == out.weights.cols()) return;
    Eigen::Map<detail::row_major> all(out.weights.data(), rows, out.weights.cols());
    all.rightCols(out.weights.cols() - last).noalias() -=
        errors * u.block(first, last, width, out.weights.cols() - last);
  }

  /// N:M: the units of a group that the sweep has just reached, by their weights as they are now.
  static void choose_group(pruned_weights& out, detail::row_major const& u, any_pattern const& pattern, index_t row,
                           index_t column) {
    constexpr index_t most = 32;
    PARE_EXPECTS(pattern.of() <= most, "sparse_gpt: N:M with M of at most 32");
    float sums[most] = {};
    for (index_t r = row; r < row + pattern.unit().rows; ++r)
      for (index_t c = 0; c < pattern.of(); ++c)
        sums[c] += saliency(out.weights(r, column + c), u(column + c, column + c));
    for (index_t removed = 0; removed < pattern.of() - pattern.keep(); ++removed) {
      index_t lowest = -1;  // of equal ones the first, as in select
      for (index_t c = 0; c < pattern.of(); ++c)
        if (out.keep(row, column + c) && (lowest < 0 || sums[c] < sums[lowest])) lowest = c;
      for (index_t r = row; r < row + pattern.unit().rows; ++r) out.keep.set(r, column + lowest, false);
    }
  }
};

}  // namespace pare::inline PARE_ABI
