// SPDX-License-Identifier: Apache-2.0
// The truth: plain loops on a format's for_each, against which every kernel is tested.
#pragma once

#include <pare/format/format.hpp>
#include <pare/kernel/epilogue.hpp>

namespace pare::inline PARE_ABI::reference {

/// y = e(W x) with W (M, K), x (K, N), y (M, N), any strides; sums in double. O(nnz N).
template <sparse_format F, epilogue E = identity>
void matmul(F const& w, matrix_span<float const> x, matrix_span<float> y, E const& e = {}) {
  PARE_EXPECTS(x.rows == w.shape().cols && y.rows == w.shape().rows && x.cols == y.cols,
               "reference::matmul: W (M, K), x (K, N) and y (M, N) do not go together");
  for (index_t r = 0; r < y.rows; ++r)
    for (index_t n = 0; n < y.cols; ++n) {
      double sum = 0.0;
      w.for_each_in_row(
          r, [&](index_t c, auto v) { sum += static_cast<double>(to_float(v)) * static_cast<double>(x(c, n)); });
      y(r, n) = e(static_cast<float>(sum), r, n);
    }
}

}  // namespace pare::inline PARE_ABI::reference
