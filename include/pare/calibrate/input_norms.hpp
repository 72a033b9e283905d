// SPDX-License-Identifier: Apache-2.0
// L2 norm of every input feature over the calibration samples (Wanda, Sun et al. 2023).
#pragma once

#include <pare/calibrate/statistics.hpp>
#include <pare/core/math.hpp>

namespace pare::inline PARE_ABI {

/// ||X_j||_2 = sqrt(sum over samples of x_j^2), accumulated in double. Normaliser: none (raw sum over tokens or
/// pixels); inside one layer a constant factor does not change an order.
class input_norms {
 public:
  explicit input_norms(index_t features) : sums_(1, features) {}

  /// x (K, N). O(K N).
  void add(matrix_span<float const> x) {
    PARE_EXPECTS(x.rows == features(), "input_norms::add: x must have one row per input feature");
    if (x.row_stride == 1) {  // token-major: walk the memory in order
      for (index_t n = 0; n < x.cols; ++n)
        for (index_t k = 0; k < x.rows; ++k) accumulate(k, x(k, n));
    } else {
      for (index_t k = 0; k < x.rows; ++k)
        for (index_t n = 0; n < x.cols; ++n) accumulate(k, x(k, n));
    }
    samples_ += x.cols;
  }
  void merge(input_norms const& other) {
    PARE_EXPECTS(other.features() == features(), "input_norms::merge: both must have the same number of features");
    for (index_t k = 0; k < features(); ++k) sums_(0, k) += other.sums_(0, k);
    samples_ += other.samples_;
  }

  [[nodiscard]] index_t features() const noexcept { return sums_.cols(); }
  [[nodiscard]] index_t samples() const noexcept { return samples_; }
  /// ||X_k||_2.
  [[nodiscard]] double norm(index_t k) const noexcept { return math::sqrt(sums_(0, k)); }
  /// sum of x_k^2.
  [[nodiscard]] double squared_norm(index_t k) const noexcept { return sums_(0, k); }

 private:
  void accumulate(index_t k, float v) noexcept { sums_(0, k) += static_cast<double>(v) * static_cast<double>(v); }

  matrix<double> sums_;  // (1, K)
  index_t samples_ = 0;
};

}  // namespace pare::inline PARE_ABI
