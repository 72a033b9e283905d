// SPDX-License-Identifier: Apache-2.0
#include "shared.hpp"

static int const units_sse4_2 = count_of_units();  // runs before main, on every machine

float kernel_of_sse4_2(float* x, int n) {  // a function that others see
  sort_all(x, n);
  return sum_of_squares(x, n) + static_cast<float>(units_sse4_2);
}
