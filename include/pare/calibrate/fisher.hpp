// SPDX-License-Identifier: Apache-2.0
// Moments of a layer's gradients over samples: the diagonal of the empirical Fisher information, by samples or by
// positions, and the mean magnitude.
#pragma once

#include <pare/calibrate/gradient_average.hpp>
#include <pare/calibrate/outer_products.hpp>
#include <pare/calibrate/statistics.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// (1 / samples) sum over samples of f(g), f as Moment says.
template <class Moment>
class sample_moment : public gradient_average {
 public:
  using gradient_average::gradient_average;

  void add(gradient_batch const& batch) {
    if (batch.columns_are_samples) {
      add_outer_products_of<Moment>(batch.delta, batch.x, sum_);
      terms_ += batch.x.cols;
    } else {
      add_outer_products(batch.delta, batch.x, open());
    }
  }
  void add_gradient(matrix_span<float const> gradient) { add_to(open(), gradient); }
  void close(index_t positions) {
    PARE_EXPECTS(positions > 0, "gradient moments: a sample has at least one position");
    matrix<float>& sample = open();
    float const share = 1.0f / static_cast<float>(positions);
    for (index_t i = 0; i < sum_.size(); ++i) {
      sum_.data()[i] += Moment::of(sample.data()[i] * share);
      sample.data()[i] = 0.0f;
    }
    ++terms_;
  }

  [[nodiscard]] index_t samples() const noexcept { return terms_; }

 private:
  /// The gradient of the open sample.
  matrix<float>& open() {
    if (open_.shape() != shape()) open_ = matrix<float>(shape());
    return open_;
  }

  matrix<float> open_;
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
class position_fisher : public detail::gradient_average {
 public:
  using gradient_average::gradient_average;

  void add(gradient_batch const& batch) {
    detail::add_outer_products_of<detail::square>(batch.delta, batch.x, sum_);
    if (batch.columns_are_samples) terms_ += batch.x.cols;
  }
  void close(index_t positions) { terms_ += positions; }

  [[nodiscard]] index_t positions() const noexcept { return terms_; }
};

}  // namespace pare::inline PARE_ABI
