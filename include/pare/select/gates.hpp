// SPDX-License-Identifier: Apache-2.0
// Learned gates of groups (channels, heads, hidden dimensions) as masks: ATP (Lu et al. 2024), PAT (Liu et al. 2025).
#pragma once

#include <span>

#include <pare/mask/mask.hpp>

namespace pare::inline PARE_ABI {

/// What a gate with a logit of exactly 0 means: PAT counts it as open while it trains and closes it when it rounds
/// sigma(0) = 1/2 to even in the end; ATP's hard threshold closes it.
enum class gate_at_zero { closed, open };

/// One gate a group, (1, groups): kept where the logit is positive, that is sigma(logit) > 1/2. Pre: no NaN.
[[nodiscard]] inline mask open_gates(std::span<float const> logits, gate_at_zero zero = gate_at_zero::closed) {
  auto const groups = static_cast<index_t>(logits.size());
  mask open({1, groups});
  for (index_t g = 0; g < groups; ++g) {
    float const l = logits[static_cast<std::size_t>(g)];
    PARE_EXPECTS(l == l, "open_gates: a logit is NaN");
    if (l > 0.0f || (l == 0.0f && zero == gate_at_zero::open)) open.set(0, g);
  }
  return open;
}

/// The mask of weights (M, K) whose input channels have gates: gate g stands for the K / groups columns from
/// g K / groups on. gates (1, groups). Pre: groups divides K.
[[nodiscard]] inline mask gated_columns(mask const& gates, extents weights) {
  PARE_EXPECTS(gates.rows() == 1 && gates.cols() > 0 && weights.cols % gates.cols() == 0,
               "gated_columns: the gates are one row, and their number must divide that of the columns");
  index_t const width = weights.cols / gates.cols();
  mask keep(weights);
  for (index_t r = 0; r < weights.rows; ++r)
    for (index_t c = 0; c < weights.cols; ++c)
      if (gates(0, c / width)) keep.set(r, c);
  return keep;
}

/// The same for output channels: gate g stands for M / groups rows. Pre: groups divides M.
[[nodiscard]] inline mask gated_rows(mask const& gates, extents weights) {
  PARE_EXPECTS(gates.rows() == 1 && gates.cols() > 0 && weights.rows % gates.cols() == 0,
               "gated_rows: the gates are one row, and their number must divide that of the rows");
  index_t const height = weights.rows / gates.cols();
  mask keep(weights);
  for (index_t r = 0; r < weights.rows; ++r)
    for (index_t c = 0; c < weights.cols; ++c)
      if (gates(0, r / height)) keep.set(r, c);
  return keep;
}

}  // namespace pare::inline PARE_ABI
