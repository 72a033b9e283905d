// SPDX-License-Identifier: Apache-2.0
// Bitmap: one bit an element, and the values of the set bits in row-major order.
#pragma once

#include <vector>

#include <pare/format/format.hpp>

namespace pare::inline PARE_ABI {

/// bits (M, K), row_begin[M + 1], values[nnz]. bytes: M K / 8 (rows padded to 64 bits) + 8 (M + 1) + nnz sizeof(T).
template <weight_value T>
class bitmap {
 public:
  using value_type = T;
  template <sparsity_pattern P>
  static constexpr bool stores = true;
  static constexpr char const* name() noexcept { return "bitmap"; }
  static bool accepts(mask const&) noexcept { return true; }

  bitmap() : row_begin_(1, 0) {}
  template <weight_value U>
  bitmap(matrix_span<U const> w, mask const& keep) : keep_(keep) {
    row_begin_.reserve(static_cast<std::size_t>(w.rows + 1));
    values_.reserve(static_cast<std::size_t>(keep.count()));
    row_begin_.push_back(0);
    for (index_t r = 0; r < w.rows; ++r) {
      keep.for_each_in_row(r, [&](index_t c) { values_.push_back(value_cast<T>(w(r, c))); });
      row_begin_.push_back(static_cast<index_t>(values_.size()));
    }
  }

  [[nodiscard]] extents shape() const noexcept { return keep_.shape(); }
  [[nodiscard]] index_t nnz() const noexcept { return static_cast<index_t>(values_.size()); }
  [[nodiscard]] index_t row_nnz(index_t r) const noexcept { return row_begin(r + 1) - row_begin(r); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(keep_.rows() * keep_.words_per_row()) * sizeof(mask::word) +
           row_begin_.size() * sizeof(index_t) + values_.size() * sizeof(T);
  }
  [[nodiscard]] mask const& bits() const noexcept { return keep_; }
  /// The stored values of row r, columns ascending: row_nnz(r) of them.
  [[nodiscard]] T const* row_values(index_t r) const noexcept { return values_.data() + row_begin(r); }

  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    T const* value = row_values(r);
    keep_.for_each_in_row(r, [&](index_t c) { f(c, *value++); });
  }

 private:
  [[nodiscard]] index_t row_begin(index_t r) const noexcept { return row_begin_[static_cast<std::size_t>(r)]; }

  mask keep_;
  std::vector<index_t> row_begin_;
  std::vector<T> values_;
};

}  // namespace pare::inline PARE_ABI
