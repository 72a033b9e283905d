// SPDX-License-Identifier: Apache-2.0
// Reductions over a row in a fixed order that a compiler can vectorise without being allowed to reorder sums:
// 16 independent partial results, folded at the end. The same value for any instruction set and thread count.
#pragma once

#include <pare/core/index.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
inline constexpr index_t reduction_lanes = 16;
}

/// Folds term(0), ..., term(n - 1) with `combine`, an associative and commutative operation with neutral element
/// `neutral`. O(n).
template <class T, class Term, class Combine>
[[nodiscard]] T fold(index_t n, T neutral, Term term, Combine combine) {
  constexpr index_t lanes = detail::reduction_lanes;
  T partial[lanes];
  for (T& p : partial) p = neutral;
  index_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (index_t l = 0; l < lanes; ++l) partial[l] = combine(partial[l], term(i + l));
  for (index_t l = 0; i < n; ++i, ++l) partial[l] = combine(partial[l], term(i));
  for (index_t step = lanes / 2; step > 0; step /= 2)
    for (index_t l = 0; l < step; ++l) partial[l] = combine(partial[l], partial[l + step]);
  return partial[0];
}

/// The sum of term(i) over [0, n).
template <class T, class Term>
[[nodiscard]] T sum_of(index_t n, Term term) {
  return fold(n, T{0}, term, [](T a, T b) { return a + b; });
}

/// The largest of n values; NaN is not greater than anything. Pre: n > 0.
[[nodiscard]] inline float maximum(float const* x, index_t n) {
  return fold(
      n, x[0], [x](index_t i) { return x[i]; }, [](float a, float b) { return b > a ? b : a; });
}

/// True where none of n values is NaN or infinite. Kernels give their architecture, so that each has a copy of its own.
template <class Architecture = void>
[[nodiscard]] bool all_finite(float const* x, index_t n) {
  return sum_of<float>(n, [x](index_t i) { return x[i] * 0.0f; }) == 0.0f;  // Inf * 0 and NaN * 0 are NaN
}

/// The index of the largest of n values, the first of several. Pre: n > 0.
[[nodiscard]] inline index_t argmax(float const* x, index_t n) {
  index_t best = 0;
  for (index_t i = 1; i < n; ++i)
    if (x[i] > x[best]) best = i;
  return best;
}

}  // namespace pare::inline PARE_ABI
