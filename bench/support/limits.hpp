// SPDX-License-Identifier: Apache-2.0
// What the machine can do at best: float multiply-adds in registers, reads from memory, and its clock now.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include <pare/core/matrix.hpp>
#include <pare/kernel/simd.hpp>

namespace pare::bench {

/// Keeps a value, and all that it is computed from, in the program.
template <class T>
void keep(T const& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

/// Independent chains of multiply-adds, as many as registers without those of the factors: twice what a latency of four
/// cycles at two a cycle needs.
template <std::size_t... I>
float multiply_add_chains(index_t steps, std::index_sequence<I...>) {
  using floats = simd::floats<simd::default_arch>;
  floats const a(0.999f);
  floats const b(0.001f);
  std::array<floats, sizeof...(I)> chain{floats(1.0f + static_cast<float>(I))...};  // equal ones would be one
  for (index_t s = 0; s < steps; ++s) ((chain[I] = simd::multiply_add<simd::default_arch>(chain[I], a, b)), ...);
  floats total(0.0f);
  ((total = total + chain[I]), ...);
  return simd::sum<simd::default_arch>(total);
}

/// One call does `flops` floating-point operations, and nothing else.
struct multiply_add_peak {
  static constexpr std::size_t chains = simd::has_32_registers<simd::default_arch> ? 24 : 12;
  static constexpr index_t steps = 40'000;
  static constexpr double flops = 2.0 * static_cast<double>(steps) * static_cast<double>(chains) *
                                  static_cast<double>(simd::lanes<simd::default_arch>);

  void operator()() const { keep(multiply_add_chains(steps, std::make_index_sequence<chains>())); }
};

/// Reads memory that no cache holds: one call the next quarter of a buffer, front to back. A whole turn leaves nothing
/// else in the caches.
class memory_reader {
 public:
  static constexpr index_t quarters = 4;

  /// `bytes` is to be several times the last-level cache.
  explicit memory_reader(index_t bytes) : buffer_(1, round_up(bytes, step * quarters * 4) / 4) {
    for (index_t i = 0; i < buffer_.size(); ++i) buffer_.data()[i] = 1.0f;
  }

  [[nodiscard]] double bytes_per_call() const { return static_cast<double>(buffer_.bytes() / quarters); }

  void operator()() {
    using floats = simd::floats<simd::default_arch>;
    constexpr index_t width = simd::lanes<simd::default_arch>;
    constexpr index_t streams = 4;  // read faster than one, if not by much
    index_t const length = buffer_.size() / (quarters * streams);
    float const* const first = buffer_.data() + next_ * length * streams;
    next_ = (next_ + 1) % quarters;
    std::array<floats, streams> sum{floats(0.0f), floats(0.0f), floats(0.0f), floats(0.0f)};
    for (index_t i = 0; i < length; i += width)
      for (index_t s = 0; s < streams; ++s) {
        auto& of_stream = sum[static_cast<std::size_t>(s)];
        of_stream = of_stream + floats::load_aligned(first + s * length + i);
      }
    keep(simd::sum<simd::default_arch>((sum[0] + sum[1]) + (sum[2] + sum[3])));
  }

 private:
  static constexpr index_t step = 4096;  // a multiple of what a turn of the loop reads

  matrix<float> buffer_;
  index_t next_ = 0;
};

/// A chain of integer multiplications, each of which waits three cycles for the one before on x86 CPUs of this century
/// (on others the number means nothing).
struct clock_chain {
  static constexpr index_t steps = 200'000;
  static constexpr double cycles = 3.0 * static_cast<double>(steps);

  void operator()() const {
    std::uint64_t x = 3;
    std::uint64_t y = 5;
    keep(y);
    for (index_t i = 0; i < steps; ++i) {
      x *= y;
      asm volatile("" : "+r"(x));
    }
    keep(x);
  }
};

}  // namespace pare::bench
