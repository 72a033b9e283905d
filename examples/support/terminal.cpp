// SPDX-License-Identifier: Apache-2.0
#include "support/terminal.hpp"

#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>

namespace pare::program {

namespace {
volatile std::sig_atomic_t interrupt_seen = 0;
extern "C" void on_interrupt(int) { interrupt_seen = 1; }
}  // namespace

void catch_interrupt() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
  if (std::signal(SIGHUP, on_interrupt) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);  // nohup
}
bool interrupted() noexcept { return interrupt_seen != 0; }

progress_line::progress_line(std::string title) : title_(std::move(title)), terminal_(isatty(STDERR_FILENO) == 1) {}

bool progress_line::operator()(std::string_view what, index_t done, index_t total) {
  if (interrupted()) return false;
  if (!terminal_) return true;
  auto const now = std::chrono::steady_clock::now();
  if (drawn_ && done < total && now - last_ < std::chrono::milliseconds(50)) return true;
  last_ = now;
  drawn_ = true;
  constexpr int width = 24;
  int const filled = total > 0 ? static_cast<int>(width * done / total) : 0;
  std::string bar(static_cast<std::size_t>(filled), '#');
  bar.resize(width, '.');
  int const percent = total > 0 ? static_cast<int>(100 * done / total) : 0;
  std::fprintf(stderr, "\r\x1b[K%s%s%.*s [%s] %3d %%", title_.c_str(), title_.empty() ? "" : ": ",
               static_cast<int>(what.size()), what.data(), bar.c_str(), percent);
  std::fflush(stderr);
  return true;
}

void progress_line::clear() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

std::string human_bytes(double bytes) {
  constexpr std::array<char const*, 5> units{"B", "kB", "MB", "GB", "TB"};
  std::size_t u = 0;
  while (bytes >= 1000.0 && u + 1 < units.size()) {
    bytes /= 1000.0;
    ++u;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), u == 0 ? "%.0f %s" : "%.2f %s", bytes, units[u]);
  return text.data();
}

}  // namespace pare::program
