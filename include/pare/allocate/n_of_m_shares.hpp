// SPDX-License-Identifier: Apache-2.0
// Shares that an N:M pattern can have, with an N for each block: mixed N:8 (OWL: Yin et al. 2023, arXiv 2310.05175).
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <pare/allocate/allocator.hpp>
#include <pare/allocate/budget.hpp>

namespace pare::inline PARE_ABI {

/// Another allocator's densities, rounded to N/M with N in [1, M): layers of one block to which it gives the same share
/// keep one N. Densities are rounded down, then up in the order of their remainders (of equal ones the earlier first),
/// where that brings what is kept nearer to what the allocator keeps; so they are within half a step of the largest
/// block of it, unless N at a bound is in the way. For pruners, see prune/mixed_n_of_m.hpp.
///
/// With OWL the published setting is `n_of_m_shares<owl>{{.outlier = 6.0, .window = 2.0 / 8}, 8}` over single weights;
/// its code rounds each N on its own, so that its budget may be missed. O(layers^2).
template <budget_allocator A>
struct n_of_m_shares {
  static constexpr bool needs_scores = A::needs_scores;

  A by{};
  index_t of = 8;  // M

  [[nodiscard]] result<std::vector<sparsity>> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    PARE_EXPECTS(of >= 2, "n_of_m_shares: there must be at least two weights a group");
    PARE_TRY(auto const shares, pare::allocate(by, layers, target));
    auto const m = static_cast<double>(of);
    struct part {
      std::size_t block;
      double share;
      double size;
      index_t n;
      double rest;
    };
    std::vector<part> parts;
    std::vector<std::size_t> part_of;
    auto const blocks = detail::number_blocks(layers);
    double kept = 0.0;
    double wanted = 0.0;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      double const share = shares[l].value;
      auto const found = std::find_if(parts.begin(), parts.end(), [&](part const& p) {
        return p.block == blocks.of_layer[l] && std::abs(p.share - share) < 1e-9;  // equal up to rounding
      });
      auto const at = static_cast<std::size_t>(found - parts.begin());
      if (found == parts.end()) {
        double const exact = m * (1.0 - share);
        auto const n = static_cast<index_t>(std::floor(exact + 1e-9));  // 4 of 8, whatever rounding made of a half
        parts.push_back({blocks.of_layer[l], share, 0.0, std::clamp<index_t>(n, 1, of - 1), 0.0});
        parts.back().rest = exact - static_cast<double>(parts.back().n);
      }
      part_of.push_back(at);
      auto const size = static_cast<double>(layers[l].size());
      parts[at].size += size;
      wanted += (1.0 - share) * size;
      kept += static_cast<double>(parts[at].n) / m * size;
    }
    std::vector<std::size_t> order(parts.size());
    for (std::size_t p = 0; p < order.size(); ++p) order[p] = p;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return parts[a].rest > parts[b].rest; });
    for (std::size_t const p : order) {
      double const more = kept + parts[p].size / m;
      if (parts[p].n + 1 >= of || !(parts[p].rest > 1e-9) || more - wanted >= wanted - kept) continue;
      kept = more;
      ++parts[p].n;
    }
    std::vector<sparsity> out;
    for (std::size_t const p : part_of) out.push_back(sparsity(static_cast<double>(of - parts[p].n) / m));
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
