// SPDX-License-Identifier: Apache-2.0
// Random masks, for static sparse training and as the baseline of every criterion (Liu et al. 2022, "The Unreasonable
// Effectiveness of Random Pruning", arXiv 2202.02643; exact counts as in RigL, Evci et al. 2020, arXiv 1911.11134).
//
// For a network, take a layer's sparsity from an allocator (uniform, erk ...) and give layer l the seed `seed + l`.
#pragma once

#include <cstdint>

#include <pare/core/random.hpp>
#include <pare/mask/mask.hpp>
#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// Removes every element with probability s, independently: the sparsity is right on average only.
/// The same shape, sparsity and seed give the same mask on every machine. O(elements).
[[nodiscard]] inline mask bernoulli_mask(extents shape, sparsity s, std::uint64_t seed) {
  random_source random(seed);
  mask keep(shape);
  for (index_t r = 0; r < shape.rows; ++r)
    for (index_t c = 0; c < shape.cols; ++c)
      if (static_cast<double>(random.bits() >> 11) * 0x1p-53 >= s.value) keep.set(r, c);
  return keep;
}

namespace detail {

/// Calls take(r, c) for `count` of the `total` positions that `among(r, c)` accepts; every set of that size is equally
/// likely (Knuth's algorithm S: each position in turn is taken with the probability left / positions left).
template <class Among, class Take>
void sample_positions(extents shape, index_t total, index_t count, random_source& random, Among among, Take take) {
  for (index_t r = 0; r < shape.rows; ++r)
    for (index_t c = 0; c < shape.cols && count > 0; ++c) {
      if (!among(r, c)) continue;
      if (random.below(total--) >= count) continue;
      --count;
      take(r, c);
    }
}

}  // namespace detail

/// Removes exactly floor(s n) of the n elements; every such mask is equally likely, and the same shape, sparsity and
/// seed give the same one on every machine. O(elements).
[[nodiscard]] inline mask random_mask(extents shape, sparsity s, std::uint64_t seed) {
  random_source random(seed);
  mask keep(shape, true);
  detail::sample_positions(
      shape, shape.size(), s.removed_of(shape.size()), random, [](index_t, index_t) { return true; },
      [&](index_t r, index_t c) { keep.set(r, c, false); });
  return keep;
}

}  // namespace pare::inline PARE_ABI
