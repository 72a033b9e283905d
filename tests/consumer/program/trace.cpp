// SPDX-License-Identifier: Apache-2.0
// The second translation unit: a function of a header that is not inline would be defined twice.
#include "trace.hpp"

float trace(pare::matrix_span<float const> m) {
  float sum = 0;
  for (pare::index_t i = 0; i < m.rows; ++i) sum += m(i, i);
  return sum;
}
