// SPDX-License-Identifier: Apache-2.0
// What the laid-out operands share: rows cut into blocks, and a walk over the elements of a block of rows and columns.
#pragma once

#include <vector>

#include <pare/format/bitmap.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI::detail {

/// Rows a block for M rows: at most `most` and about equally many in all; `fewest` blocks, so that threads find work,
/// where each has 128 rows; a multiple of `step`. A block of X is read anew for every block of rows, so high is good.
[[nodiscard]] constexpr index_t rows_per_block(index_t rows, index_t most, index_t fewest, index_t step) noexcept {
  index_t const for_threads = rows / 128 < fewest ? rows / 128 : fewest;
  index_t const needed = ceil_div(rows > 0 ? rows : 1, most);
  return round_up(ceil_div(rows > 0 ? rows : 1, for_threads > needed ? for_threads : needed), step);
}

/// The format as a bitmap, which packers read: words of mask bits and runs of values. No copy where it is one.
template <sparse_format F>
[[nodiscard]] decltype(auto) as_bitmap(F const& format) {
  using T = typename F::value_type;
  if constexpr (std::same_as<F, bitmap<T>>) {
    return static_cast<F const&>(format);
  } else {
    return convert<bitmap<T>>(format);
  }
}

/// Walks the rows of a bitmap a word (64 columns) at a time.
template <weight_value T>
class word_cursor {
 public:
  word_cursor(bitmap<T> const& w, index_t row) : bits_(w.bits().row_words(row)), values_(w.row_values(row)) {}
  [[nodiscard]] mask::word bits() const noexcept { return *bits_; }
  /// The value of a set bit.
  [[nodiscard]] T value(index_t bit) const noexcept {
    return values_[std::popcount(*bits_ & ((mask::word{1} << bit) - 1))];
  }
  /// The values of the word's set bits, in order.
  [[nodiscard]] T const* values() const noexcept { return values_; }
  void next() noexcept { values_ += std::popcount(*bits_++); }

 private:
  mask::word const* bits_;
  T const* values_;
};

}  // namespace pare::inline PARE_ABI::detail
