// SPDX-License-Identifier: Apache-2.0
// The result of pruning a network in several ways, as one HTML page that needs nothing else: a table, charts and
// pictures of the masks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>

namespace pare::demo {

/// One network that was measured.
struct report_row {
  std::string method;       // "magnitude"
  std::string pattern;      // "unstructured", "2:4"; without the sparsity
  double sparsity = 0;      // of the pruned weights, in [0, 1]
  double quality = 0;       // accuracy in [0, 1], or perplexity
  index_t bytes = 0;        // of the weights as they are stored for running
  double milliseconds = 0;  // per batch
  double speedup = 0;       // over dense, in the same run
};

/// Which weights of one layer a method kept.
struct mask_picture {
  std::string title;  // "magnitude, unstructured"
  std::string layer;  // "fc1.weight"
  index_t rows = 0;
  index_t cols = 0;
  std::vector<std::uint8_t> kept;  // (rows, cols), row-major; not 0: kept
};

/// What the quality column holds.
enum class quality_measure { accuracy, perplexity };

struct report {
  std::string title;
  std::string environment;  // one line: processor, threads, batch, kernels
  std::string summary;      // one or two sentences under the title
  quality_measure measure = quality_measure::accuracy;
  report_row dense;  // what the rows are compared to; its sparsity is 0 and its speed-up 1
  std::vector<report_row> rows;
  std::vector<mask_picture> masks;
};

/// The page. All texts are escaped; a number that is not finite is shown as a dash and left out of the charts.
/// Rows of the same method and pattern form one line of a chart. A layer wider or higher than 512 becomes a density
/// map: each pixel is the share of weights kept in a square of them.
/// Pre: every mask has rows * cols elements. Size: about rows * cols / 6 bytes per mask.
[[nodiscard]] std::string to_html(report const& r);

/// Writes the page beside `file` and renames it. Errors: io.
[[nodiscard]] result<void> write_report(std::filesystem::path const& file, report const& r);

}  // namespace pare::demo
