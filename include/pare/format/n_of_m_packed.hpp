// SPDX-License-Identifier: Apache-2.0
// N:M: exactly N places for each M consecutive inputs, and M bits that say which.
#pragma once

#include <vector>

#include <pare/format/format.hpp>

namespace pare::inline PARE_ABI {

/// bits (M rows, K), values[row][group][N]: the values of a group's set bits in ascending order; places that a group
/// does not use hold +0 and are skipped. Every row has the same size, so no row offsets are needed. bytes: rows K / 8
/// (rows padded to 64 bits) + rows K N / M sizeof(T).
template <index_t N, index_t M, weight_value T>
class n_of_m_packed {
 public:
  using value_type = T;
  using pattern_type = n_of_m<N, M>;
  template <sparsity_pattern P>
  static constexpr bool stores = requires {
    requires P::of()
    > 0 && M % P::of() == 0 && P::keep() * (M / P::of()) <= N;
  };
  static constexpr char const* name() noexcept { return "n_of_m"; }
  /// At most N of each M consecutive elements of a row are kept, and M divides the columns.
  static bool accepts(mask const& keep) noexcept { return admits(pattern_type{}, keep); }

  n_of_m_packed() = default;
  template <weight_value U>
  n_of_m_packed(matrix_span<U const> w, mask const& keep)
      : keep_(keep), nnz_(keep.count()), values_(static_cast<std::size_t>(w.rows * (w.cols / M) * N)) {
    for (index_t r = 0; r < w.rows; ++r) {
      T* row = values_.data() + r * places_per_row();
      for_each_place(r, [&](index_t c, index_t place) { row[place] = value_cast<T>(w(r, c)); });
    }
  }

  [[nodiscard]] extents shape() const noexcept { return keep_.shape(); }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] index_t row_nnz(index_t r) const noexcept { return keep_.row_count(r); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(keep_.rows() * keep_.words_per_row()) * sizeof(mask::word) +
           values_.size() * sizeof(T);
  }
  [[nodiscard]] mask const& bits() const noexcept { return keep_; }
  [[nodiscard]] index_t places_per_row() const noexcept { return keep_.cols() / M * N; }
  /// The N places of each group of row r.
  [[nodiscard]] T const* row_values(index_t r) const noexcept { return values_.data() + r * places_per_row(); }

  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    T const* row = row_values(r);
    for_each_place(r, [&](index_t c, index_t place) { f(c, row[place]); });
  }

 private:
  /// f(column, place in the row's values) for the kept columns of row r, ascending.
  template <class F>
  void for_each_place(index_t r, F&& f) const {
    index_t group = 0;
    index_t used = 0;
    keep_.for_each_in_row(r, [&](index_t c) {
      if (c / M != group) {
        group = c / M;
        used = 0;
      }
      f(c, group * N + used++);
    });
  }

  mask keep_;
  index_t nnz_ = 0;
  std::vector<T> values_;
};

}  // namespace pare::inline PARE_ABI
