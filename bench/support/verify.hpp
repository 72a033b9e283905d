// SPDX-License-Identifier: Apache-2.0
// What is right: products in double from a format's own elements, and how far from them a sum of floats may be.
#pragma once

#include <cmath>
#include <vector>

#include <pare/format/format.hpp>

namespace pare::bench {

/// The reference result of one product. reference::matmul says the same, column by column; this goes along the rows of
/// X, which large products need.
class expected_product {
 public:
  /// w (M, K); x (K, N) with rows without gaps, |x| <= 1. `input_rounding`: by how much kernels may round an x. O(nnz
  /// N).
  template <sparse_format F>
  expected_product(F const& w, matrix_span<float const> x, double input_rounding = 0.0)
      : columns_(x.cols), values_(static_cast<std::size_t>(w.shape().rows * x.cols)) {
    for (index_t r = 0; r < w.shape().rows; ++r) {
      double* const sums = values_.data() + r * columns_;
      double magnitude = 0.0;
      w.for_each_in_row(r, [&](index_t c, auto v) {
        auto const value = static_cast<double>(to_float(v));
        float const* const x_row = x.row(c);
        for (index_t n = 0; n < columns_; ++n) sums[n] += value * static_cast<double>(x_row[n]);
        magnitude += std::abs(value);
      });
      bounds_.push_back((2.0 * static_cast<double>(w.row_nnz(r) + 2) * 0x1p-24 + input_rounding) * magnitude);
    }
  }

  /// Every element of y (M, N) is within the forward error bound of a float sum in any order.
  [[nodiscard]] bool agrees(matrix_span<float const> y) const {
    for (index_t r = 0; r < y.rows; ++r)
      for (index_t n = 0; n < y.cols; ++n) {
        double const off = std::abs(static_cast<double>(y(r, n)) - values_[static_cast<std::size_t>(r * columns_ + n)]);
        if (!(off <= bounds_[static_cast<std::size_t>(r)])) return false;  // NaN too
      }
    return true;
  }

 private:
  index_t columns_;
  std::vector<double> values_;
  std::vector<double> bounds_;  // one a row
};

}  // namespace pare::bench
