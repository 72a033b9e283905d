// SPDX-License-Identifier: Apache-2.0
// Random matrices and masks, and comparisons bit by bit, for tests.
#pragma once

#include <cstring>

#include <pare/core/cast.hpp>
#include <pare/core/matrix.hpp>
#include <pare/core/random.hpp>
#include <pare/mask/mask.hpp>

namespace pare::test {

/// Normal values of both signs, so that sums cancel.
inline matrix<float> random_matrix(random_source& random, extents shape) {
  matrix<float> m(shape);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = random.normal();
  return m;
}

/// Every element is kept with the probability `density`.
inline mask random_mask(random_source& random, extents shape, float density) {
  mask keep(shape);
  for (index_t r = 0; r < shape.rows; ++r)
    for (index_t c = 0; c < shape.cols; ++c)
      if (random.uniform() < density) keep.set(r, c);
  return keep;
}

/// Equal shapes and equal bits: +0 and -0 differ, a NaN equals itself.
template <matrix_view A, matrix_view B>
bool same_bits(A const& a, B const& b) {
  auto const x = as_span(a);
  auto const y = as_span(b);
  static_assert(sizeof(x(0, 0)) == sizeof(y(0, 0)));
  if (x.shape() != y.shape()) return false;
  for (index_t i = 0; i < x.rows; ++i)
    for (index_t j = 0; j < x.cols; ++j)
      if (std::memcmp(&x(i, j), &y(i, j), sizeof(x(i, j))) != 0) return false;
  return true;
}

}  // namespace pare::test
