// SPDX-License-Identifier: Apache-2.0
// From one mask to another in small steps: a share of their differences at a time, the most certain ones first
// (Zhang et al. 2021, "Lottery Jackpots Exist in Pre-trained Models", arXiv 2104.08700, its "short restriction").
#pragma once

#include <pare/mask/mask.hpp>
#include <pare/select/positions.hpp>

namespace pare::inline PARE_ABI {

/// With P0 = wanted, not kept now, and P1 = kept now, not wanted: keeps the n = ceil(rate |P0|) of P0 of highest score
/// and drops the n of P1 of lowest score. Equal scores: the lower (row, column) is dropped first and kept last.
///
/// now, wanted (M, K) with equally many kept, as selections to one sparsity have; scores (M, K), higher = keep;
/// rate in [0, 1]: 1 gives `wanted`, 0 gives `now`. The published rates, with x = epoch / epochs: (1 + cos(pi x)) / 2
/// on ImageNet; ceil((1 - x)^4) on CIFAR, which is 1 in every epoch. O(M K).
template <matrix_view Scores>
[[nodiscard]] mask swap_towards(mask now, mask const& wanted, Scores const& scores, double rate) {
  auto const s = as_span(scores);
  PARE_EXPECTS(s.shape() == now.shape() && s.shape() == wanted.shape(), "swap_towards: shapes must be equal");
  PARE_EXPECTS(rate >= 0.0 && rate <= 1.0, "swap_towards: the rate must lie in [0, 1]");
  PARE_EXPECTS(now.count() == wanted.count(), "swap_towards: both masks must keep equally many");
  mask const enter = wanted & ~now;
  mask const leave = now & ~wanted;
  double const exact = rate * static_cast<double>(enter.count());
  auto count = static_cast<index_t>(exact);
  if (static_cast<double>(count) < exact) ++count;
  auto const value = [&](index_t r, index_t c) { return static_cast<float>(s(r, c)); };
  auto worst = detail::candidates(
      s.shape(), [&](index_t r, index_t c) { return leave(r, c); }, value);
  detail::drop_lowest(now, worst, count);
  auto best = detail::candidates(
      s.shape(), [&](index_t r, index_t c) { return enter(r, c); }, value);
  detail::keep_highest(now, best, count);
  return now;
}

}  // namespace pare::inline PARE_ABI
