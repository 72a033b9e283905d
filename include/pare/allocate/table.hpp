// SPDX-License-Identifier: Apache-2.0
// Sparsities by name: components of a network that are known to bear more or less than the others.
#pragma once

#include <utility>

#include <pare/allocate/allocator.hpp>
#include <pare/core/wildcard.hpp>

namespace pare::inline PARE_ABI {

/// A layer gets the sparsity of the first entry whose pattern (`*` for any run of characters) matches its name; all
/// layers without an entry share one sparsity, which makes the network meet its target.
///
/// Errors: an entry that no layer has a name for; a target that the entries leave no room for (with the sparsity that
/// the others would need, or with what all entries make where there are no others).
struct table {
  struct entry {
    std::string pattern;
    sparsity share;
  };
  static constexpr bool needs_scores = false;

  std::vector<entry> entries;

  [[nodiscard]] result<std::vector<sparsity>> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    std::vector<sparsity> out(layers.size(), target);
    std::vector<bool> found(entries.size(), false);
    double removed = 0.0;  // still to remove, of the rest
    double rest = 0.0;
    double all = 0.0;
    std::string others;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      auto const n = static_cast<double>(layers[l].size());
      all += n;
      removed += target.value * n;
      bool listed = false;
      for (std::size_t e = 0; e < entries.size(); ++e)
        if (matches_wildcard(entries[e].pattern, layers[l].name)) {
          found[e] = true;
          if (!std::exchange(listed, true)) out[l] = entries[e].share;
        }
      if (listed) {
        removed -= out[l].value * n;
      } else {
        rest += n;
        if (others.size() < 100) others += (others.empty() ? "" : ", ") + layers[l].name;
      }
    }
    for (std::size_t e = 0; e < entries.size(); ++e)
      if (!found[e])
        return error{errc::missing, "table entry '" + entries[e].pattern + "'", "no layer has a name that matches"};
    double const rounding = 1e-9 * all;
    if (removed < -rounding || removed > rest + rounding) {
      std::string const given = "the entries remove " + std::to_string((target.value * all - removed) / all) +
                                " of all weights, the target is " + std::to_string(target.value);
      return error{errc::out_of_range, "table",
                   rest > 0.0 ? given + "; the layers without an entry (" + others + ") would need sparsity " +
                                    std::to_string(removed / rest) + ", outside [0, 1]"
                              : given + ", and every layer has an entry"};
    }
    sparsity const share(rest > 0.0 ? std::min(std::max(removed / rest, 0.0), 1.0) : 0.0);
    for (std::size_t l = 0; l < layers.size(); ++l) {
      bool listed = false;
      for (entry const& e : entries) listed = listed || matches_wildcard(e.pattern, layers[l].name);
      if (!listed) out[l] = share;
    }
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
