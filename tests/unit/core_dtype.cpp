// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include <pare/core/dtype.hpp>

#include "support/catch.hpp"

using pare::bf16;
using pare::f16;

namespace {

/// The value of a binary float from its definition: `exponent_bits` and `fraction_bits`, no NaN, no infinity.
double value_of(std::uint32_t bits, int exponent_bits, int fraction_bits) {
  auto const sign = (bits >> (exponent_bits + fraction_bits)) & 1u;
  auto const exponent = static_cast<int>((bits >> fraction_bits) & ((1u << exponent_bits) - 1));
  auto const fraction =
      static_cast<double>(bits & ((1u << fraction_bits) - 1)) / static_cast<double>(1u << fraction_bits);
  int const bias = (1 << (exponent_bits - 1)) - 1;
  double const magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1.0 + fraction, exponent - bias);
  return sign != 0 ? -magnitude : magnitude;
}

bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

}  // namespace

TEST_CASE("f16: all 65536 patterns widen to the value that binary16 defines") {
  for (std::uint32_t b = 0; b < 0x10000; ++b) {
    f16 x;
    x.bits = static_cast<std::uint16_t>(b);
    auto const wide = static_cast<float>(x);
    INFO("pattern " << b);
    if ((b & 0x7c00u) != 0x7c00u) {
      REQUIRE(same_bits(wide, static_cast<float>(value_of(b, 5, 10))));
    } else if ((b & 0x3ffu) == 0) {
      REQUIRE(std::isinf(wide));
      REQUIRE(std::signbit(wide) == (b >= 0x8000));
    } else {
      REQUIRE(std::isnan(wide));
    }
  }
}

TEST_CASE("bf16: all 65536 patterns widen exactly and come back") {
  for (std::uint32_t b = 0; b < 0x10000; ++b) {
    auto const x = bf16::from_bits(static_cast<std::uint16_t>(b));
    auto const wide = static_cast<float>(x);
    INFO("pattern " << b);
    if ((b & 0x7f80u) != 0x7f80u) REQUIRE(same_bits(wide, static_cast<float>(value_of(b, 8, 7))));
    if ((b & 0x7fffu) > 0x7f80u) {
      REQUIRE(std::isnan(wide));
      REQUIRE(bf16(wide).bits == (b | 0x40u));  // quiet, payload and sign kept
    } else {
      REQUIRE(bf16(wide) == x);
    }
  }
}

TEST_CASE("bf16: every float between two neighbours goes to the nearer one, a tie to the even one") {
  std::uint32_t const offsets[] = {0x0001, 0x3fff, 0x4000, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xc000, 0xffff};
  for (std::uint32_t b = 0; b < 0x10000; ++b) {
    if ((b & 0x7f80u) == 0x7f80u) continue;  // infinity and NaN have no neighbour above
    // The neighbour of the largest finite value is infinity; for rounding it stands where the next value would.
    double const low = value_of(b, 8, 7);
    double const high =
        (b & 0x7fffu) == 0x7f7fu ? (b < 0x8000 ? 1.0 : -1.0) * std::ldexp(1.0, 128) : value_of(b + 1, 8, 7);
    for (std::uint32_t const offset : offsets) {
      auto const x = std::bit_cast<float>((b << 16) | offset);
      double const to_low = std::abs(static_cast<double>(x) - low);
      double const to_high = std::abs(high - static_cast<double>(x));
      bool const up = to_high < to_low || (to_high == to_low && (b & 1u) != 0);
      INFO("pattern " << b << " offset " << offset);
      REQUIRE(bf16(x).bits == b + (up ? 1 : 0));
    }
  }
}

TEST_CASE("bf16: a NaN whose payload lies in the lower half stays NaN") {
  CHECK(std::isnan(static_cast<float>(bf16(std::bit_cast<float>(0x7f800001u)))));
  CHECK(std::isnan(static_cast<float>(bf16(std::bit_cast<float>(0xffffffffu)))));
  CHECK(bf16(std::bit_cast<float>(0xff800001u)).bits == 0xffc0u);
}
