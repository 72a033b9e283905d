// SPDX-License-Identifier: Apache-2.0
// What the programs show on a terminal: progress lines, and Ctrl-C as a cancelled piece of work.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include <pare/core/progress.hpp>

namespace pare::program {

/// Makes Ctrl-C, and a terminal that is closed, set a flag instead of ending the program, so that nothing is left
/// half-written.
void catch_interrupt();
[[nodiscard]] bool interrupted() noexcept;

/// One line on stderr that is drawn over and over, while the work runs; silent where stderr is no terminal.
class progress_line {
 public:
  /// `title` stands in front of what the library reports.
  explicit progress_line(std::string title = {});
  progress_line(progress_line const&) = delete;
  progress_line& operator=(progress_line const&) = delete;
  ~progress_line() { clear(); }

  void title(std::string text) { title_ = std::move(text); }
  /// Draws (at most 20 times a second); false once Ctrl-C was pressed.
  bool operator()(std::string_view what, index_t done, index_t total);
  /// Removes the line.
  void clear();
  /// This line as the library's callback.
  [[nodiscard]] pare::progress callback() noexcept { return pare::progress(*this); }

 private:
  std::string title_;
  bool terminal_ = false;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

/// "1.04 MB"; decimal units.
[[nodiscard]] std::string human_bytes(double bytes);

}  // namespace pare::program
