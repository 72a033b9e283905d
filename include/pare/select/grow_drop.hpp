// SPDX-License-Identifier: Apache-2.0
// Dynamic sparse training: one update of a layer's mask, which drops some weights and grows as many others.
//
//   set_update     drops the values closest to zero on either side, grows at random
//                  (SET, Mocanu et al. 2018, arXiv 1707.04780)
//   rigl_update    drops floor(f n) of the n kept of least |w|, grows those of largest |g| (RigL, Evci et al. 2020,
//                  arXiv 1911.11134)
//   granet_update  the same with ceil(f n): the "neuroregeneration" of GraNet (Liu et al. 2021, arXiv 2106.10404)
//
// Pure functions: the caller trains, says when to update and with which fraction, and starts what grew
// (`after & ~before`) at 0 (SET: at N(0, 0.1^2)) without momentum. What was dropped may grow again at once. As many are
// kept after an update as before. Of equal magnitudes the lower (row, column) is dropped first and grown last, as in
// select.hpp.
#pragma once

#include <cstdint>

#include <pare/core/random.hpp>
#include <pare/mask/mask.hpp>
#include <pare/select/positions.hpp>
#include <pare/select/random_mask.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

inline float magnitude_of(float v) noexcept { return v < 0.0f ? -v : v; }

inline void require_update(matrix_span<float const> w, mask const& keep, double fraction) {
  PARE_EXPECTS(w.shape() == keep.shape(), "mask update: the weights and the mask must have equal shapes");
  PARE_EXPECTS(fraction >= 0.0 && fraction <= 1.0, "mask update: the fraction dropped must lie in [0, 1]");
}

/// Drops the `count` kept weights of least `drop_score`, then grows the `count` others of largest |g|.
template <class DropScore>
mask drop_and_grow(matrix_span<float const> g, mask keep, index_t count, DropScore drop_score) {
  PARE_EXPECTS(g.shape() == keep.shape(), "mask update: the gradients and the mask must have equal shapes");
  auto kept = candidates(
      g.shape(), [&](index_t r, index_t c) { return keep(r, c); }, drop_score);
  drop_lowest(keep, kept, count);
  auto outside = candidates(
      g.shape(), [&](index_t r, index_t c) { return !keep(r, c); },
      [&](index_t r, index_t c) { return magnitude_of(g(r, c)); });
  keep_highest(keep, outside, count);
  return keep;
}

}  // namespace detail

/// Drops floor(zeta p) of the p positive kept weights, the smallest ones, floor(zeta n) of the n negative ones, those
/// closest to zero, and kept weights that are zero; grows as many at random among all positions that are free then.
/// w (M, K) the weights, keep the mask under which they were trained. (The published code drops one more of each sign.)
/// O(M K).
template <matrix_view W>
[[nodiscard]] mask set_update(W const& weights, mask keep, double zeta, std::uint64_t seed) {
  auto const w = as_span(weights);
  detail::require_update(w, keep, zeta);
  index_t const before = keep.count();
  mask const old = keep;
  for (float const sign : {1.0f, -1.0f}) {
    auto tail = detail::candidates(
        w.shape(), [&](index_t r, index_t c) { return old(r, c) && !(sign * w(r, c) <= 0.0f); },
        [&](index_t r, index_t c) { return sign * w(r, c); });
    detail::drop_lowest(keep, tail, static_cast<index_t>(zeta * static_cast<double>(tail.size())));
  }
  for (index_t r = 0; r < w.rows; ++r)
    for (index_t c = 0; c < w.cols; ++c)
      if (w(r, c) == 0.0f) keep.set(r, c, false);
  mask const stays = keep;
  index_t const left = stays.count();
  random_source random(seed);
  detail::sample_positions(
      w.shape(), w.shape().size() - left, before - left, random, [&](index_t r, index_t c) { return !stays(r, c); },
      [&](index_t r, index_t c) { keep.set(r, c); });
  return keep;
}

/// Options of rigl_update: normal noise that the published code adds to |w| before it drops (it takes 1e-5).
struct rigl_noise {
  float deviation = 0.0f;
  std::uint64_t seed = 0;
};

/// Drops the floor(fraction * kept) kept weights of least |w| and grows the same number of positions outside of what
/// stays, those of largest |g|. w, g (M, K): weights and dense gradients. O(M K).
template <matrix_view W, matrix_view G>
[[nodiscard]] mask rigl_update(W const& weights, mask const& keep, G const& gradients, double fraction,
                               rigl_noise noise = {}) {
  auto const w = as_span(weights);
  detail::require_update(w, keep, fraction);
  random_source random(noise.seed);
  auto const count = static_cast<index_t>(fraction * static_cast<double>(keep.count()));
  return detail::drop_and_grow(as_span(gradients), keep, count, [&](index_t r, index_t c) {
    float const m = detail::magnitude_of(w(r, c));
    return noise.deviation == 0.0f ? m : m + noise.deviation * random.normal();
  });
}

/// Drops the ceil(fraction * kept) kept weights of least |w| and grows the same number of largest |g|. Shapes and cost
/// as for rigl_update. (The other half of GraNet, global magnitude pruning along a schedule, is select_network.)
template <matrix_view W, matrix_view G>
[[nodiscard]] mask granet_update(W const& weights, mask const& keep, G const& gradients, double fraction) {
  auto const w = as_span(weights);
  detail::require_update(w, keep, fraction);
  double const exact = fraction * static_cast<double>(keep.count());
  auto count = static_cast<index_t>(exact);
  if (static_cast<double>(count) < exact) ++count;
  return detail::drop_and_grow(as_span(gradients), keep, count,
                               [&](index_t r, index_t c) { return detail::magnitude_of(w(r, c)); });
}

}  // namespace pare::inline PARE_ABI
