// SPDX-License-Identifier: Apache-2.0
// What the statistics of a layer's gradients have in common: a sum of matrices and the number of its terms.
#pragma once

#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI::detail {

/// (1 / terms) sum of matrices (M, K), summed in float.
class gradient_average {
 public:
  explicit gradient_average(extents shape) : sum_(shape) {}

  void merge(gradient_average const& other) {
    PARE_EXPECTS(other.shape() == shape(), "statistics of gradients: both must be of weights of the same shape");
    for (index_t i = 0; i < sum_.size(); ++i) sum_.data()[i] += other.sum_.data()[i];
    terms_ += other.terms_;
  }

  [[nodiscard]] extents shape() const noexcept { return sum_.shape(); }
  /// Of weight (i, j); 0 before any term.
  [[nodiscard]] double operator()(index_t i, index_t j) const noexcept {
    return terms_ == 0 ? 0.0 : static_cast<double>(sum_(i, j)) / static_cast<double>(terms_);
  }

 protected:
  /// into += the gradient of a sample as a whole. Pre: of the weights' shape.
  static void add_to(matrix<float>& into, matrix_span<float const> gradient) {
    PARE_EXPECTS(gradient.shape() == into.shape(),
                 "statistics of gradients: the gradient must have the weights' shape");
    for (index_t i = 0; i < gradient.rows; ++i)
      for (index_t j = 0; j < gradient.cols; ++j) into(i, j) += gradient(i, j);
  }

  matrix<float> sum_;
  index_t terms_ = 0;
};

}  // namespace pare::inline PARE_ABI::detail
