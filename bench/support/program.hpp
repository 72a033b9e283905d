// SPDX-License-Identifier: Apache-2.0
// The main of a Google Benchmark program, and a note of the surroundings.
#pragma once

#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "environment.hpp"
#include "peers.hpp"

namespace pare::bench {

/// Runs the registered benchmarks. A row times itself in rounds of its own, so Google Benchmark calls it once unless
/// --benchmark_min_time asks for more.
inline int run(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  char once[] = "--benchmark_min_time=1e-9";
  arguments.insert(arguments.begin() + 1, once);
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);

  benchmark::AddCustomContext("clock", "CPU time; medians of alternating rounds; vs_X above 1: faster than X");
  for (auto const& [name, version] : dense_peer_versions()) benchmark::AddCustomContext(name, version);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace pare::bench
