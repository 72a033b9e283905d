// SPDX-License-Identifier: Apache-2.0
// CSR (compressed sparse row): for every row, the columns and values of its stored elements.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <pare/format/format.hpp>

namespace pare::inline PARE_ABI {

/// row_begin[M + 1], columns[nnz] ascending in a row, values[nnz]. I is the type of a column index.
/// bytes: 8 (M + 1) + nnz (sizeof(I) + sizeof(T)).
template <weight_value T, std::integral I = std::int32_t>
class csr {
 public:
  using value_type = T;
  using column_type = I;
  template <sparsity_pattern P>
  static constexpr bool stores = true;
  static constexpr char const* name() noexcept { return "csr"; }
  /// The last column must be representable in I.
  static bool accepts(mask const& keep) noexcept {
    return keep.cols() == 0 ||
           static_cast<std::uint64_t>(keep.cols() - 1) <= static_cast<std::uint64_t>(std::numeric_limits<I>::max());
  }

  csr() : row_begin_(1, 0) {}
  template <weight_value U>
  csr(matrix_span<U const> w, mask const& keep) : shape_(w.shape()) {
    auto const n = static_cast<std::size_t>(keep.count());
    row_begin_.reserve(static_cast<std::size_t>(w.rows + 1));
    columns_.reserve(n);
    values_.reserve(n);
    row_begin_.push_back(0);
    for (index_t r = 0; r < w.rows; ++r) {
      keep.for_each_in_row(r, [&](index_t c) {
        columns_.push_back(static_cast<I>(c));
        values_.push_back(value_cast<T>(w(r, c)));
      });
      row_begin_.push_back(static_cast<index_t>(values_.size()));
    }
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return static_cast<index_t>(values_.size()); }
  [[nodiscard]] index_t row_nnz(index_t r) const noexcept { return row_begin(r + 1) - row_begin(r); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return row_begin_.size() * sizeof(index_t) + columns_.size() * sizeof(I) + values_.size() * sizeof(T);
  }
  /// Columns and values of row r: row_nnz(r) of each.
  [[nodiscard]] I const* row_columns(index_t r) const noexcept { return columns_.data() + row_begin(r); }
  [[nodiscard]] T const* row_values(index_t r) const noexcept { return values_.data() + row_begin(r); }

  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    I const* column = row_columns(r);
    T const* value = row_values(r);
    for (index_t i = 0, n = row_nnz(r); i < n; ++i) f(static_cast<index_t>(column[i]), value[i]);
  }

 private:
  [[nodiscard]] index_t row_begin(index_t r) const noexcept { return row_begin_[static_cast<std::size_t>(r)]; }

  extents shape_;
  std::vector<index_t> row_begin_;
  std::vector<I> columns_;
  std::vector<T> values_;
};

}  // namespace pare::inline PARE_ABI
