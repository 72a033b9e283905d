// SPDX-License-Identifier: Apache-2.0
// The main of a benchmark program: surroundings that make the comparison fair, and a note of what they are.
#pragma once

#include <cstdlib>
#include <vector>

#if defined(__linux__)
#include <unistd.h>
#endif

#include <benchmark/benchmark.h>

#include "peers.hpp"

namespace pare::bench {

/// Environment that peers read before main: one thread; and OpenBLAS's AVX-512 kernels where the CPU has them, because
/// releases that do not know a newer CPU fall back to AVX2 and lose a factor of two. What the user has set stays.
/// Starts the program anew where something had to be set.
inline void settle_environment([[maybe_unused]] char** argv) {
#if defined(__linux__)
  bool changed = false;
  auto const preset = [&](char const* name, char const* value) {
    if (std::getenv(name) != nullptr) return;
    changed = setenv(name, value, 0) == 0 || changed;
  };
  preset("OPENBLAS_NUM_THREADS", "1");
  preset("OMP_NUM_THREADS", "1");
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    preset("OPENBLAS_CORETYPE", "SKYLAKEX");
#endif
  if (changed) execv("/proc/self/exe", argv);  // returns only where it fails; the context then shows what is in use
#endif
}

/// Runs the registered benchmarks. A row times itself in rounds of its own, so Google Benchmark calls it once unless
/// --benchmark_min_time asks for more.
inline int run(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  char once[] = "--benchmark_min_time=1e-9";
  arguments.insert(arguments.begin() + 1, once);
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);

  benchmark::AddCustomContext("clock", "CPU time; medians of alternating rounds; vs_X above 1: faster than X");
#if defined(PARE_BENCH_OPENBLAS)
  benchmark::AddCustomContext("openblas", std::string(openblas_get_config()) + ", kernels " + openblas_get_corename());
#endif
#if defined(PARE_BENCH_ONEDNN)
  auto const* const version = dnnl::version();
  benchmark::AddCustomContext("onednn", std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
                                            std::to_string(version->patch));
#endif
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace pare::bench
