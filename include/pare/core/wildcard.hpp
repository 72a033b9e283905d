// SPDX-License-Identifier: Apache-2.0
// Names with `*` for any run of characters.
#pragma once

#include <cstddef>
#include <string_view>

#include <pare/core/version.hpp>

namespace pare::inline PARE_ABI {

/// `*` matches any run of characters, everything else itself. O(pattern * name) at worst.
[[nodiscard]] constexpr bool matches_wildcard(std::string_view pattern, std::string_view name) noexcept {
  std::size_t p = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  std::size_t n = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace pare::inline PARE_ABI
