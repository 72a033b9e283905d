// SPDX-License-Identifier: Apache-2.0
// Lottery jackpots: where the search for a mask of frozen weights starts (Zhang et al. 2021, arXiv 2104.08700).
#pragma once

#include <cmath>

#include <pare/pattern/pattern.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/rank.hpp>

namespace pare::inline PARE_ABI {

/// S_ij = 0.99 for the floor(s n) weights of the smallest |W|, of equal ones those of lower position; 1 for the others.
/// Training then moves the scores by the gradient of the masked weights times W, and `select` takes the highest.
/// O(n log n).
struct jackpot_start {
  static constexpr scope compares = scope::matrix;
  using needs = statistics<>;
  static constexpr char const* name() noexcept { return "jackpot_start"; }

  sparsity pruned{0.9};

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    magnitude{}.score(weights, stats, out);
    auto const removed = static_cast<std::size_t>(pruned.removed_of(out.shape().size()));
    detail::rewrite_in_order(out, detail::ascending(out), [&](std::size_t i) { return i < removed ? 0.99f : 1.0f; });
  }
};

/// The share of the differing weights that a step of the search may swap, at the fraction `progress` of training.
enum class jackpot_restriction {
  cosine,    // (1 + cos(pi progress)) / 2, as the published code has it for ImageNet (default)
  no_limit,  // 1, what its ceil((1 - progress)^4) for CIFAR amounts to before the end
};
/// Pre: progress in [0, 1).
[[nodiscard]] inline double jackpot_swap_share(double progress,
                                               jackpot_restriction rule = jackpot_restriction::cosine) {
  PARE_EXPECTS(progress >= 0.0 && progress < 1.0, "jackpot_swap_share: the progress of training lies in [0, 1)");
  return rule == jackpot_restriction::no_limit ? 1.0 : 0.5 * (1.0 + std::cos(3.14159265358979323846 * progress));
}

}  // namespace pare::inline PARE_ABI
