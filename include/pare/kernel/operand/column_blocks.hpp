// SPDX-License-Identifier: Apache-2.0
// Blocks of rows that share their columns, as a register tile reads them: the operand for BSR and for N:M patterns that
// several rows share.
//
//   rows 0 .. H-1:   column | w(0,c) w(1,c) ... w(H-1,c) | w(0,c+1) ...      C columns for each block, then the next
//   rows H .. 2H-1:  ...
#pragma once

#include <cstdint>
#include <vector>

#include <pare/format/bsr.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// Rows of a BSR block of R rows that go into one register tile: 8, or 4 where 8 do not divide R; 0: none do.
template <index_t R>
inline constexpr index_t tile_height = R % 8 == 0 ? 8 : R % 4 == 0 ? 4 : 0;

/// Blocks of H x C elements, from BSR with blocks of R x C, H = tile_height<R>. bytes: H C sizeof(T) + 4 a block.
template <index_t H, index_t C, weight_value T>
class column_blocks {
  static_assert(H == 4 || H == 8, "pare::column_blocks<H, C, T>: a tile has 4 or 8 rows");

 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "column_blocks"; }
  static constexpr index_t height = H;
  static constexpr index_t width = C;

  /// Blocks that are partly filled would multiply what is not stored.
  template <index_t R>
  [[nodiscard]] static bool suits(bsr<R, C, T> const& w) noexcept {
    return w.full_blocks();
  }
  /// Pre: suits(w).
  template <index_t R>
    requires(tile_height<R> == H)
  column_blocks(bsr<R, C, T> const& w, machine const&) : shape_(w.shape()), nnz_(w.nnz()) {
    PARE_EXPECTS(suits(w), "column_blocks: the blocks must be full");
    begin_.reserve(static_cast<std::size_t>(shape_.rows / H + 1));
    columns_.reserve(static_cast<std::size_t>(w.blocks() * (R / H)));
    values_ = matrix<T>(1, nnz_);
    T* to = values_.data();
    for (index_t r = 0; r < shape_.rows; r += H) {
      begin_.push_back(std::ssize(columns_));
      for (index_t b = w.block_begin(r / R); b < w.block_end(r / R); ++b) {
        columns_.push_back(static_cast<std::uint32_t>(w.block_column(b) * C));
        T const* const from = w.block_values(b) + r % R * C;
        for (index_t c = 0; c < C; ++c)
          for (index_t i = 0; i < H; ++i) *to++ = from[i * C + c];
      }
    }
    begin_.push_back(std::ssize(columns_));
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return values_.bytes() + columns_.size() * sizeof(std::uint32_t) + begin_.size() * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return H; }
  [[nodiscard]] index_t block_nnz(index_t tile) const noexcept { return (end(tile) - begin(tile)) * H * C; }
  /// Blocks [begin, end) of a tile of H rows.
  [[nodiscard]] index_t begin(index_t tile) const noexcept { return begin_[static_cast<std::size_t>(tile)]; }
  [[nodiscard]] index_t end(index_t tile) const noexcept { return begin(tile + 1); }
  /// The first column of a block.
  [[nodiscard]] std::uint32_t const* columns() const noexcept { return columns_.data(); }
  /// C runs of H values.
  [[nodiscard]] T const* values(index_t block) const noexcept { return values_.data() + block * (H * C); }

 private:
  extents shape_;
  index_t nnz_;
  std::vector<index_t> begin_;
  std::vector<std::uint32_t> columns_;
  matrix<T> values_;
};

}  // namespace pare::inline PARE_ABI
