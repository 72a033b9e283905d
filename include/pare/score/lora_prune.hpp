// SPDX-License-Identifier: Apache-2.0
// LoRAPrune: importance from the gradients of LoRA's factors, none of W itself (Zhang et al. 2024, arXiv 2305.18403).
#pragma once

#include <cmath>

#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// S = |G' * (W + scale B A)| elementwise, with G' = G_B A + B G_A - G_B G_A in place of the gradient of W. Factors and
/// gradients are of one layer and must outlive the criterion. Over steps of training the published code averages the
/// scores with 0.9 (score_ema). O(M K r).
struct lora_prune {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "loraprune"; }

  enum class metric {
    lora,       // G' as above (default)
    grad,       // G' is `gradient`, that of W
    magnitude,  // G' is 1
  };

  matrix_span<float const> a{};         // (r, K)
  matrix_span<float const> b{};         // (M, r)
  matrix_span<float const> grad_a{};    // (r, K): G_A, read by `lora` only
  matrix_span<float const> grad_b{};    // (M, r): G_B, read by `lora` only
  matrix_span<float const> gradient{};  // (M, K), read by `grad` only
  double scale = 1.0;                   // LoRA's alpha / r
  metric by = metric::lora;

  template <matrix_view W>
  void score(W const& weights, auto const& /*stats*/, score_sink<float> out) const {
    auto const w = as_span(weights);
    PARE_EXPECTS(a.cols == w.cols && b.rows == w.rows && a.rows == b.cols,
                 "lora_prune: A must be (r, K) and B (M, r) for weights (M, K)");
    PARE_EXPECTS(by != metric::lora || (grad_a.shape() == a.shape() && grad_b.shape() == b.shape()),
                 "lora_prune: the gradients of A and B must have the shapes of A and B");
    PARE_EXPECTS(by != metric::grad || gradient.shape() == w.shape(),
                 "lora_prune: the gradient of W must have the shape of W");
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) {
        double update = 0.0;
        double proxy = by == metric::grad ? static_cast<double>(gradient(i, j)) : (by == metric::magnitude ? 1.0 : 0.0);
        for (index_t k = 0; k < a.rows; ++k) {
          auto const left = static_cast<double>(b(i, k));
          auto const right = static_cast<double>(a(k, j));
          update += left * right;
          if (by != metric::lora) continue;
          auto const dleft = static_cast<double>(grad_b(i, k));
          auto const dright = static_cast<double>(grad_a(k, j));
          proxy += dleft * right + left * dright - dleft * dright;
        }
        out(i, j) = static_cast<float>(std::abs(proxy * (static_cast<double>(w(i, j)) + scale * update)));
      }
  }
};

}  // namespace pare::inline PARE_ABI
