// SPDX-License-Identifier: Apache-2.0
// BSR (block sparse row): CSR of dense R x C blocks.
#pragma once

#include <cstdint>
#include <vector>

#include <pare/format/format.hpp>

namespace pare::inline PARE_ABI {

/// block_begin[M / R + 1], block_column[blocks] ascending in a block row, values[block][row][column].
///
/// A block is stored as soon as one of its elements is kept. Where that leaves blocks partly filled (a mask that is not
/// of the pattern block<R, C>), one bit a value says which elements are stored, so that nothing is lost; kernels skip
/// the others. bytes: 8 (M / R + 1) + blocks (4 + R C sizeof(T)) (+ R C / 8 a block where any is partly filled).
template <index_t R, index_t C, weight_value T>
class bsr {
  static_assert(R > 0 && C > 0 && R * C <= 1024, "pare::bsr<R, C, T>: blocks have 1 to 1024 elements");

 public:
  using value_type = T;
  template <sparsity_pattern P>
  static constexpr bool stores = requires {
    requires P::unit()
    .rows % R == 0 && P::unit().cols % C == 0;
  };
  static constexpr char const* name() noexcept { return "bsr"; }
  static constexpr index_t block_rows = R;
  static constexpr index_t block_cols = C;
  /// Whole blocks must tile the matrix.
  static bool accepts(mask const& keep) noexcept { return keep.rows() % R == 0 && keep.cols() % C == 0; }

  bsr() : block_begin_(1, 0) {}
  template <weight_value U>
  bsr(matrix_span<U const> w, mask const& keep) : shape_(w.shape()), nnz_(keep.count()) {
    block_begin_.reserve(static_cast<std::size_t>(w.rows / R + 1));
    block_begin_.push_back(0);
    for (index_t br = 0; br < w.rows / R; ++br) {
      for (index_t bc = 0; bc < w.cols / C; ++bc)
        if (any_kept(keep, br, bc)) append(w, keep, br, bc);
      block_begin_.push_back(static_cast<index_t>(block_column_.size()));
    }
    if (nnz_ == static_cast<index_t>(values_.size())) stored_.clear();
    stored_.shrink_to_fit();
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] index_t blocks() const noexcept { return static_cast<index_t>(block_column_.size()); }
  /// Every stored block is full.
  [[nodiscard]] bool full_blocks() const noexcept { return stored_.empty(); }
  [[nodiscard, gnu::always_inline]] index_t row_nnz(index_t r) const noexcept {
    index_t n = 0;
    for_each_in_row(r, [&](index_t, T) { ++n; });
    return n;
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return block_begin_.size() * sizeof(index_t) + block_column_.size() * sizeof(std::int32_t) +
           values_.size() * sizeof(T) + stored_.size() / 8;
  }
  /// Blocks [begin, end) of a block row, as positions for block_column and block_values.
  [[nodiscard]] index_t block_begin(index_t block_row) const noexcept {
    return block_begin_[static_cast<std::size_t>(block_row)];
  }
  [[nodiscard]] index_t block_end(index_t block_row) const noexcept { return block_begin(block_row + 1); }
  [[nodiscard]] index_t block_column(index_t b) const noexcept { return block_column_[static_cast<std::size_t>(b)]; }
  /// R rows of C values.
  [[nodiscard]] T const* block_values(index_t b) const noexcept { return values_.data() + b * (R * C); }

  template <class F>  // always inlined, as row_nnz: kernel units must not share it (see kernel/dispatch.hpp)
  [[gnu::always_inline]] void for_each_in_row(index_t r, F&& f) const {
    for (index_t b = block_begin(r / R); b < block_end(r / R); ++b) {
      index_t const first = b * (R * C) + (r % R) * C;
      for (index_t c = 0; c < C; ++c)
        if (full_blocks() || stored_[static_cast<std::size_t>(first + c)])
          f(block_column(b) * C + c, values_[static_cast<std::size_t>(first + c)]);
    }
  }

 private:
  static bool any_kept(mask const& keep, index_t br, index_t bc) noexcept {
    for (index_t r = 0; r < R; ++r)
      for (index_t c = 0; c < C; ++c)
        if (keep(br * R + r, bc * C + c)) return true;
    return false;
  }
  template <weight_value U>
  void append(matrix_span<U const> w, mask const& keep, index_t br, index_t bc) {
    block_column_.push_back(static_cast<std::int32_t>(bc));
    for (index_t r = 0; r < R; ++r)
      for (index_t c = 0; c < C; ++c) {
        bool const k = keep(br * R + r, bc * C + c);
        stored_.push_back(k);
        values_.push_back(k ? value_cast<T>(w(br * R + r, bc * C + c)) : T{});
      }
  }

  extents shape_;
  index_t nnz_ = 0;
  std::vector<index_t> block_begin_;
  std::vector<std::int32_t> block_column_;
  std::vector<T> values_;
  std::vector<bool> stored_;  // empty where all blocks are full
};

}  // namespace pare::inline PARE_ABI
