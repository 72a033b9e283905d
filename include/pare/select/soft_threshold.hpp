// SPDX-License-Identifier: Apache-2.0
// Soft movement pruning: learned logits against a threshold, with a floor (Sanh et al. 2020, arXiv 2005.07683).
#pragma once

#include <cmath>

#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

/// Keeps the weights with sigma(logit) > threshold. Where fewer than the fraction `floor` of all stay, the highest
/// logits do instead: all but floor((1 - floor) n), equal ones by position, as `select` has it.
/// logits (M, K), none NaN. Pre: 0 <= floor <= 1. O(M K).
[[nodiscard]] inline mask soft_threshold(matrix_span<float const> logits, double threshold, double floor = 0.005) {
  PARE_EXPECTS(floor >= 0.0 && floor <= 1.0, "soft_threshold: the floor is a fraction of the weights");
  mask keep(logits.shape());
  for (index_t i = 0; i < logits.rows; ++i)
    for (index_t j = 0; j < logits.cols; ++j) {
      PARE_EXPECTS(logits(i, j) == logits(i, j), "soft_threshold: a logit is NaN");
      if (1.0 / (1.0 + std::exp(-static_cast<double>(logits(i, j)))) > threshold) keep.set(i, j);
    }
  index_t const n = logits.shape().size();
  sparsity const most{1.0 - floor};
  return keep.count() < n - most.removed_of(n) ? select(logits, unstructured{}, most) : keep;
}

}  // namespace pare::inline PARE_ABI
