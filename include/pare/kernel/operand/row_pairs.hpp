// SPDX-License-Identifier: Apache-2.0
// Bitmaps of two rows that share the loads of X: the operand for moderate sparsity and many columns.
//
// Rows are cut into blocks, columns into blocks of 64. In each block of rows and columns rows are paired so that they
// have many columns in common and about equally many elements:
//
//   pair:    mask a (64 bits), mask b, row a, row b, both = |a & b|, only = max(|a - b|, |b - a|)
//   values:  for the columns of a & b:                  w(a, c) w(b, c)
//            for i < only: the i-th column of a - b and the i-th of b - a:   w(a, c) w(b, c')     (0 where there is
//            none)
//
// Pairs follow each other by (both, only), so that the trip counts of the kernel's loops change little from one pair to
// the next and their branches are predicted. Column numbers are never stored: the kernel finds them in the masks by
// counting zeros, which costs no load, and loads are what it is short of.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <pare/kernel/operand/row_blocks.hpp>

namespace pare::inline PARE_ABI {

/// bytes: 24 a pair and 64 columns (1.5 bits an element), and 2 sizeof(T) for every column or pair of columns that a
/// pair of rows multiplies: about nnz sizeof(T), more by one to two per cent for elements without a partner.
template <weight_value T>
class row_pairs {
 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "row_pairs"; }
  static constexpr index_t block_columns = 64;

  struct pair {
    std::uint64_t a = 0;
    std::uint64_t b = 0;
    std::uint16_t row_a = 0;  // in the block of rows
    std::uint16_t row_b = 0;  // row_a where a row is left over: then b = 0
    std::uint8_t both = 0;
    std::uint8_t only = 0;
  };

  template <sparse_format F>
  row_pairs(F const& format, machine const& m) : shape_(format.shape()), nnz_(format.nnz()) {
    bitmap<T> const& w = detail::as_bitmap(format);
    // Rows that pair well are found among many. Their sums wait in the second-level cache, 512 bytes a row: 256 KB of
    // Intel's 2 MB (512 rows, 4 to 6 % faster than 256 for 4096 x 4096, where that leaves blocks enough for threads).
    bool const high = m.intel && shape_.rows / 256 >= 8;
    block_rows_ = detail::rows_per_block(shape_.rows, high ? 512 : 256, high ? 8 : 4, 2);
    for (index_t r = 0; r < shape_.rows; r += block_rows_) append_block(w, r, std::min(r + block_rows_, shape_.rows));
    pairs_.shrink_to_fit();
    values_.shrink_to_fit();
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return pairs_.size() * sizeof(pair) + values_.size() * sizeof(T) + block_begin_.size() * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return block_rows_; }
  [[nodiscard]] index_t block_nnz(index_t b) const noexcept {
    auto const i = static_cast<std::size_t>(b);
    return (i + 1 < block_begin_.size() ? block_begin_[i + 1] : static_cast<index_t>(values_.size())) - block_begin_[i];
  }
  [[nodiscard]] index_t column_blocks() const noexcept {
    return shape_.cols == 0 ? 1 : ceil_div(shape_.cols, block_columns);
  }
  /// The pairs of a block of rows: for every block of columns as many as pair_count(rows of the block).
  [[nodiscard]] pair const* pairs(index_t block) const noexcept {
    return pairs_.data() + block * pair_count(block_rows_) * column_blocks();
  }
  [[nodiscard]] T const* values(index_t block) const noexcept {
    return values_.data() + block_begin_[static_cast<std::size_t>(block)];
  }
  [[nodiscard]] static constexpr index_t pair_count(index_t rows) noexcept { return (rows + 1) / 2; }

 private:
  struct row {
    std::uint64_t bits;
    std::uint16_t number;
    std::uint16_t count;
  };

