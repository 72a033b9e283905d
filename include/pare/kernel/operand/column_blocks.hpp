// SPDX-License-Identifier: Apache-2.0
// Blocks of rows that share their columns, as a register tile reads them: the operand for BSR and for N:M patterns that
// several rows share.
//
//   rows 0 .. R-1:   columns of the blocks: c c' c'' ...
//     rows 0 .. 3:   w(0,c) w(1,c) w(2,c) w(3,c) | the same for c + 1 ... c + C - 1 | the same for the next block ...
//     rows 4 .. 7:   ...
//   rows R .. 2R-1:  ...
#pragma once

#include <cstdint>
#include <vector>

#include <pare/format/bsr.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// Blocks of R x C elements in tiles of four rows. bytes: R C sizeof(T) + 4 a block.
template <index_t R, index_t C, weight_value T>
class column_blocks {
  static_assert(R % 4 == 0, "pare::column_blocks<R, C, T>: tiles have four rows");

 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "column_blocks"; }
  static constexpr index_t tile_rows = 4;
  /// Kernels may read so many column numbers behind the last, and a line behind the values.
  static constexpr std::size_t ahead = 24;

  /// Blocks that are partly filled would multiply what is not stored.
  [[nodiscard]] static bool suits(bsr<R, C, T> const& w) noexcept { return w.full_blocks(); }
  /// Pre: suits(w).
  column_blocks(bsr<R, C, T> const& w, machine const&) : shape_(w.shape()), nnz_(w.nnz()) {
    PARE_EXPECTS(suits(w), "column_blocks: the blocks must be full");
    begin_.reserve(static_cast<std::size_t>(shape_.rows / R + 1));
    columns_.reserve(static_cast<std::size_t>(w.blocks()) + ahead);
    values_ = matrix<T>(1, nnz_ + static_cast<index_t>(alignment / sizeof(T)));
    T* to = values_.data();
    for (index_t r = 0; r < shape_.rows; r += R) {
      begin_.push_back(std::ssize(columns_));
      index_t const first = w.block_begin(r / R);
      index_t const last = w.block_end(r / R);
      for (index_t b = first; b < last; ++b) columns_.push_back(static_cast<std::uint32_t>(w.block_column(b) * C));
      for (index_t tile = 0; tile < R; tile += tile_rows)
        for (index_t b = first; b < last; ++b)
          for (index_t c = 0; c < C; ++c)
            for (index_t i = 0; i < tile_rows; ++i) *to++ = w.block_values(b)[(tile + i) * C + c];
    }
    begin_.push_back(std::ssize(columns_));
    columns_.resize(columns_.size() + ahead);
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return values_.bytes() + columns_.size() * sizeof(std::uint32_t) + begin_.size() * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return R; }
  [[nodiscard]] index_t block_nnz(index_t row_of_blocks) const noexcept { return blocks(row_of_blocks) * R * C; }
  /// How many blocks a row of blocks has.
  [[nodiscard]] index_t blocks(index_t row_of_blocks) const noexcept {
    return begin_[static_cast<std::size_t>(row_of_blocks) + 1] - begin_[static_cast<std::size_t>(row_of_blocks)];
  }
  /// The first column of each block.
  [[nodiscard]] std::uint32_t const* columns(index_t row_of_blocks) const noexcept {
    return columns_.data() + begin_[static_cast<std::size_t>(row_of_blocks)];
  }
  /// The values of the four rows from `tile` (0, 4, ...) on.
  [[nodiscard]] T const* values(index_t row_of_blocks, index_t tile) const noexcept {
    return values_.data() + begin_[static_cast<std::size_t>(row_of_blocks)] * R * C + blocks(row_of_blocks) * tile * C;
  }

 private:
  extents shape_;
  index_t nnz_;
  std::vector<index_t> begin_;
  std::vector<std::uint32_t, aligned_allocator<std::uint32_t>> columns_;
  matrix<T> values_;
};

}  // namespace pare::inline PARE_ABI
