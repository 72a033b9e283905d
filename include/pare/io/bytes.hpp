// SPDX-License-Identifier: Apache-2.0
// Numbers in files: integers of a stated byte order at any address (data in files is often misaligned).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <pare/core/version.hpp>

namespace pare::inline PARE_ABI {

/// The little-endian unsigned integer in the sizeof(U) bytes at p. Compiles to one load.
template <std::unsigned_integral U>
[[nodiscard]] constexpr U load_little(std::byte const* p) noexcept {
  U value = 0;
  for (std::size_t i = 0; i < sizeof(U); ++i)
    value = static_cast<U>(value | static_cast<U>(static_cast<U>(p[i]) << (8 * i)));
  return value;
}

/// The big-endian unsigned integer in the sizeof(U) bytes at p.
template <std::unsigned_integral U>
[[nodiscard]] constexpr U load_big(std::byte const* p) noexcept {
  U value = 0;
  for (std::size_t i = 0; i < sizeof(U); ++i)
    value = static_cast<U>(value | static_cast<U>(static_cast<U>(p[i]) << (8 * (sizeof(U) - 1 - i))));
  return value;
}

/// Writes `value` little-endian to the sizeof(U) bytes at p.
template <std::unsigned_integral U>
constexpr void store_little(U value, std::byte* p) noexcept {
  for (std::size_t i = 0; i < sizeof(U); ++i) p[i] = static_cast<std::byte>((value >> (8 * i)) & 0xffu);
}

/// Bytes as text, and text as bytes; both views of the same storage.
[[nodiscard]] inline std::string_view as_text(std::span<std::byte const> bytes) noexcept {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}
[[nodiscard]] inline std::span<std::byte const> as_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<std::byte const*>(text.data()), text.size()};
}

}  // namespace pare::inline PARE_ABI
