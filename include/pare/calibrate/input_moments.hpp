// SPDX-License-Identifier: Apache-2.0
// Mean and variance of every input feature over the calibration samples.
#pragma once

#include <pare/calibrate/statistics.hpp>

namespace pare::inline PARE_ABI {

/// Mean m and sum of squared deviations D = sum (x - m)^2 of each feature over all samples (tokens or pixels), in
/// double. Each batch is measured in two passes and merged (Chan, Golub, LeVeque 1979):
///
///   n = n_a + n_b,  d = m_b - m_a:   m = m_a + d n_b / n,   D = D_a + D_b + d^2 n_a n_b / n
///
/// so that nothing cancels where the mean is large. The variance of all samples: also what differs between batches
/// counts (published codes of DSnoT and FLAP average the variances within sequences, or lose the first one).
class input_moments {
 public:
  explicit input_moments(index_t features) : means_(1, features), deviations_(1, features) {}

  /// x (K, N). O(K N).
  void add(matrix_span<float const> x) {
    PARE_EXPECTS(x.rows == features(), "input_moments::add: x must have one row per input feature");
    if (x.cols == 0) return;
    input_moments batch(x.rows);
    batch.samples_ = x.cols;
    auto const n = static_cast<double>(x.cols);
    for_each(x, [&](index_t k, double v) { batch.means_(0, k) += v; });
    for (index_t k = 0; k < x.rows; ++k) batch.means_(0, k) /= n;
    for_each(x, [&](index_t k, double v) {
      double const d = v - batch.means_(0, k);
      batch.deviations_(0, k) += d * d;
    });
    merge(batch);
  }
  void merge(input_moments const& other) {
    PARE_EXPECTS(other.features() == features(), "input_moments::merge: both must have the same number of features");
    if (other.samples_ == 0) return;
    auto const a = static_cast<double>(samples_);
    auto const b = static_cast<double>(other.samples_);
    for (index_t k = 0; k < features(); ++k) {
      double const d = other.means_(0, k) - means_(0, k);
      means_(0, k) += d * (b / (a + b));
      deviations_(0, k) += other.deviations_(0, k) + d * d * (a * b / (a + b));
    }
    samples_ += other.samples_;
  }

  [[nodiscard]] index_t features() const noexcept { return means_.cols(); }
  [[nodiscard]] index_t samples() const noexcept { return samples_; }
  /// (sum of x_k) / samples; 0 without samples.
  [[nodiscard]] double mean(index_t k) const noexcept { return means_(0, k); }
  /// sum of (x_k - mean)^2: no normaliser.
  [[nodiscard]] double squared_deviations(index_t k) const noexcept { return deviations_(0, k); }
  /// squared_deviations / samples, the variance of the samples seen (not n - 1); 0 without samples.
  [[nodiscard]] double variance(index_t k) const noexcept {
    return samples_ == 0 ? 0.0 : deviations_(0, k) / static_cast<double>(samples_);
  }

 private:
  /// f(feature, value) over a batch, in the order of memory.
  template <class F>
  static void for_each(matrix_span<float const> x, F f) {
    if (x.row_stride == 1) {  // token-major
      for (index_t n = 0; n < x.cols; ++n)
        for (index_t k = 0; k < x.rows; ++k) f(k, static_cast<double>(x(k, n)));
    } else {
      for (index_t k = 0; k < x.rows; ++k)
        for (index_t n = 0; n < x.cols; ++n) f(k, static_cast<double>(x(k, n)));
    }
  }

  matrix<double> means_;       // (1, K)
  matrix<double> deviations_;  // (1, K)
  index_t samples_ = 0;
};

}  // namespace pare::inline PARE_ABI
