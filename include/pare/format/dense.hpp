// SPDX-License-Identifier: Apache-2.0
// Dense: every element has a place; a mask says which are stored, where not all are.
#pragma once

#include <utility>

#include <pare/format/format.hpp>

namespace pare::inline PARE_ABI {

/// values[r * K + c], and the mask only where something is pruned. bytes: M K sizeof(T) (+ M K / 8).
template <weight_value T>
class dense {
 public:
  using value_type = T;
  template <sparsity_pattern P>
  static constexpr bool stores = true;
  static constexpr char const* name() noexcept { return "dense"; }
  static bool accepts(mask const&) noexcept { return true; }

  dense() = default;
  /// Takes the values over; everything is stored.
  explicit dense(matrix<T> values) noexcept : values_(std::move(values)), nnz_(values_.size()) {}
  template <weight_value U>
  dense(matrix_span<U const> w, mask const& keep) : values_(w.shape()), nnz_(keep.count()) {
    for (index_t r = 0; r < w.rows; ++r)
      keep.for_each_in_row(r, [&](index_t c) { values_(r, c) = value_cast<T>(w(r, c)); });
    if (nnz_ != w.shape().size()) keep_ = keep;
  }

  [[nodiscard]] extents shape() const noexcept { return values_.shape(); }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] bool keeps_all() const noexcept { return nnz_ == values_.size(); }
  [[nodiscard]] index_t row_nnz(index_t r) const noexcept { return keeps_all() ? values_.cols() : keep_.row_count(r); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return values_.bytes() +
           (keeps_all() ? 0 : static_cast<std::size_t>(keep_.rows() * keep_.words_per_row()) * sizeof(mask::word));
  }
  /// (M, K), pruned elements +0.
  [[nodiscard]] matrix<T> const& values() const noexcept { return values_; }

  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    T const* row = values_.row(r);
    if (keeps_all()) {
      for (index_t c = 0; c < values_.cols(); ++c) f(c, row[c]);
    } else {
      keep_.for_each_in_row(r, [&](index_t c) { f(c, row[c]); });
    }
  }

 private:
  matrix<T> values_;
  mask keep_;
  index_t nnz_ = 0;
};

}  // namespace pare::inline PARE_ABI
