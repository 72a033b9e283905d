// SPDX-License-Identifier: Apache-2.0
// How a gradient moves the weights: AdamW (Loshchilov, Hutter 2019), or gradient descent with momentum.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <pare/core/index.hpp>

namespace pare::demo {

enum class update_rule { adamw, sgd };

/// The running means of one tensor's gradients, and its steps.
class optimiser {
 public:
  explicit optimiser(index_t values, update_rule rule = update_rule::adamw)
      : rule_(rule),
        mean_(static_cast<std::size_t>(values)),
        square_(rule == update_rule::adamw ? mean_.size() : std::size_t{0}) {}

  /// One step; number `step` counts from 1. decay: decoupled, relative to the learning rate.
  void update(std::span<float> values, float const* gradient, index_t step, float rate, float decay) {
    if (rule_ == update_rule::sgd) {
      constexpr float momentum = 0.9f;
      for (std::size_t i = 0; i < values.size(); ++i) {
        mean_[i] = momentum * mean_[i] + gradient[i];
        values[i] -= rate * (mean_[i] + decay * values[i]);
      }
      return;
    }
    constexpr float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f;
    auto const t = static_cast<float>(step);
    float const unbias1 = 1 / (1 - std::pow(beta1, t)), unbias2 = 1 / (1 - std::pow(beta2, t));
    // A plain loop: Eigen's square root is approximate in registers and exact outside them, so that its result would
    // depend on where the memory begins.
    for (std::size_t i = 0; i < values.size(); ++i) {
      float const mean = mean_[i] = beta1 * mean_[i] + (1 - beta1) * gradient[i];
      float const square = square_[i] = beta2 * square_[i] + (1 - beta2) * gradient[i] * gradient[i];
      values[i] -= rate * (unbias1 * mean / (std::sqrt(unbias2 * square) + epsilon) + decay * values[i]);
    }
  }

  /// Value i begins anew, as one that was never trained.
  void forget(index_t i) {
    mean_[static_cast<std::size_t>(i)] = 0.0f;
    if (!square_.empty()) square_[static_cast<std::size_t>(i)] = 0.0f;
  }

 private:
  update_rule rule_;
  std::vector<float> mean_, square_;
};

/// The learning rate at a share `done` of the training, as a share of its peak: half a cosine down to zero.
inline double cosine_decay(double done) { return 0.5 * (1 + std::cos(3.14159265358979 * std::min(1.0, done))); }

}  // namespace pare::demo
