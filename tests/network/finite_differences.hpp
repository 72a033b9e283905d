// SPDX-License-Identifier: Apache-2.0
// Gradients by central differences in double, and how far a float gradient is from them.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/random.hpp>

namespace pare::test {

/// The largest difference of `gradient`, row by row, from the derivatives of loss() by `values`, divided by the largest
/// derivative. Looks at `samples` random elements (all, where there are no more). loss reads `values`.
/// A ReLU that the step takes over its edge counts as an error: many of them want a smaller step.
template <class Loss>
double gradient_error(matrix_span<float const> gradient, std::vector<double>& values, Loss&& loss, index_t samples = 40,
                      double step = 1e-5) {
  random_source random(3);
  index_t const size = std::ssize(values);
  double worst = 0;
  double largest = 1e-12;
  for (index_t s = 0; s < std::min(samples, size); ++s) {
    index_t const i = size <= samples ? s : random.below(size);
    double& v = values[static_cast<std::size_t>(i)];
    double const before = v;
    v = before + step;
    double const above = loss();
    v = before - step;
    double const below = loss();
    v = before;
    double const exact = (above - below) / (2 * step);
    largest = std::max(largest, std::abs(exact));
    worst = std::max(worst, std::abs(static_cast<double>(gradient(i / gradient.cols, i % gradient.cols)) - exact));
  }
  return worst / largest;
}

inline std::vector<double> in_double(matrix<float> const& m) { return {m.data(), m.data() + m.size()}; }

}  // namespace pare::test
