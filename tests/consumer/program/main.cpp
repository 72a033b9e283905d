// SPDX-License-Identifier: Apache-2.0
#include "trace.hpp"

int main() {
  pare::matrix<float> m(3, 3);
  for (pare::index_t i = 0; i < 3; ++i) m(i, i) = static_cast<float>(i + 1);
  return trace(pare::as_span(m)) == 6.0f ? 0 : 1;
}
