// SPDX-License-Identifier: Apache-2.0
// Times several ways to do one thing in alternating rounds, so that a drifting clock and busy neighbours meet all.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <time.h>

#include <benchmark/benchmark.h>

#include <pare/core/index.hpp>

namespace pare::bench {

/// CPU seconds of this thread. What other programs do in between is not in them, as it would be in wall time.
inline double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
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
  void warm_up() {
    constexpr double shortest_sample = 1e-3;
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
  void take_median() {
    auto const middle = samples.begin() + static_cast<index_t>(samples.size() / 2);
    std::nth_element(samples.begin(), middle, samples.end());
    median = *middle;
  }
};

/// Runs `own` and `others` in alternating rounds and takes medians. Google Benchmark's clock runs for `own` alone.
/// The counter `vs_NAME` is the time of each other over the time of `own`: above 1, `own` is faster.
inline void hold_contest(benchmark::State& state, contender& own, std::vector<contender>& others) {
  constexpr index_t rounds = 7;
  own.warm_up();
  for (contender& c : others) c.warm_up();
  while (state.KeepRunningBatch(rounds * own.calls_per_sample))
    for (index_t round = 0; round < rounds; ++round) {
      state.PauseTiming();
      for (contender& c : others) c.sample();
      state.ResumeTiming();
      own.sample();
    }
  own.take_median();
  for (contender& c : others) {
    c.take_median();
    state.counters["vs_" + c.name] = c.median / own.median;
  }
}

}  // namespace pare::bench
