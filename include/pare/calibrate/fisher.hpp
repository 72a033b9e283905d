// SPDX-License-Identifier: Apache-2.0
// Moments of a layer's gradients over samples: the diagonal of the empirical Fisher information, by samples or by
// positions, and the mean magnitude.
#pragma once

#include <pare/calibrate/outer_products.hpp>
#include <pare/calibrate/statistics.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// (1 / samples) sum over samples of f(g), f as Moment says.
template <class Moment>
class sample_moment {
 public:
  explicit sample_moment(extents shape) : sum_(shape) {}

  void add(gradient_batch const& batch) {
    if (batch.columns_are_samples) {
      add_outer_products_of<Moment>(batch.delta, batch.x, sum_);
      samples_ += batch.x.cols;
    } else {
      add_outer_products(batch.delta, batch.x, open());
    }
  }
  void add_gradient(matrix_span<float const> gradient) {
    PARE_EXPECTS(gradient.shape() == shape(), "gradient moments: the gradient must have the weights' shape");
    matrix<float>& sample = open();
    for (index_t i = 0; i < gradient.rows; ++i)
      for (index_t j = 0; j < gradient.cols; ++j) sample(i, j) += gradient(i, j);
  }
  void close(index_t positions) {
    PARE_EXPECTS(positions > 0, "gradient moments: a sample has at least one position");
    matrix<float>& sample = open();
    float const share = 1.0f / static_cast<float>(positions);
    for (index_t i = 0; i < sum_.size(); ++i) {
      sum_.data()[i] += Moment::of(sample.data()[i] * share);
      sample.data()[i] = 0.0f;
    }
    ++samples_;
  }
  void merge(sample_moment const& other) {
    PARE_EXPECTS(other.shape() == shape(), "gradient moments: both must be of weights of the same shape");
    for (index_t i = 0; i < sum_.size(); ++i) sum_.data()[i] += other.sum_.data()[i];
    samples_ += other.samples_;
  }

  [[nodiscard]] extents shape() const noexcept { return sum_.shape(); }
  [[nodiscard]] index_t samples() const noexcept { return samples_; }
  /// Of weight (i, j); 0 before any sample.
  [[nodiscard]] double operator()(index_t i, index_t j) const noexcept {
    return samples_ == 0 ? 0.0 : static_cast<double>(sum_(i, j)) / static_cast<double>(samples_);
  }

 private:
  /// The gradient of the open sample.
  matrix<float>& open() {
    if (open_.shape() != shape()) open_ = matrix<float>(shape());
    return open_;
  }

  matrix<float> sum_;
  matrix<float> open_;
  index_t samples_ = 0;
};
}  // namespace detail

/// F = (1 / samples) sum over samples of g^2, (M, K), g the gradient of the sample's loss, a mean over its positions.
/// Summed in float: all terms are positive, so each entry has a relative error of at most (samples + positions) 2^-24,
/// however small it is; a gradient below 1e-19 squares to 0. Memory: 4 M K bytes, and as much again for the sample that
/// is open, where samples are not columns.
struct fisher : detail::sample_moment<detail::square> {
  using sample_moment::sample_moment;
};

/// (1 / samples) sum over samples of |g|: error and memory as for `fisher`.
struct gradient_magnitude : detail::sample_moment<detail::absolute_value> {
  using sample_moment::sample_moment;
};

/// P = (1 / positions) sum over positions t of (delta_t^2) (x_t^2)^T, (M, K): every position counts as a sample, with
/// delta the gradient of the *summed* loss, so that one backward pass of a long text gives as many samples as it has
/// tokens. Error as for `fisher`, with positions for samples. Memory: 4 M K bytes. It has no add_gradient: the gradient
/// of a whole text does not say what its positions were.
class position_fisher {
 public:
  explicit position_fisher(extents shape) : sum_(shape) {}

  void add(gradient_batch const& batch) {
    detail::add_outer_products_of<detail::square>(batch.delta, batch.x, sum_);
    if (batch.columns_are_samples) positions_ += batch.x.cols;
  }
  void close(index_t positions) { positions_ += positions; }
  void merge(position_fisher const& other) {
    PARE_EXPECTS(other.shape() == shape(), "position_fisher::merge: both must be of weights of the same shape");
    for (index_t i = 0; i < sum_.size(); ++i) sum_.data()[i] += other.sum_.data()[i];
    positions_ += other.positions_;
  }

  [[nodiscard]] extents shape() const noexcept { return sum_.shape(); }
  [[nodiscard]] index_t positions() const noexcept { return positions_; }
  /// P of weight (i, j); 0 before any position.
  [[nodiscard]] double operator()(index_t i, index_t j) const noexcept {
    return positions_ == 0 ? 0.0 : static_cast<double>(sum_(i, j)) / static_cast<double>(positions_);
  }

 private:
  matrix<float> sum_;
  index_t positions_ = 0;
};

}  // namespace pare::inline PARE_ABI
