// SPDX-License-Identifier: Apache-2.0
// N:M with an N for each layer, from its share of the budget.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include <pare/prune/layer_pruner.hpp>

namespace pare::inline PARE_ABI {

/// Another pruner's, with the pattern N:M where N = M (1 - share), rounded: for prune_in_stages with the pattern
/// `unstructured{}` and the shares of n_of_m_shares. A layer whose N rounds to M stays as it is; one to 0 keeps 1.
/// Error: a layer whose inputs are no multiple of M.
template <layer_pruner P>
struct mixed_n_of_m {
  using needs = typename P::needs;

  P by{};
  index_t of = 8;  // M

  [[nodiscard]] result<pruned_weights> prune(matrix_span<float const> w, needs const& stats, any_pattern const& pattern,
                                             sparsity target) const {
    PARE_EXPECTS((pattern.of() == 0 && pattern.unit() == extents{1, 1}),
                 "mixed_n_of_m: it makes patterns of its own, of unstructured{}");
    auto const n = static_cast<index_t>(std::lround(static_cast<double>(of) * (1.0 - target.value)));
    if (n >= of) return pruned_weights{matrix<float>(w), mask(w.shape(), true)};
    any_pattern const own({1, 1}, std::max<index_t>(n, 1), of);
    if (!fits(own, w.shape()))
      return error{errc::pattern_misfit, "mixed N:" + std::to_string(of),
                   "it does not tile " + std::to_string(w.cols) + " inputs"};
    return by.prune(w, stats, own, target);
  }
};

}  // namespace pare::inline PARE_ABI
