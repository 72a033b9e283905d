// SPDX-License-Identifier: Apache-2.0
// The surroundings that make a comparison fair.
#pragma once

#include <cstdlib>

#include <strings.h>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace pare::bench {

/// The CPU has what the AVX-512 kernels of dense libraries need.
inline bool cpu_has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

/// The name of an OpenBLAS core that has AVX-512 kernels, in any case of letters.
inline bool is_wide_openblas_core(char const* name) {
  for (char const* wide : {"SkylakeX", "Cooperlake", "SapphireRapids"})
    if (strcasecmp(name, wide) == 0) return true;
  return false;
}

/// Environment that peers read before main: one thread; and OpenBLAS's AVX-512 kernels where the CPU has them, because
/// releases that do not know a newer CPU fall back to AVX2 and lose a factor of two; narrower kernels that were asked
/// for are replaced, the rest of what the user has set stays. Starts the program anew where something had to be set.
inline void settle_environment([[maybe_unused]] char** argv) {
#if defined(__linux__)
  bool changed = false;
  auto const preset = [&](char const* name, char const* value, bool replace = false) {
    if (std::getenv(name) != nullptr && !replace) return;
    changed = setenv(name, value, 1) == 0 || changed;
  };
  preset("OPENBLAS_NUM_THREADS", "1");
  preset("OMP_NUM_THREADS", "1");
  if (cpu_has_avx512()) {
    char const* const set = std::getenv("OPENBLAS_CORETYPE");
    preset("OPENBLAS_CORETYPE", "SKYLAKEX", set != nullptr && !is_wide_openblas_core(set));
  }
  if (changed) execv("/proc/self/exe", argv);  // returns only where it fails; the output then shows what is in use
#endif
}

}  // namespace pare::bench
