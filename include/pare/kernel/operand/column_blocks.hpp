// SPDX-License-Identifier: Apache-2.0
// Blocks of rows that share their columns, as a register tile reads them: the operand for BSR and for N:M patterns that
// several rows share.
//
//   rows 0 .. R-1:   columns of the blocks: c c' c'' ...
//     rows 0 .. 3:   w(0,c) w(1,c) w(2,c) w(3,c) | the same for c + 1 ... c + C - 1 | the same for the next block ...
//     rows 4 .. 7:   ...
//   rows R .. 2R-1:  ...
//
// That is a run. Blocks of few rows read so much of X that it has to come from the second-level cache: where K is
// larger than what of a panel stays there, some hundred rows have a run for each part of K, first all of the first
// part:
//
//   rows 0 .. 511:     runs of inputs 0 .. 2047 | runs of inputs 2048 .. 4095 | ...
//   rows 512 .. 1023:  ...
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <pare/format/bsr.hpp>
#include <pare/kernel/operand/row_blocks.hpp>

namespace pare::inline PARE_ABI {

/// Blocks of R x C elements in tiles of four rows. bytes: R C sizeof(T) + 4 a block.
template <index_t R, index_t C, weight_value T>
class column_blocks {
  static_assert(R % 4 == 0, "pare::column_blocks<R, C, T>: tiles have four rows");

 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "column_blocks"; }
  static constexpr index_t tile_rows = 4;
  /// Whether K is cut into parts where a panel would be large: with tiles of eight rows it gains nothing.
  static constexpr bool cuts_inputs = R % 8 != 0;
  /// Kernels may read so many column numbers behind the last, and a line behind the values.
  static constexpr std::size_t ahead = 24;

  /// Blocks that are partly filled would multiply what is not stored.
  [[nodiscard]] static bool suits(bsr<R, C, T> const& w) noexcept { return w.full_blocks(); }
  /// Pre: suits(w).
  column_blocks(bsr<R, C, T> const& w, machine const& m) : shape_(w.shape()), nnz_(w.nnz()) {
    PARE_EXPECTS(suits(w), "column_blocks: the blocks must be full");
    index_t const panel_row = (m.has_32_registers ? 4 : 2) * m.lanes * static_cast<index_t>(sizeof(float));
    if (cuts_inputs && shape_.cols > part_bytes / panel_row) {
      parts_ = ceil_div(shape_.cols, part_bytes / panel_row);
      block_rows_ = 16 * R;
      rows_together_ = detail::rows_per_block(
          shape_.rows, block_rows_ < 512 ? 512 / block_rows_ * block_rows_ : block_rows_, 1, block_rows_);
    }
    index_t const part = ceil_div(shape_.cols / C, parts_);  // in blocks
    begin_.reserve(static_cast<std::size_t>(shape_.rows / R * parts_ + 1));
    columns_.reserve(static_cast<std::size_t>(w.blocks()) + ahead);
    values_ = matrix<T>(1, nnz_ + static_cast<index_t>(alignment / sizeof(T)));
    T* to = values_.data();
    for (index_t r0 = 0; r0 < shape_.rows; r0 += rows_together_)
      for (index_t p = 0; p < parts_; ++p)
        for (index_t r = r0; r < std::min(r0 + rows_together_, shape_.rows); r += R)
          to = append_run(w, r / R, p * part, (p + 1) * part, to);
    begin_.push_back(std::ssize(columns_));
    columns_.resize(columns_.size() + ahead);
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return values_.bytes() + columns_.size() * sizeof(std::uint32_t) + begin_.size() * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return block_rows_; }
  [[nodiscard]] index_t block_nnz(index_t b) const noexcept {
    index_t const first = b * block_rows_ / R;
    index_t const last = std::min((b + 1) * block_rows_, shape_.rows) / R - 1;
    index_t blocks = 0;
    for (index_t part = 0; part < parts_; ++part)
      blocks +=
          begin_[static_cast<std::size_t>(run(last, part)) + 1] - begin_[static_cast<std::size_t>(run(first, part))];
    return blocks * R * C;
  }
  /// Into so many parts K is cut.
  [[nodiscard]] index_t parts() const noexcept { return parts_; }
  /// So many rows, from a multiple of it on, follow each other for each part: they pass over a part of X together.
  [[nodiscard]] index_t rows_together() const noexcept { return rows_together_; }
  /// The run of a row of blocks and a part of K.
  [[nodiscard]] index_t run(index_t row_of_blocks, index_t part) const noexcept {
    if (parts_ == 1) return row_of_blocks;
    index_t const height = rows_together_ / R;
    index_t const first = row_of_blocks / height * height;
    return first * parts_ + part * std::min(height, shape_.rows / R - first) + row_of_blocks - first;
  }
  /// How many blocks a run has.
  [[nodiscard]] index_t blocks(index_t run) const noexcept {
    return begin_[static_cast<std::size_t>(run) + 1] - begin_[static_cast<std::size_t>(run)];
  }
  /// The first column of each block.
  [[nodiscard]] std::uint32_t const* columns(index_t run) const noexcept {
    return columns_.data() + begin_[static_cast<std::size_t>(run)];
  }
  /// The values of the four rows from `tile` (0, 4, ...) on.
  [[nodiscard]] T const* values(index_t run, index_t tile) const noexcept {
    return values_.data() + begin_[static_cast<std::size_t>(run)] * R * C + blocks(run) * tile * C;
  }

 private:
  static constexpr index_t part_bytes = 640 * 1024;  // of a panel

  /// The blocks of a row of blocks whose columns, in blocks, are in [from, to).
  T* append_run(bsr<R, C, T> const& w, index_t row_of_blocks, index_t from, index_t to, T* out) {
    begin_.push_back(std::ssize(columns_));
    index_t first = w.block_begin(row_of_blocks);
    while (first < w.block_end(row_of_blocks) && w.block_column(first) < from) ++first;
    index_t last = first;
    for (; last < w.block_end(row_of_blocks) && w.block_column(last) < to; ++last)
      columns_.push_back(static_cast<std::uint32_t>(w.block_column(last) * C));
    for (index_t tile = 0; tile < R; tile += tile_rows)
      for (index_t b = first; b < last; ++b)
        for (index_t c = 0; c < C; ++c)
          for (index_t i = 0; i < tile_rows; ++i) *out++ = w.block_values(b)[(tile + i) * C + c];
    return out;
  }

  extents shape_;
  index_t nnz_;
  index_t parts_ = 1;
  index_t block_rows_ = R;  // for threads
  index_t rows_together_ = R;
  std::vector<index_t> begin_;  // of the blocks of each run, and the end
  std::vector<std::uint32_t, aligned_allocator<std::uint32_t>> columns_;
  matrix<T> values_;
};

}  // namespace pare::inline PARE_ABI
