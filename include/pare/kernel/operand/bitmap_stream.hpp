// SPDX-License-Identifier: Apache-2.0
// A bitmap as two streams that are read once, from front to end: the operand for a few columns.
//
//   rows 0..3, columns   0..63:   masks: m0 m1 m2 m3 (64 bits each)   values: of row 0, of row 1, of row 2, of row 3
//              columns  64..127:  masks: m0 m1 m2 m3                  values: ...
//   rows 4..7: ...
//
// Four rows in one stream of values, so that they share the loads of x and the memory sees one long run: with a stream
// for each row, prefetching ahead runs into the neighbour's row and is twice as slow. Where a run of values ends is
// counted in the masks.
//
// Values of a row follow each other by column. Only where bf16 is expanded as 16-bit words (machine::expands_words)
// they follow in the order 0 16 1 17 ... 15 31 of 32 columns, and so do the bits: a word of each half makes a 32-bit
// lane, whose upper half is a float already and whose lower half becomes one with a shift, each for 16 neighbouring
// columns.
#pragma once

#include <pare/core/math.hpp>
#include <pare/kernel/operand/row_blocks.hpp>

namespace pare::inline PARE_ABI {

/// bytes: nnz sizeof(T) + M K / 8, M rounded up to 4 and K to 64, + 8 for four rows. Both streams have a line of room
/// behind their end, which kernels may read.
template <weight_value T>
class bitmap_stream {
 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "bitmap_stream"; }
  static constexpr index_t group_rows = 4;
  static constexpr index_t block_columns = 64;

  template <sparse_format F>
  bitmap_stream(F const& format, machine const& m)
      : shape_(format.shape()), nnz_(format.nnz()), by_words_(std::same_as<T, bf16> && m.expands_words) {
    bitmap<T> const& w = detail::as_bitmap(format);
    index_t const groups = ceil_div(shape_.rows, group_rows);
    masks_ = matrix<std::uint64_t>(groups, blocks() * group_rows);
    values_ = matrix<T>(1, nnz_ + static_cast<index_t>(alignment / sizeof(T)));
    T* out = values_.data();
    for (index_t g = 0; g < groups; ++g) {
      begin_.push_back(out - values_.data());
      out = append_group(w, g, out);
    }
    begin_.push_back(nnz_);
    // One more than the mean and two standard deviations of a random mask: a line that is left out is waited for.
    double const density = shape_.size() == 0 ? 0.0 : static_cast<double>(nnz_) / static_cast<double>(shape_.size());
    double const most = 64.0 * density + 16.0 * math::sqrt(density * (1.0 - density));
    row_lines_ = 2 + static_cast<index_t>(most * sizeof(T) / 64.0);
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return masks_.bytes() + values_.bytes() + begin_.size() * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return group_rows; }
  [[nodiscard]] index_t block_nnz(index_t b) const noexcept {
    return begin_[static_cast<std::size_t>(b) + 1] - begin_[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] index_t blocks() const noexcept { return ceil_div(shape_.cols, block_columns); }
  /// blocks() times a mask for each of four rows; rows behind the last one are empty.
  [[nodiscard]] std::uint64_t const* masks(index_t group) const noexcept { return masks_.row(group); }
  [[nodiscard]] T const* values(index_t group) const noexcept {
    return values_.data() + begin_[static_cast<std::size_t>(group)];
  }
  /// Cache lines that the values of a row and 64 columns touch, as a rule: how many a kernel prefetches.
  [[nodiscard]] index_t row_lines() const noexcept { return row_lines_; }
  /// Whether values and bits are in the order 0 16 1 17 ... of 32 columns.
  [[nodiscard]] bool by_words() const noexcept { return by_words_; }
  /// The column of a bit, of 64.
  [[nodiscard]] index_t column(index_t bit) const noexcept {
    return by_words_ ? bit / 32 * 32 + bit % 2 * 16 + bit % 32 / 2 : bit;
  }

 private:
  T* append_group(bitmap<T> const& w, index_t group, T* out) {
    index_t const first = group * group_rows;
    std::vector<detail::word_cursor<T>> rows;
    for (index_t r = first; r < first + group_rows && r < shape_.rows; ++r) rows.emplace_back(w, r);
    std::uint64_t* bits = masks_.row(group);
    for (index_t b = 0; b < blocks(); ++b, bits += group_rows)
      for (std::size_t i = 0; i < rows.size(); ++i) {
        bits[i] = append_values(rows[i], out);
        rows[i].next();
      }
    return out;
  }
  /// Appends a row's values of 64 columns; returns their mask.
  std::uint64_t append_values(detail::word_cursor<T> const& row, T*& out) const {
    std::uint64_t const bits = row.bits();
    T const* v = row.values();
    if (!by_words_) {
      out = std::copy_n(v, std::popcount(bits), out);
      return bits;
    }
    std::uint64_t by_words = 0;
    for (index_t half = 0; half < 64; half += 32) {
      auto const low = static_cast<std::uint32_t>(bits >> half) & 0xffffu;
      auto const high = static_cast<std::uint32_t>(bits >> half) >> 16;
      T const* upper = v + std::popcount(low);
      T const* const end = upper + std::popcount(high);
      std::uint64_t place = std::uint64_t{1} << half;
      for (std::uint32_t i = 0; i < 16; ++i, place <<= 2) {
        if ((low >> i & 1u) != 0) *out++ = *v++, by_words |= place;
        if ((high >> i & 1u) != 0) *out++ = *upper++, by_words |= place << 1;
      }
      v = end;
    }
    return by_words;
  }

  extents shape_;
  index_t nnz_;
  bool by_words_;
  index_t row_lines_ = 2;
  matrix<std::uint64_t> masks_;
  matrix<T> values_;
  std::vector<index_t> begin_;  // of the values of each group, and the end
};

}  // namespace pare::inline PARE_ABI
