// SPDX-License-Identifier: Apache-2.0
// What a kernel unit must not do, in a header as innocent helpers are.
#pragma once

#include <algorithm>

/// The same name in every unit: whichever is linked, all of them call.
[[gnu::noinline]] inline float sum_of_squares(float const* x, int n) noexcept {
  float sum = 0.0f;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

/// Hides the same in the standard library.
inline void sort_all(float* x, int n) { std::sort(x, x + n); }

int count_of_units();
