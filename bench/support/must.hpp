// SPDX-License-Identifier: Apache-2.0
// The value of a result, or the end of the program: what a program does that has nothing to show without its data.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>

#include <pare/core/result.hpp>

namespace pare::bench {

[[noreturn]] inline void give_up(error const& e) {
  std::fprintf(stderr, "error: %s\n", e.message().c_str());
  std::exit(2);
}

/// The value; an error is printed and ends the program with status 2.
template <class T>
T must(result<T> r) {
  if (!r) give_up(r.error());
  return *std::move(r);
}
inline void must(result<void> const& r) {
  if (!r) give_up(r.error());
}

}  // namespace pare::bench
