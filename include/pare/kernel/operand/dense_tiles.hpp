// SPDX-License-Identifier: Apache-2.0
// Dense weights in the order in which a register tile reads them.
//
//   rows 0 .. R-1:   w(0,0) w(1,0) ... w(R-1,0) | w(0,1) w(1,1) ... w(R-1,1) | ...      K runs of R values, then
//   rows R .. 2R-1:  ...
//
// One stream instead of R: rows of 4096 floats are 16 KB apart and would all fall into the same cache set.
#pragma once

#include <vector>

#include <pare/format/bitmap.hpp>
#include <pare/format/dense.hpp>
#include <pare/kernel/simd.hpp>

namespace pare::inline PARE_ABI {

/// Tiles of R rows; the last one is filled up with zeros. R = 8 with 32 registers, 6 with 16 (see dense_tile_spmm), and
/// for more than two registers of columns on Intel's processors. Pruned elements have a place (+0) and a bit in `kept`.
/// bytes: M K sizeof(T), M rounded up to R (+ M K / 8 where something is pruned).
template <weight_value T>
class dense_tiles {
 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "dense"; }

  /// Laid out for products with `columns` columns.
  template <sparse_format F>
  dense_tiles(F const& w, machine const& m, index_t columns)
      : tile_rows_(m.has_32_registers && !(m.intel && columns > 2 * m.lanes) ? 8 : 6),
        shape_(w.shape()),
        nnz_(w.nnz()) {
    values_ = matrix<T>(ceil_div(shape_.rows, tile_rows_), shape_.cols * tile_rows_);
    for_each(w, [&](index_t r, index_t c, T v) { values_(r / tile_rows_, c * tile_rows_ + r % tile_rows_) = v; });
    if (nnz_ != shape_.size()) kept_ = kept(w);
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] bool keeps_all() const noexcept { return nnz_ == shape_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return values_.bytes() +
           (keeps_all() ? 0 : static_cast<std::size_t>(kept_.rows() * kept_.words_per_row()) * sizeof(mask::word));
  }
  [[nodiscard]] index_t block_rows() const noexcept { return tile_rows_; }
  [[nodiscard]] index_t block_nnz(index_t) const noexcept { return tile_rows_ * shape_.cols; }
  /// K runs of block_rows() values.
  [[nodiscard]] T const* tile(index_t t) const noexcept { return values_.row(t); }

  /// The stored elements of a row, for the kernels that must skip the others.
  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    T const* const first = tile(r / tile_rows_) + r % tile_rows_;
    if (keeps_all()) {
      for (index_t c = 0; c < shape_.cols; ++c) f(c, first[c * tile_rows_]);
    } else {
      kept_.for_each_in_row(r, [&](index_t c) { f(c, first[c * tile_rows_]); });
    }
  }

 private:
  index_t tile_rows_;
  extents shape_;
  index_t nnz_;
  matrix<T> values_;
  mask kept_;
};

}  // namespace pare::inline PARE_ABI
