// SPDX-License-Identifier: Apache-2.0
// How much memory the process takes, where the system tells.
#pragma once

#include <cstddef>
#include <fstream>
#include <string>

namespace pare::test {

/// A field of /proc/self/status in bytes; 0 where there is none.
inline std::size_t memory_field(std::string const& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stoul(line.substr(field.size() + 1)) * 1024;
  return 0;
}

/// Starts a new measurement of the peak; false where the system does not let us, and under the address sanitizer, which
/// keeps what is freed.
inline bool reset_peak_memory() {
#if defined(__SANITIZE_ADDRESS__)
  return false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
  return false;
#endif
#endif
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  return clear.good();
}

}  // namespace pare::test
