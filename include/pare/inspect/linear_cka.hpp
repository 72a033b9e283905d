// SPDX-License-Identifier: Apache-2.0
// Linear CKA: how alike two networks' features of the same inputs are (Kornblith et al. 2019, arXiv 1905.00414).
#pragma once

#include <algorithm>

#include <Eigen/Core>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>

namespace pare::inline PARE_ABI {

/// ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F) with the mean of every feature removed: 1 for features that are equal up
/// to a rotation and a scale, 0 for uncorrelated ones. Of a dense and a pruned network: how far a layer has moved.
///
/// Streaming: batches are added as they come. Sums are of deviations from the running means, in double, and batches are
/// joined exactly (Chan et al. 1983), so large means cost no digits. Memory: 8 (K_x^2 + K_y^2 + K_x K_y) bytes.
class linear_cka {
 public:
  linear_cka(index_t x_features, index_t y_features)
      : mean_x_(Eigen::VectorXd::Zero(x_features)),
        mean_y_(Eigen::VectorXd::Zero(y_features)),
        xx_(Eigen::MatrixXd::Zero(x_features, x_features)),
        yy_(Eigen::MatrixXd::Zero(y_features, y_features)),
        xy_(Eigen::MatrixXd::Zero(x_features, y_features)) {}

  /// x (K_x, N) and y (K_y, N): column n of both is of the same input. O(N (K_x^2 + K_y^2 + K_x K_y)).
  void add(matrix_span<float const> x, matrix_span<float const> y) {
    PARE_EXPECTS(x.rows == mean_x_.size() && y.rows == mean_y_.size(),
                 "linear_cka::add: x and y must have one row for each of their features");
    PARE_EXPECTS(x.cols == y.cols, "linear_cka::add: x and y must be of the same inputs");
    if (x.cols == 0) return;
    Eigen::MatrixXd a = widened(x), b = widened(y);
    Eigen::VectorXd const mean_a = a.rowwise().mean(), mean_b = b.rowwise().mean();
    a.colwise() -= mean_a;
    b.colwise() -= mean_b;
    auto const before = static_cast<double>(samples_), here = static_cast<double>(x.cols), all = before + here;
    Eigen::VectorXd const shift_x = mean_a - mean_x_, shift_y = mean_b - mean_y_;
    double const between = before * here / all;  // weight of the distance of the two means
    xx_.noalias() += a * a.transpose();
    yy_.noalias() += b * b.transpose();
    xy_.noalias() += a * b.transpose();
    xx_.noalias() += between * shift_x * shift_x.transpose();
    yy_.noalias() += between * shift_y * shift_y.transpose();
    xy_.noalias() += between * shift_x * shift_y.transpose();
    mean_x_ += here / all * shift_x;
    mean_y_ += here / all * shift_y;
    samples_ += x.cols;
  }

  [[nodiscard]] index_t samples() const noexcept { return samples_; }

  /// The value, in [0, 1]. Errors: features that are not finite; a side without any variance (as with fewer than two
  /// samples), of which nothing can be said.
  [[nodiscard]] result<double> value() const {
    double const x = xx_.norm(), y = yy_.norm();
    double const cka = xy_.squaredNorm() / (x * y);
    if (!(x - x == 0.0) || !(y - y == 0.0))
      return error{errc::not_finite, "features", "expected finite features, found NaN or Inf"};
    if (!(cka - cka == 0.0))
      return error{errc::out_of_range, "features", "expected features that vary over the samples, found constant ones"};
    return std::min(cka, 1.0);
  }

 private:
  static Eigen::MatrixXd widened(matrix_span<float const> m) {
    using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
    return Eigen::Map<Eigen::MatrixXf const, 0, strides>(m.data, m.rows, m.cols, strides(m.col_stride, m.row_stride))
        .cast<double>();
  }

  index_t samples_ = 0;
  Eigen::VectorXd mean_x_, mean_y_;
  Eigen::MatrixXd xx_, yy_, xy_;  // sums of products of deviations from the means
};

}  // namespace pare::inline PARE_ABI
