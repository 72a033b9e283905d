// SPDX-License-Identifier: Apache-2.0
// Mean gradient of a layer's weights: what first-order criteria need (Taylor, SNIP, gradient alignment).
#pragma once

#include <pare/calibrate/outer_products.hpp>
#include <pare/calibrate/statistics.hpp>

namespace pare::inline PARE_ABI {

/// g = (1 / positions) sum of the gradients, (M, K): the gradient of the mean loss over all positions of all samples.
/// Memory: 4 M K bytes. Summed in float, call by call: each entry is within (calls + columns of the largest call) 2^-24
/// of the sum of its terms' magnitudes.
class gradient_mean {
 public:
  explicit gradient_mean(extents shape) : sum_(shape) {}

  void add(gradient_batch const& batch) {
    add_outer_products(batch.delta, batch.x, sum_);
    if (batch.columns_are_samples) positions_ += batch.x.cols;
  }
  void add_gradient(matrix_span<float const> gradient) {
    PARE_EXPECTS(gradient.shape() == shape(), "gradient_mean: the gradient must have the weights' shape");
    for (index_t i = 0; i < gradient.rows; ++i)
      for (index_t j = 0; j < gradient.cols; ++j) sum_(i, j) += gradient(i, j);
  }
  void close(index_t positions) { positions_ += positions; }
  void merge(gradient_mean const& other) {
    PARE_EXPECTS(other.shape() == shape(), "gradient_mean::merge: both must be of weights of the same shape");
    for (index_t i = 0; i < sum_.size(); ++i) sum_.data()[i] += other.sum_.data()[i];
    positions_ += other.positions_;
  }

  [[nodiscard]] extents shape() const noexcept { return sum_.shape(); }
  [[nodiscard]] index_t positions() const noexcept { return positions_; }
  /// The mean gradient of weight (i, j); 0 before any position.
  [[nodiscard]] double operator()(index_t i, index_t j) const noexcept {
    return positions_ == 0 ? 0.0 : static_cast<double>(sum_(i, j)) / static_cast<double>(positions_);
  }

 private:
  matrix<float> sum_;
  index_t positions_ = 0;
};

}  // namespace pare::inline PARE_ABI
