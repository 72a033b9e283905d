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

/// The CPU has what pare's and dense libraries' AVX2 kernels need.
inline bool cpu_has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
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

/// How wide the kernels of dense libraries are to be: as the CPU's registers, or as AVX2's.
enum class dense_kernels { widest, avx2 };

/// Environment that peers read before main: one thread; and kernels of the given width. OpenBLAS's AVX-512 kernels have
/// to be asked for, because releases that do not know a newer CPU fall back to AVX2 and lose a factor of two; narrower
/// kernels that were asked for are replaced, the rest of what the user has set stays. Starts the program anew where
/// something had to be set.
inline void settle_environment([[maybe_unused]] char** argv,
                               [[maybe_unused]] dense_kernels width = dense_kernels::widest) {
#if defined(__linux__)
  bool changed = false;
  auto const preset = [&](char const* name, char const* value, bool replace = false) {
    char const* const set = std::getenv(name);
    if (set != nullptr && (!replace || strcasecmp(set, value) == 0)) return;
    changed = setenv(name, value, 1) == 0 || changed;
  };
  preset("OPENBLAS_NUM_THREADS", "1");
  preset("OMP_NUM_THREADS", "1");
  if (width == dense_kernels::avx2) {
    preset("OPENBLAS_CORETYPE", "Haswell", true);
    preset("ONEDNN_MAX_CPU_ISA", "AVX2", true);
    preset("DNNL_MAX_CPU_ISA", "AVX2", true);  // its name before oneDNN 2.5
  } else if (cpu_has_avx512()) {
    char const* const set = std::getenv("OPENBLAS_CORETYPE");
    preset("OPENBLAS_CORETYPE", "SKYLAKEX", set != nullptr && !is_wide_openblas_core(set));
  }
  if (changed) execv("/proc/self/exe", argv);  // returns only where it fails; the output then shows what is in use
#endif
}

}  // namespace pare::bench
