// SPDX-License-Identifier: Apache-2.0
// Where a benchmark ran: CPU, instruction sets, compiler, and the libraries that it was compared with.
#pragma once

#include <algorithm>
#include <fstream>
#include <string>

#include <pare/io/json.hpp>

#include "environment.hpp"
#include "headline.hpp"

namespace pare::bench {

/// The CPU's name as Linux tells it.
inline std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name"))
      if (auto const at = line.find(": "); at != std::string::npos) return line.substr(at + 2);
  return "unknown";
}

inline std::string compiler() {
#if defined(__clang__)
  return __VERSION__;
#elif defined(__GNUC__)
  return "g++ " __VERSION__;
#else
  return "unknown";
#endif
}

/// OpenBLAS uses kernels as wide as pare's own here; so it does where it is not there.
inline bool openblas_is_fair() {
#if defined(PARE_BENCH_OPENBLAS)
  return !cpu_has_avx512() || simd::lanes<simd::default_arch> < 16 || is_wide_openblas_core(openblas_get_corename());
#else
  return true;
#endif
}

inline nlohmann::json machine_of_run(headline const& run) {
  nlohmann::json peers = nlohmann::json::object();
  for (auto const& [name, version] : dense_peer_versions()) peers[name] = version;
  for (auto const& [name, version] : sparse_peer_versions()) peers[name] = version;
  auto const spread = [](contender const& c, auto rate) {
    auto const [low, high] = std::minmax_element(c.samples.begin(), c.samples.end());
    return nlohmann::json{{"median", rate(median_of(c.samples))}, {"min", rate(*high)}, {"max", rate(*low)}};
  };
  nlohmann::json out{{"cpu", cpu_model()},
                     {"isa", simd::default_arch::name()},
                     {"cpu_has_avx512", cpu_has_avx512()},
                     {"last_level_cache_bytes", last_level_cache()},
                     {"threads", 1},
                     {"compiler", compiler()},
                     {"peers", peers},
                     {"openblas_is_fair", openblas_is_fair()}};
  if (!run.peak.samples.empty()) {
    out["clock_ghz"] = spread(run.clock, [](double s) { return clock_chain::cycles / s * 1e-9; });
    out["peak_gflops"] = spread(run.peak, [](double s) { return headline::gflops(s); });
    out["read_gbytes_per_s"] = spread(run.read, [&](double s) { return run.gbytes(s); });
  }
  return out;
}

/// The whole table, as files hold it.
inline nlohmann::json table_as_json(headline const& run) {
  nlohmann::json rows = nlohmann::json::array();
  for (headline_row const& r : run.rows) rows.push_back(to_json(r));
  return {{"machine", machine_of_run(run)}, {"rows", rows}};
}

}  // namespace pare::bench
