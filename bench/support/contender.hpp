// SPDX-License-Identifier: Apache-2.0
// One of several ways to do one thing, and how long a call of it takes.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <time.h>

#include <pare/core/index.hpp>

namespace pare::bench {

/// CPU seconds of this thread. What other programs do in between is not in them, as it would be in wall time.
inline double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// The middle value; of an even number the upper one, of none 0.
inline double median_of(std::vector<double> values) {
  if (values.empty()) return 0.0;
  auto const middle = values.begin() + static_cast<index_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// One way to do it. `median` holds the seconds of one call after the contest.
struct contender {
  std::string name;
  std::function<void()> call;
  double median = 0.0;
  index_t calls_per_sample = 1;
  std::vector<double> samples{};

  contender(std::string contender_name, std::function<void()> work)
      : name(std::move(contender_name)), call(std::move(work)) {}

  /// One call to warm up, then enough calls a sample to outlast the clock's resolution by far.
  void warm_up(double shortest_sample = 1e-3) {
    call();
    double const start = thread_seconds();
    call();
    double const once = thread_seconds() - start;
    calls_per_sample = once >= shortest_sample ? 1 : static_cast<index_t>(shortest_sample / std::max(once, 1e-7)) + 1;
  }
  void sample() {
    double const start = thread_seconds();
    for (index_t i = 0; i < calls_per_sample; ++i) call();
    samples.push_back((thread_seconds() - start) / static_cast<double>(calls_per_sample));
  }
  void take_median() { median = median_of(samples); }
};

}  // namespace pare::bench
