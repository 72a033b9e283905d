// SPDX-License-Identifier: Apache-2.0
// Copies of a matrix in another element type.
#pragma once

#include <pare/core/dtype.hpp>
#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// A weight value in another storage type: exact towards float, rounded to nearest even towards bf16.
template <weight_value To, weight_value From>
[[nodiscard]] constexpr To value_cast(From v) noexcept {
  if constexpr (std::same_as<To, From>) {
    return v;
  } else {
    return static_cast<To>(v);
  }
}

/// An owning copy of m in the element type To. O(rows * cols).
template <weight_value To, matrix_view M>
[[nodiscard]] matrix<To> cast(M const& m) {
  auto const from = as_span(m);
  matrix<To> out(from.shape());
  for (index_t i = 0; i < from.rows; ++i)
    for (index_t j = 0; j < from.cols; ++j) out(i, j) = value_cast<To>(from(i, j));
  return out;
}

}  // namespace pare::inline PARE_ABI
