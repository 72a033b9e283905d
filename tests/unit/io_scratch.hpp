// SPDX-License-Identifier: Apache-2.0
// A folder for one test of the io layer, gone when the test ends.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <unistd.h>

#include <pare/io/bytes.hpp>
#include <pare/io/file.hpp>

#include "support/catch.hpp"

namespace pare::test {

class scratch_folder {
 public:
  scratch_folder() {
    static int counter = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("pare-test-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
    std::filesystem::create_directory(path_);
  }
  scratch_folder(scratch_folder const&) = delete;
  scratch_folder& operator=(scratch_folder const&) = delete;
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  std::filesystem::path const& path() const { return path_; }

  /// Writes a file and gives its path.
  std::filesystem::path write(std::string_view name, std::string_view content) const {
    auto const path = path_ / name;
    REQUIRE(write_file_atomically(path, as_bytes(content)));
    return path;
  }

  /// The names of what is in the folder, hidden files too.
  std::vector<std::string> list() const {
    std::vector<std::string> names;
    for (auto const& entry : std::filesystem::directory_iterator(path_))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::filesystem::path path_;
};

/// The content of a file as text.
inline std::string content(std::filesystem::path const& path) {
  auto const bytes = read_file(path);
  REQUIRE(bytes);
  return std::string(as_text(*bytes));
}

}  // namespace pare::test
