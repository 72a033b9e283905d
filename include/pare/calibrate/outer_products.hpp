// SPDX-License-Identifier: Apache-2.0
// Sums of outer products: what gradients of weights are made of.
#pragma once

#include <Eigen/Core>

#include <pare/core/contract.hpp>
#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// Calls f with the matrix as an Eigen expression: in its place where rows or columns are contiguous, else copied.
template <class Do>
void with_eigen(matrix_span<float const> m, Do&& f) {
  using column_major = Eigen::MatrixXf;
  using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using stride = Eigen::OuterStride<>;
  if (m.row_stride == 1) {
    f(Eigen::Map<column_major const, 0, stride>(m.data, m.rows, m.cols, stride(m.col_stride)));
  } else if (m.col_stride == 1) {
    f(Eigen::Map<row_major const, 0, stride>(m.data, m.rows, m.cols, stride(m.row_stride)));
  } else {
    matrix<float> const copy(m);
    f(Eigen::Map<row_major const>(copy.data(), m.rows, m.cols));
  }
}
}  // namespace detail

/// into += delta x^T: delta (M, N), x (K, N), any strides; into (M, K). The gradient of weights W from the gradient by
/// W x. Sums of float: each entry is within N 2^-24 of the sum of its terms' magnitudes. O(M K N).
inline void add_outer_products(matrix_span<float const> delta, matrix_span<float const> x, matrix<float>& into) {
  PARE_EXPECTS(delta.cols == x.cols, "add_outer_products: delta and x must have the same number of columns");
  PARE_EXPECTS((into.shape() == extents{delta.rows, x.rows}),
               "add_outer_products: the sum must have delta's rows and a column for each row of x");
  Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> sum(into.data(), into.rows(),
                                                                                        into.cols());
  detail::with_eigen(delta, [&](auto const& d) {
    detail::with_eigen(x, [&](auto const& inputs) { sum.noalias() += d * inputs.transpose(); });
  });
}

namespace detail {
struct square {
  static float of(float v) noexcept { return v * v; }
};
struct absolute_value {
  static float of(float v) noexcept { return v < 0.0f ? -v : v; }
};

/// into += f(delta) f(x)^T, f multiplicative and applied element by element: the sum of f of the gradients of N
/// columns. Shapes, error and time as above, and copies of delta and x.
template <class Function>
void add_outer_products_of(matrix_span<float const> delta, matrix_span<float const> x, matrix<float>& into) {
  matrix<float> d(delta);
  matrix<float> inputs(x);
  for (index_t i = 0; i < d.size(); ++i) d.data()[i] = Function::of(d.data()[i]);
  for (index_t i = 0; i < inputs.size(); ++i) inputs.data()[i] = Function::of(inputs.data()[i]);
  add_outer_products(d.span(), inputs.span(), into);
}
}  // namespace detail

}  // namespace pare::inline PARE_ABI
