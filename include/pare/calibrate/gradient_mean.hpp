// SPDX-License-Identifier: Apache-2.0
// Mean gradient of a layer's weights: what first-order criteria need (Taylor, SNIP, gradient alignment).
#pragma once

#include <pare/calibrate/gradient_average.hpp>
#include <pare/calibrate/outer_products.hpp>
#include <pare/calibrate/statistics.hpp>

namespace pare::inline PARE_ABI {

/// g = (1 / positions) sum of the gradients, (M, K): the gradient of the mean loss over all positions of all samples.
/// Memory: 4 M K bytes. Summed in float, call by call: each entry is within (calls + columns of the largest call) 2^-24
/// of the sum of its terms' magnitudes.
class gradient_mean : public detail::gradient_average {
 public:
  using gradient_average::gradient_average;

  void add(gradient_batch const& batch) {
    add_outer_products(batch.delta, batch.x, sum_);
    if (batch.columns_are_samples) terms_ += batch.x.cols;
  }
  void add_gradient(matrix_span<float const> gradient) { add_to(sum_, gradient); }
  void close(index_t positions) { terms_ += positions; }

  [[nodiscard]] index_t positions() const noexcept { return terms_; }
};

}  // namespace pare::inline PARE_ABI
