// SPDX-License-Identifier: Apache-2.0
// Whole blocks go: the least important ones (Men et al. 2024, ShortGPT, arXiv 2403.03853).
#pragma once

#include <numeric>

#include <pare/allocate/budget.hpp>

namespace pare::inline PARE_ABI {

/// Of n blocks the floor(target * n) of least importance get sparsity 1, all others 0; of equal ones the lower goes
/// first. A residual block without weights passes on what it is given, so it is dropped. ShortGPT's importance is
/// 1 - cos(h_in, h_out) of the block's hidden states, summed over tokens. One a block (layer_info::group).
/// The share of weights that goes is that of the target only as far as blocks are of one size.
struct drop_blocks {
  static constexpr bool needs_scores = false;

  std::vector<double> importances;

  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    auto const blocks = detail::number_blocks(layers);
    PARE_EXPECTS(importances.size() == blocks.count, "drop_blocks: there must be one importance a block");
    for (double const v : importances) PARE_EXPECTS(v - v == 0.0, "drop_blocks: the importances must be finite");
    std::vector<std::size_t> order(blocks.count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return importances[a] < importances[b]; });
    std::vector<bool> dropped(blocks.count, false);
    for (index_t i = 0; i < target.removed_of(std::ssize(order)); ++i)
      dropped[order[static_cast<std::size_t>(i)]] = true;
    std::vector<sparsity> out;
    for (std::size_t const b : blocks.of_layer) out.emplace_back(dropped[b] ? 1.0 : 0.0);
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
