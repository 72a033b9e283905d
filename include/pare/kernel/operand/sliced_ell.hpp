// SPDX-License-Identifier: Apache-2.0
// Sliced ELL in slices of eight rows: the operand for high sparsity, and for few columns.
//
// Rows are cut into blocks, columns into blocks that fit the first-level cache. In each block of rows and columns the
// rows are sorted by their number of elements, eight that follow each other form a slice, padded to its longest row:
//
//   slice:  rows r0 ... r7 (in the block of rows), steps
//   step:   offset of x for each of the rows (8 x 16 bits) | weight for each of the rows
//
// An offset is that of a row of the packed panel, in bytes, so that it depends on the width of a panel, and one 64-bit
// load brings four of them: index loads would compete with the loads of X. Padding has offset 0: the row of zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include <pare/kernel/operand/row_blocks.hpp>

namespace pare::inline PARE_ABI {

/// bytes: 2 + sizeof(T) an element and place of padding (below 3 per cent of them), 20 a slice and block of columns.
template <weight_value T>
class sliced_ell {
 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "sliced_ell"; }
  static constexpr index_t slice_rows = 8;

  struct slice {
    std::uint16_t row[slice_rows] = {};
    std::uint16_t steps = 0;
    std::uint16_t missing = 0;  // so many rows: the first ones, which repeat another and have no elements
  };
  struct step {
    std::uint16_t offset[slice_rows] = {};
    T weight[slice_rows] = {};
  };

  /// Laid out for panels of `columns` columns.
  template <sparse_format F>
  sliced_ell(F const& format, machine const& m, index_t columns) : shape_(format.shape()), nnz_(format.nnz()) {
    double const density = shape_.size() == 0 ? 0.0 : static_cast<double>(nnz_) / static_cast<double>(shape_.size());
    bool const far = static_cast<double>(nnz_) * (2.0 + sizeof(T)) > far_bytes;
    vectors_ = columns > m.lanes ? 2 : 1;
    row_bytes_ = vectors_ * m.lanes * static_cast<index_t>(sizeof(float));
    // Half the first-level cache where there is much reuse, all of it where the trips of partial sums cost more; less
    // of it where W passes through.
    index_t const cache = (density > 0.15 ? 32768 : 49152) * (far ? 3 : 4) / 4;
    index_t const most = std::min(cache / row_bytes_, std::numeric_limits<std::uint16_t>::max() / row_bytes_ - 1);
    column_blocks_ = std::max<index_t>(ceil_div(shape_.cols, most / 64 * 64), 1);
    block_columns_ = round_up(std::max<index_t>(ceil_div(shape_.cols, column_blocks_), 1), 64);
    block_rows_ = detail::rows_per_block(shape_.rows, 512, 2, slice_rows);
    bitmap<T> const& w = detail::as_bitmap(format);
    for (index_t r = 0; r < shape_.rows; r += block_rows_) append_rows(w, r, std::min(r + block_rows_, shape_.rows));
    slice_begin_.push_back(std::ssize(slices_));
    end_ = std::ssize(steps_);
    steps_.resize(steps_.size() + 3);  // the kernel reads offsets so far ahead
    steps_.shrink_to_fit();
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return steps_.size() * sizeof(step) + slices_.size() * sizeof(slice) +
           (slice_begin_.size() + step_begin_.size()) * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return block_rows_; }
  [[nodiscard]] index_t block_nnz(index_t b) const noexcept {
    auto const i = static_cast<std::size_t>(b);
    return slice_rows * ((i + 1 < step_begin_.size() ? step_begin_[i + 1] : end_) - step_begin_[i]);
  }
  [[nodiscard]] index_t vectors() const noexcept { return vectors_; }  // of a panel
  /// Whether it is read from memory, as a rule: it is to be prefetched, which costs load slots.
  [[nodiscard]] bool far() const noexcept { return static_cast<double>(bytes()) > far_bytes; }
  [[nodiscard]] index_t block_columns() const noexcept { return block_columns_; }
  [[nodiscard]] index_t column_blocks() const noexcept { return column_blocks_; }
  /// The slices of a block of rows and one of columns. In the first and the last block of columns these are all rows;
  /// between them, the rows that have elements there.
  [[nodiscard]] slice const* slices_begin(index_t block, index_t column_block) const noexcept {
    return slices_.data() + slice_begin_[static_cast<std::size_t>(block * column_blocks_ + column_block)];
  }
  [[nodiscard]] slice const* slices_end(index_t block, index_t column_block) const noexcept {
    return slices_begin(block, column_block + 1);
  }
  /// The steps of a block of rows, in the order of its slices.
  [[nodiscard]] step const* steps(index_t block) const noexcept {
    return steps_.data() + step_begin_[static_cast<std::size_t>(block)];
  }
  /// The i-th of the four offsets that one load brought.
  [[nodiscard]] static constexpr std::size_t offset_of(std::uint64_t offsets, index_t i) noexcept {
    if constexpr (std::endian::native == std::endian::big) i = 3 - i;
    return static_cast<std::uint16_t>(offsets >> (16 * i));
  }

