// SPDX-License-Identifier: Apache-2.0
// CIFAR-10's binary form: records of 3073 bytes, a label 0..9 and 32 x 32 red, green, then blue bytes, row-major.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/file.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pare::inline PARE_ABI {

/// Colour images, one after another: 3 planes of 32 x 32.
struct cifar_images {
  static constexpr index_t image_size = 3 * 32 * 32;
  index_t count = 0;
  std::vector<std::uint8_t> labels;  // (count)
  std::vector<std::uint8_t> pixels;  // (count, 3072)
};

/// Reads a data batch of any number of records. Errors: errc::io, errc::malformed.
[[nodiscard]] inline result<cifar_images> read_cifar(std::filesystem::path const& path) {
  constexpr std::size_t record = cifar_images::image_size + 1;
  PARE_TRY(auto const bytes, read_file(path));
  if (bytes.empty() || bytes.size() % record != 0)
    return error{errc::malformed, path.string(),
                 "expected records of 3073 bytes, found a file of " + std::to_string(bytes.size()) + " bytes"};
  cifar_images out;
  out.count = static_cast<index_t>(bytes.size() / record);
  out.labels.reserve(bytes.size() / record);
  out.pixels.reserve(bytes.size() - bytes.size() / record);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto const v = static_cast<std::uint8_t>(bytes[i]);
    if (i % record != 0) {
      out.pixels.push_back(v);
    } else {
      if (v > 9)
        return error{
            errc::malformed, path.string(),
            "record " + std::to_string(i / record) + " has the label " + std::to_string(v) + "; expected 0 to 9"};
      out.labels.push_back(v);
    }
  }
  return out;
}

}  // namespace pare::inline PARE_ABI