  void append_block(bitmap<T> const& w, index_t r0, index_t r1) {
    block_begin_.push_back(static_cast<index_t>(values_.size()));
    std::vector<detail::word_cursor<T>> cursors;
    for (index_t r = r0; r < r1; ++r) cursors.emplace_back(w, r);
    std::vector<row> rows(cursors.size());
    std::vector<pair> found;
    for (index_t b = 0; b < column_blocks(); ++b) {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        std::uint64_t const bits = shape_.cols == 0 ? 0 : cursors[i].bits();
        rows[i] = {bits, static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(std::popcount(bits))};
      }
      std::stable_sort(rows.begin(), rows.end(), [](row const& x, row const& y) { return x.count < y.count; });
      find_pairs(rows, found);
      for (pair const& p : found) append_values(p, cursors[p.row_a], cursors[p.row_b]);
      pairs_.insert(pairs_.end(), found.begin(), found.end());
      if (shape_.cols == 0) break;
      for (auto& cursor : cursors) cursor.next();
    }
  }

  /// Greedy: each row takes, of the next 64 (which have about as many elements), the one with which it shares most. An
  /// element in common saves a load of X; a difference in length costs a column of padding.
  static void find_pairs(std::vector<row> const& rows, std::vector<pair>& found) {
    constexpr index_t reach = 64;
    found.clear();
    std::vector<std::uint16_t> next(rows.size() + 1);  // a list of the rows without a partner
    for (std::size_t i = 0; i <= rows.size(); ++i) next[i] = static_cast<std::uint16_t>(i + 1);
    for (std::size_t i = 0; i < rows.size(); i = next[i]) {
      std::size_t best = i;
      std::size_t before_best = i;
      int best_gain = -1'000'000;
      std::size_t before = i;
      std::size_t j = next[i];
      for (index_t tried = 0; j < rows.size() && tried < reach; ++tried, before = j, j = next[j]) {
        int const gain = 4 * std::popcount(rows[i].bits & rows[j].bits) - 6 * (rows[j].count - rows[i].count);
        if (gain <= best_gain) continue;
        best_gain = gain;
        best = j;
        before_best = before;
      }
      found.push_back(make_pair(rows[i], best == i ? row{0, rows[i].number, 0} : rows[best]));
      next[before_best] = next[best];  // where the row is alone both are i, and the list ends
    }
    std::stable_sort(found.begin(), found.end(),
                     [](pair const& x, pair const& y) { return x.both != y.both ? x.both < y.both : x.only < y.only; });
  }
  static pair make_pair(row const& x, row const& y) noexcept {
    int const both = std::popcount(x.bits & y.bits);
    int const only = std::max<int>(x.count, y.count) - both;
    return {x.bits, y.bits, x.number, y.number, static_cast<std::uint8_t>(both), static_cast<std::uint8_t>(only)};
  }

  void append_values(pair const& p, detail::word_cursor<T> const& a, detail::word_cursor<T> const& b) {
    std::uint64_t both = p.a & p.b;
    for (std::uint64_t bits = both; bits != 0; bits &= bits - 1) {
      values_.push_back(a.value(std::countr_zero(bits)));
      values_.push_back(b.value(std::countr_zero(bits)));
    }
    std::uint64_t left_a = p.a & ~both;
    std::uint64_t left_b = p.b & ~both;
    for (int i = 0; i < p.only; ++i, left_a &= left_a - 1, left_b &= left_b - 1) {
      values_.push_back(left_a == 0 ? T{} : a.value(std::countr_zero(left_a)));
      values_.push_back(left_b == 0 ? T{} : b.value(std::countr_zero(left_b)));
    }
  }

  extents shape_;
  index_t nnz_;
  index_t block_rows_ = 1;
  std::vector<index_t> block_begin_;  // of the values of each block of rows
  std::vector<pair, aligned_allocator<pair>> pairs_;
  std::vector<T, aligned_allocator<T>> values_;
};

}  // namespace pare::inline PARE_ABI
