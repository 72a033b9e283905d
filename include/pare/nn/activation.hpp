// SPDX-License-Identifier: Apache-2.0
// Activation functions of networks: their names in configurations, the gated one of Llama, and derivatives.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/utf8.hpp>
#include <pare/kernel/epilogue.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// x, or `bound` where x has its sign and a larger magnitude; NaN stays NaN. Done on the bits, because compilers turn
/// a comparison of floats with a constant into a branch, and the loop around it is then not vectorised.
[[nodiscard]] inline float limit_magnitude(float x, float bound) noexcept {
  auto const bits = std::bit_cast<std::uint32_t>(x);
  auto const limit = std::bit_cast<std::uint32_t>(bound);
  std::uint32_t const infinity = (limit & 0x80000000u) | 0x7f800000u;
  std::uint32_t const beyond = 0u - static_cast<std::uint32_t>(bits - limit <= infinity - limit);
  return std::bit_cast<float>(bits ^ ((bits ^ limit) & beyond));
}
}  // namespace detail

/// e^x to about 2 units in the last place, Below -87 the result is e^-87, above 88 it is e^88; NaN stays NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7 (remainder below 1e-8), 2^n by
/// writing the exponent. The rounding to n is the addition of 1.5 * 2^23, which leaves n in the low mantissa bits.
[[nodiscard]] inline float exponential(float x) noexcept {
  constexpr float rounder = 12582912.0f;
  constexpr float ln2_high = 0.693359375f;  // nine bits, so that n * ln2_high is exact
  constexpr float ln2_low = -2.12194440e-4f;
  x = detail::limit_magnitude(detail::limit_magnitude(x, -87.0f), 88.0f);
  float const shifted = x * 1.44269504f + rounder;
  float const n = shifted - rounder;
  float const r = (x - n * ln2_high) - n * ln2_low;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) + 127u) << 23);
}

/// gate[i] = silu(gate[i]) * up[i], the gated activation of Llama; silu(x) = x / (1 + e^-x).
inline void swiglu(float* gate, float const* up, index_t n) noexcept {
  for (index_t i = 0; i < n; ++i) gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

/// The gradients of swiglu's inputs from delta, that of its output: d_gate[i] and d_up[i]. d_gate may be delta.
inline void swiglu_backward(float const* gate, float const* up, float const* delta, float* d_gate, float* d_up,
                            index_t n) noexcept {
  for (index_t i = 0; i < n; ++i) {
    float const g = gate[i];
    float const sigmoid = 1.0f / (1.0f + exponential(-g));
    float const d = delta[i];
    d_up[i] = d * g * sigmoid;
    d_gate[i] = d * up[i] * sigmoid * (1.0f + g * (1.0f - sigmoid));
  }
}

/// The derivative at x; 0 for ReLU at 0.
[[nodiscard]] inline float derivative(activation kind, float x) noexcept {
  switch (kind) {
    case activation::none:
      break;
    case activation::relu:
      return x > 0.0f ? 1.0f : 0.0f;
    case activation::silu: {
      float const sigmoid = 1.0f / (1.0f + std::exp(-x));
      return sigmoid * (1.0f + x * (1.0f - sigmoid));
    }
    case activation::gelu:  // Phi(x) + x phi(x)
      return 0.5f * (1.0f + std::erf(x * 0.70710678118654752f)) + x * 0.39894228040143268f * std::exp(-0.5f * x * x);
    case activation::tanh: {
      float const y = std::tanh(x);
      return 1.0f - y * y;
    }
  }
  return 1.0f;
}

/// The activation called `text`, or an error that lists the known ones.
[[nodiscard]] inline result<activation> parse_activation(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, activation>, 5> known{{{"identity", activation::none},
                                                                          {"relu", activation::relu},
                                                                          {"silu", activation::silu},
                                                                          {"gelu", activation::gelu},
                                                                          {"tanh", activation::tanh}}};
  for (auto const& [name, kind] : known)
    if (text == name) return kind;
  return error{errc::unsupported, "",
               "expected \"identity\", \"relu\", \"silu\", \"gelu\" or \"tanh\", found " + in_quotes(text)};
}

}  // namespace pare::inline PARE_ABI
