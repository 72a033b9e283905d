// SPDX-License-Identifier: Apache-2.0
// Times several ways to do one thing in alternating rounds, so that a drifting clock and busy neighbours meet all.
#pragma once

#include <vector>

#include <benchmark/benchmark.h>

#include "contender.hpp"

namespace pare::bench {

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
