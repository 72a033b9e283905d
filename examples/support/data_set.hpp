// SPDX-License-Identifier: Apache-2.0
// What networks are evaluated and calibrated on: a text, or labelled images.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>

namespace pare::program {

/// Images as a network takes them, one a row, and their classes.
struct labelled_images {
  matrix<float> images;              // (N, values), as the data set has them (bytes stay 0..255)
  std::vector<std::uint8_t> labels;  // N
};

/// Which part of a data set.
enum class split { train, test };

/// Reads `source`:
///  - "glyphs" or "glyphs:N": N (default 10000) drawn characters, other ones for each split;
///  - a folder with MNIST's idx files (t10k-* or train-*, .gz or not), or one images file whose labels file lies beside
///  it;
///  - a file of CIFAR-10 records, or a folder with exactly one *.bin (or test_batch.bin / data_batch_1.bin).
/// At most `limit` images (0 = all). Errors: files missing or malformed, as many labels as images.
[[nodiscard]] result<labelled_images> read_images(std::string const& source, split part, index_t limit = 0);

/// A text file, at most its first `limit` bytes (0 = all). Errors: io; an empty file.
[[nodiscard]] result<std::string> read_text(std::filesystem::path const& file, index_t limit = 0);

}  // namespace pare::program
