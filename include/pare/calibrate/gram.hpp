// SPDX-License-Identifier: Apache-2.0
// Gram matrix of a layer's inputs: what solvers that update weights need (SparseGPT, ALPS).
#pragma once

#include <Eigen/Core>

#include <pare/calibrate/statistics.hpp>

namespace pare::inline PARE_ABI {

/// G = sum over samples of x x^T, (K, K). Normaliser: none (raw sum over tokens or pixels); solvers of one layer do not
/// depend on a factor. Memory: 4 K^2 bytes. Accumulated in float, batch by batch: each entry is within
/// (batches + N of the largest batch) * 2^-24 of sum |x_i x_j|.
class gram {
 public:
  explicit gram(index_t features) : sums_(features, features) {}

  /// x (K, N). O(K^2 N / 2).
  void add(matrix_span<float const> x) {
    PARE_EXPECTS(x.rows == features(), "gram::add: x must have one row per input feature");
    samples_ += x.cols;
    if (x.rows == 0 || x.cols == 0) return;
    // The upper triangle of a row-major matrix is the lower one of Eigen's column-major order.
    Eigen::Map<Eigen::MatrixXf> sums(sums_.data(), features(), features());
    using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
    if (x.row_stride == 1) {  // token-major: its columns are vectors
      Eigen::Map<Eigen::MatrixXf const, 0, Eigen::OuterStride<>> const m(x.data, x.rows, x.cols,
                                                                         Eigen::OuterStride<>(x.col_stride));
      sums.selfadjointView<Eigen::Lower>().rankUpdate(m);
    } else {
      Eigen::MatrixXf const m =
          Eigen::Map<Eigen::MatrixXf const, 0, strides>(x.data, x.rows, x.cols, strides(x.col_stride, x.row_stride));
      sums.selfadjointView<Eigen::Lower>().rankUpdate(m);
    }
  }
  void merge(gram const& other) {
    PARE_EXPECTS(other.features() == features(), "gram::merge: both must have the same number of features");
    for (index_t i = 0; i < sums_.size(); ++i) sums_.data()[i] += other.sums_.data()[i];
    samples_ += other.samples_;
  }

  [[nodiscard]] index_t features() const noexcept { return sums_.cols(); }
  [[nodiscard]] index_t samples() const noexcept { return samples_; }
  /// sum of x_i x_j.
  [[nodiscard]] float operator()(index_t i, index_t j) const noexcept { return i <= j ? sums_(i, j) : sums_(j, i); }

 private:
  matrix<float> sums_;  // (K, K), upper triangle
  index_t samples_ = 0;
};

}  // namespace pare::inline PARE_ABI
