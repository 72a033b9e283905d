// SPDX-License-Identifier: Apache-2.0
// SNIP: connection sensitivity at initialisation (Lee, Ajanthan, Torr 2019, arXiv 1810.02340).
#pragma once

#include <pare/score/taylor.hpp>

namespace pare::inline PARE_ABI {

/// S_ij = |dL/dc_ij| = |g_ij w_ij| for gates c = 1 on the weights, in one pool over the network (allocate with
/// `global`). The published code divides by the sum over all weights, which changes no order.
struct snip {
  static constexpr scope compares = scope::network;
  using needs = taylor::needs;
  static constexpr char const* name() noexcept { return "snip"; }

  template <matrix_view W>
  void score(W const& weights, auto const& stats, score_sink<float> out) const {
    taylor{}.score(weights, stats, out);
  }
};

}  // namespace pare::inline PARE_ABI
