// SPDX-License-Identifier: Apache-2.0
// The empirical Fisher information within blocks of a layer's weights (WoodFisher: Singh & Alistarh 2020,
// arXiv 2004.14340).
#pragma once

#include <algorithm>
#include <vector>

#include <pare/calibrate/outer_products.hpp>
#include <pare/calibrate/statistics.hpp>
#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// sum over samples of g g^T for each block of `block` consecutive weights, where g is the block's part of the gradient
/// of one sample's loss. The weights (M, K) count row by row as one sequence (as in the published code), so that where
/// K is a multiple of `block` no block spans two rows; the last one may be shorter. Normaliser: none (raw sum).
/// Memory: 4 M K block bytes. Accumulated in float: each entry is within (samples + 1) * 2^-24 of sum |g_i g_j|.
class fisher_blocks {
 public:
  /// Of the weights (M, K). Pre: block > 0.
  explicit fisher_blocks(extents shape, index_t block = 64)
      : shape_(shape), block_(std::min(block, std::max<index_t>(shape.size(), 1))), sums_(shape.size(), block_) {
    PARE_EXPECTS(block > 0, "fisher_blocks: a block has at least one weight");
  }

  /// gradient (M, K): of the loss of one sample, or of the mean loss of a small batch that counts as one.
  /// O(M K block).
  void add_sample(matrix_span<float const> gradient) {
    PARE_EXPECTS(gradient.shape() == shape_, "fisher_blocks::add_sample: the gradient must have the weights' shape");
    std::vector<float> g(static_cast<std::size_t>(block_));
    index_t row = 0;
    index_t col = 0;
    for (index_t q = 0; q < blocks(); ++q) {
      index_t const n = size(q);
      for (index_t i = 0; i < n; ++i) {
        g[static_cast<std::size_t>(i)] = gradient(row, col);
        if (++col == shape_.cols) col = 0, ++row;
      }
      for (index_t i = 0; i < n; ++i) {
        float const gi = g[static_cast<std::size_t>(i)];
        if (gi == 0.0f) continue;  // where a unit was silent whole rows are
        float* const sum = sums_.row(first(q) + i);
        for (index_t j = 0; j < n; ++j) sum[j] += gi * g[static_cast<std::size_t>(j)];
      }
    }
    ++samples_;
  }

  /// As a gradient statistic, see there: of the mean loss over a sample's positions. Memory: 4 M K bytes for the open
  /// sample; where columns are samples, O(M K block) for each.
  void add(gradient_batch const& batch) {
    if (!batch.columns_are_samples) return add_outer_products(batch.delta, batch.x, open());
    for (index_t n = 0; n < batch.x.cols; ++n) {
      add_outer_products(batch.delta.col_range(n, 1), batch.x.col_range(n, 1), open());
      close(1);
    }
  }
  void add_gradient(matrix_span<float const> gradient) {
    PARE_EXPECTS(gradient.shape() == shape_, "fisher_blocks: the gradient must have the weights' shape");
    matrix<float>& sample = open();
    for (index_t i = 0; i < gradient.rows; ++i)
      for (index_t j = 0; j < gradient.cols; ++j) sample(i, j) += gradient(i, j);
  }
  void close(index_t positions) {
    PARE_EXPECTS(positions > 0, "fisher_blocks::close: a sample has at least one position");
    matrix<float>& sample = open();
    for (index_t i = 0; i < sample.size(); ++i) sample.data()[i] /= static_cast<float>(positions);
    add_sample(sample.span());
    std::fill_n(sample.data(), sample.size(), 0.0f);
  }

  void merge(fisher_blocks const& other) {
    PARE_EXPECTS(other.shape_ == shape_ && other.block_ == block_,
                 "fisher_blocks::merge: both must be of the same shape and width of blocks");
    for (index_t i = 0; i < sums_.size(); ++i) sums_.data()[i] += other.sums_.data()[i];
    samples_ += other.samples_;
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t samples() const noexcept { return samples_; }
  /// How many blocks there are; the first weight of one, in the order row by row; and how many weights it has.
  [[nodiscard]] index_t blocks() const noexcept { return ceil_div(shape_.size(), block_); }
  [[nodiscard]] index_t first(index_t block) const noexcept { return block * block_; }
  [[nodiscard]] index_t size(index_t block) const noexcept { return std::min(block_, shape_.size() - first(block)); }
  /// sum of g g^T of one block, (size, size), symmetric.
  [[nodiscard]] matrix_span<float const> sums(index_t block) const noexcept {
    return {sums_.row(first(block)), size(block), size(block), block_};
  }

 private:
  /// The gradient of the open sample.
  matrix<float>& open() {
    if (open_.shape() != shape_) open_ = matrix<float>(shape_);
    return open_;
  }

  extents shape_;
  index_t block_;
  matrix<float> open_;
  matrix<float> sums_;  // (M K, block): a row for each weight
  index_t samples_ = 0;
};

}  // namespace pare::inline PARE_ABI
