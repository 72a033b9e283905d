// SPDX-License-Identifier: Apache-2.0
// The element types of safetensors files, and how the floating-point ones become floats and back.
// Bytes in files are little-endian and may be misaligned.
#pragma once

#include <pare/core/dtype.hpp>
#include <pare/core/index.hpp>
#include <pare/io/bytes.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace pare::inline PARE_ABI {

/// An element type, in the order that the writers of safetensors sort by.
enum class dtype_code : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

namespace detail {
struct dtype_row {
  std::string_view name;
  int bits;
};
inline constexpr std::array<dtype_row, 22> dtype_rows = {{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};
static_assert(dtype_rows[static_cast<std::size_t>(dtype_code::f8_e5m2fnuz)].name == "F8_E5M2FNUZ");
static_assert(dtype_rows[static_cast<std::size_t>(dtype_code::u64)].name == "U64");
}  // namespace detail

/// The name in files: "F32", "BF16", ...
[[nodiscard]] constexpr std::string_view name(dtype_code code) noexcept {
  return detail::dtype_rows[static_cast<std::size_t>(code)].name;
}

/// Bits of one element; 4 and 6 for the packed types.
[[nodiscard]] constexpr int bits(dtype_code code) noexcept {
  return detail::dtype_rows[static_cast<std::size_t>(code)].bits;
}

/// The type of a name, which must be spelt exactly.
[[nodiscard]] constexpr std::optional<dtype_code> find_dtype(std::string_view text) noexcept {
  for (std::size_t i = 0; i < detail::dtype_rows.size(); ++i)
    if (detail::dtype_rows[i].name == text) return static_cast<dtype_code>(i);
  return std::nullopt;
}

/// True for F16, BF16, F32 and F64: the types that weights are read from and written to.
[[nodiscard]] constexpr bool is_weight_dtype(dtype_code code) noexcept {
  return code == dtype_code::f16 || code == dtype_code::bf16 || code == dtype_code::f32 || code == dtype_code::f64;
}

namespace detail {

/// binary32 to binary16, to nearest, ties to even; above the range it gives infinity.
[[nodiscard]] inline std::uint16_t f16_bits(float value) noexcept {
  auto const u = std::bit_cast<std::uint32_t>(value);
  auto const sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  std::uint32_t const magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and more
  if (magnitude < 0x38800000u)                                                      // below 2^-14: subnormal
    return static_cast<std::uint16_t>(
        sign | static_cast<std::uint32_t>(std::lrint(std::bit_cast<float>(magnitude) * 0x1p24f)));
  std::uint32_t const rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

template <dtype_code Code>
[[nodiscard]] inline float load_weight(std::byte const* p) noexcept {
  static_assert(is_weight_dtype(Code));
  if constexpr (Code == dtype_code::f16) return static_cast<float>(pare::f16{load_little<std::uint16_t>(p)});
  if constexpr (Code == dtype_code::bf16)
    return static_cast<float>(pare::bf16::from_bits(load_little<std::uint16_t>(p)));
  if constexpr (Code == dtype_code::f32) return std::bit_cast<float>(load_little<std::uint32_t>(p));
  if constexpr (Code == dtype_code::f64) {
    double const value = std::bit_cast<double>(load_little<std::uint64_t>(p));
    // out of float's range: infinity, without the undefined conversion
    if (std::abs(value) > 3.4028235677973366e38) return std::copysign(HUGE_VALF, value < 0 ? -1.0f : 1.0f);
    return static_cast<float>(value);
  }
}

template <dtype_code Code>
inline void store_weight(float value, std::byte* p) noexcept {
  static_assert(is_weight_dtype(Code));
  if constexpr (Code == dtype_code::f16) store_little(f16_bits(value), p);
  if constexpr (Code == dtype_code::bf16) store_little(pare::bf16(value).bits, p);
  if constexpr (Code == dtype_code::f32) store_little(std::bit_cast<std::uint32_t>(value), p);
  if constexpr (Code == dtype_code::f64) store_little(std::bit_cast<std::uint64_t>(static_cast<double>(value)), p);
}

/// Calls f.template operator()<Code>() for the run-time code. Pre: is_weight_dtype(code).
template <class F>
constexpr auto for_weight_dtype(dtype_code code, F&& f) {
  switch (code) {
    case dtype_code::f16:
      return f.template operator()<dtype_code::f16>();
    case dtype_code::bf16:
      return f.template operator()<dtype_code::bf16>();
    case dtype_code::f64:
      return f.template operator()<dtype_code::f64>();
    default:
      return f.template operator()<dtype_code::f32>();
  }
}

}  // namespace detail

/// Bytes of one element. Pre: the type is not a packed one (F4, F6).
[[nodiscard]] constexpr std::size_t size_in_bytes(dtype_code code) noexcept {
  return static_cast<std::size_t>(bits(code) / 8);
}

/// Widens `out.size()` stored elements to float; exact but for F64, which rounds (infinity above float's range).
/// Pre: is_weight_dtype(code), bytes.size() == out.size() * size_in_bytes(code).
inline void to_floats(dtype_code code, std::span<std::byte const> bytes, std::span<float> out) noexcept {
  detail::for_weight_dtype(code, [&]<dtype_code Code>() {
    constexpr std::size_t step = size_in_bytes(Code);
    std::byte const* p = bytes.data();
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = detail::load_weight<Code>(p + i * step);
  });
}

/// Stores one float, rounded to nearest even; what exceeds the range becomes infinity.
/// Pre: is_weight_dtype(code), size_in_bytes(code) bytes at p.
inline void store_float(dtype_code code, float value, std::byte* p) noexcept {
  detail::for_weight_dtype(code, [&]<dtype_code Code>() { detail::store_weight<Code>(value, p); });
}

/// The float that `value` reads back as after it was stored.
[[nodiscard]] inline float stored_value(dtype_code code, float value) noexcept {
  std::array<std::byte, 8> bytes{};
  float back = 0;
  store_float(code, value, bytes.data());
  to_floats(code, std::span(bytes).first(size_in_bytes(code)), {&back, 1});
  return back;
}

}  // namespace pare::inline PARE_ABI
