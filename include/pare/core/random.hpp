// SPDX-License-Identifier: Apache-2.0
// A small random generator whose sequence is the same on every platform (the distributions of <random> are not).
#pragma once

#include <cstdint>

#include <pare/core/index.hpp>
#include <pare/core/math.hpp>

namespace pare::inline PARE_ABI {

/// splitmix64 (Steele, Lea, Flood 2014): 64 bits of state, every seed is good. Not for cryptography.
class random_source {
 public:
  constexpr explicit random_source(std::uint64_t seed = 0) noexcept : state_(seed) {}

  /// Uniform 64 bits.
  constexpr std::uint64_t bits() noexcept {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, 1), 24 bits.
  constexpr float uniform() noexcept { return static_cast<float>(bits() >> 40) * 0x1p-24f; }
  /// Uniform in [low, high).
  constexpr float uniform(float low, float high) noexcept { return low + (high - low) * uniform(); }
  /// Uniform in [0, n). Pre: n > 0. Bias below n / 2^64.
  constexpr index_t below(index_t n) noexcept { return static_cast<index_t>(bits() % static_cast<std::uint64_t>(n)); }
  /// Normal with mean 0 and variance 1 (Box-Muller, one of the pair).
  float normal() noexcept {
    float const u = 1.0f - uniform();
    return math::sqrt(-2.0f * math::log(u)) * math::cos(6.28318530718f * uniform());
  }

 private:
  std::uint64_t state_;
};

}  // namespace pare::inline PARE_ABI
