// SPDX-License-Identifier: Apache-2.0
// Where the real networks and data sets are, for the tests that need them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "support/catch.hpp"

namespace pare::test {

/// The path of a file or folder below PARE_DATA_DIR, or nothing (with a message) where it is absent.
inline std::optional<std::filesystem::path> data(std::string const& relative) {
  std::filesystem::path const path = std::filesystem::path(PARE_DATA_DIR) / relative;
  if (std::filesystem::exists(path)) return path;
  WARN("skipped: " << path.string() << " is absent");
  return std::nullopt;
}

}  // namespace pare::test
