// SPDX-License-Identifier: Apache-2.0
// Element types: bf16 and f16 as storage types, and the run-time codes that files use.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <string_view>

#include <pare/core/version.hpp>

namespace pare::inline PARE_ABI {

/// bfloat16: the upper half of an IEEE binary32. Storage only; arithmetic is done in float.
struct bf16 {
  std::uint16_t bits = 0;

  constexpr bf16() = default;
  /// Rounds to nearest, ties to even; NaN stays NaN (quiet, upper payload bits kept).
  constexpr explicit bf16(float value) noexcept {
    auto const u = std::bit_cast<std::uint32_t>(value);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<std::uint16_t>((u >> 16) | 0x40u);
    } else {
      bits = static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
  }
  constexpr explicit operator float() const noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  [[nodiscard]] static constexpr bf16 from_bits(std::uint16_t b) noexcept {
    bf16 x;
    x.bits = b;
    return x;
  }
  /// Bitwise: two NaN of the same payload are equal, +0 and -0 are not.
  friend constexpr bool operator==(bf16, bf16) = default;
};

/// IEEE binary16. Storage only: read from files and widened to float.
struct f16 {
  std::uint16_t bits = 0;

  constexpr explicit operator float() const noexcept {
    std::uint32_t const sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    std::uint32_t const exponent = (bits >> 10) & 0x1fu;
    std::uint32_t const fraction = bits & 0x3ffu;
    if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
    float const magnitude = static_cast<float>(fraction) * 0x1p-24f;  // subnormal or zero
    return sign != 0 ? -magnitude : magnitude;
  }
};

/// What a weight may be stored as.
template <class T>
concept weight_value = std::same_as<T, float> || std::same_as<T, bf16>;

/// A weight's value as float: exact for both storage types.
[[nodiscard]] constexpr float to_float(float v) noexcept { return v; }
[[nodiscard]] constexpr float to_float(bf16 v) noexcept { return static_cast<float>(v); }

/// Name of a weight type in kernel and bench names.
template <weight_value T>
inline constexpr std::string_view dtype_name = std::same_as<T, float> ? "f32" : "bf16";

}  // namespace pare::inline PARE_ABI
