// SPDX-License-Identifier: Apache-2.0
#include "shared.hpp"

int count_of_units() { return 2; }

float of_the_baseline(float const* x, int n) { return sum_of_squares(x, n); }
