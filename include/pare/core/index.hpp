// SPDX-License-Identifier: Apache-2.0
// Index type, matrix extents, and the checked arithmetic that sizes from files go through.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pare/core/version.hpp>

namespace pare::inline PARE_ABI {

/// Signed type of every logical index and count. Narrower types appear only inside a format.
using index_t = std::ptrdiff_t;

/// Rows and columns of a matrix. For weights: M outputs, K inputs.
struct extents {
  index_t rows = 0;
  index_t cols = 0;
  [[nodiscard]] constexpr index_t size() const noexcept { return rows * cols; }
  friend constexpr bool operator==(extents, extents) = default;
};

/// ceil(a / b) for a >= 0, b > 0.
[[nodiscard]] constexpr index_t ceil_div(index_t a, index_t b) noexcept { return (a + b - 1) / b; }

/// The smallest multiple of `step` that is >= a.
[[nodiscard]] constexpr index_t round_up(index_t a, index_t step) noexcept { return ceil_div(a, step) * step; }

/// a * b, or false where that does not fit 64 bits. Every size that a file claims is computed with this.
[[nodiscard]] constexpr bool checked_multiply(std::uint64_t a, std::uint64_t b, std::uint64_t& product) noexcept {
  product = a * b;
  return a == 0 || product / a == b;
}

/// a + b, or false where that does not fit 64 bits.
[[nodiscard]] constexpr bool checked_add(std::uint64_t a, std::uint64_t b, std::uint64_t& sum) noexcept {
  sum = a + b;
  return sum >= a;
}

}  // namespace pare::inline PARE_ABI