 private:
  static constexpr double far_bytes = 4.5e6;

  struct row {
    index_t number;
    index_t begin;  // of its elements in the block of columns
    index_t count;
  };

  void append_rows(bitmap<T> const& w, index_t r0, index_t r1) {
    step_begin_.push_back(std::ssize(steps_));
    std::vector<detail::word_cursor<T>> cursors;
    for (index_t r = r0; r < r1; ++r) cursors.emplace_back(w, r);
    std::vector<row> rows(cursors.size());
    std::vector<std::uint16_t> offsets;
    std::vector<T> weights;
    for (index_t b = 0; b < column_blocks_; ++b) {
      offsets.clear();
      weights.clear();
      index_t const words = std::min(ceil_div(shape_.cols, 64) - b * block_columns_ / 64, block_columns_ / 64);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        auto const begin = std::ssize(offsets);
        for (index_t word = 0; word < words; ++word, cursors[i].next()) {
          T const* value = cursors[i].values();
          for (mask::word bits = cursors[i].bits(); bits != 0; bits &= bits - 1) {
            index_t const column = word * 64 + std::countr_zero(bits);
            offsets.push_back(static_cast<std::uint16_t>((column + 1) * row_bytes_));
            weights.push_back(*value++);
          }
        }
        rows[i] = {static_cast<index_t>(i), begin, std::ssize(offsets) - begin};
      }
      std::stable_sort(rows.begin(), rows.end(), [](row const& x, row const& y) { return x.count > y.count; });
      slice_begin_.push_back(std::ssize(slices_));
      append_slices(rows, offsets, weights, b == 0 || b + 1 == column_blocks_);
    }
  }

  void append_slices(std::vector<row> const& rows, std::vector<std::uint16_t> const& offsets,
                     std::vector<T> const& weights, bool all) {
    auto const count = std::ssize(rows);
    for (index_t first = 0; first < count; first += slice_rows) {
      index_t const longest = rows[static_cast<std::size_t>(first)].count;
      if (longest == 0 && !all) return;
      index_t const missing = std::max<index_t>(first + slice_rows - count, 0);
      // What is missing repeats the last row of its half, where that has one: kernels that take halves finish both.
      index_t const stand_in = missing < slice_rows / 2 ? slice_rows / 2 - 1 : slice_rows - 1;
      slice s;
      s.steps = static_cast<std::uint16_t>(longest);
      s.missing = static_cast<std::uint16_t>(missing);
      auto const steps = steps_.size();
      steps_.resize(steps + static_cast<std::size_t>(longest));
      for (index_t i = 0; i < slice_rows; ++i) {
        row const& from = rows[static_cast<std::size_t>(first + (i < missing ? stand_in : i) - missing)];
        s.row[i] = static_cast<std::uint16_t>(from.number);
        for (index_t j = 0; j < from.count && i >= missing; ++j) {
          step& to = steps_[steps + static_cast<std::size_t>(j)];
          to.offset[i] = offsets[static_cast<std::size_t>(from.begin + j)];
          to.weight[i] = weights[static_cast<std::size_t>(from.begin + j)];
        }
      }
      slices_.push_back(s);
    }
  }

  extents shape_;
  index_t nnz_;
  index_t vectors_;
  index_t row_bytes_;
  index_t block_rows_;
  index_t block_columns_;
  index_t column_blocks_;
  std::vector<index_t> slice_begin_;  // by block of rows, block of columns
  std::vector<index_t> step_begin_;   // by block of rows
  index_t end_ = 0;                   // of the steps
  std::vector<slice, aligned_allocator<slice>> slices_;
  std::vector<step, aligned_allocator<step>> steps_;
};

}  // namespace pare::inline PARE_ABI
