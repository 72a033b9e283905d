// SPDX-License-Identifier: Apache-2.0
// Dense weights column by column: the operand for activations of which many are zero (behind a ReLU, say).
//
//   column 0:  w(0,0) w(1,0) ... w(M-1,0) 0 ... 0     rows filled up to a multiple of 64
//   column 1:  ...
#pragma once

#include <pare/format/dense.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// Pruned elements have a place (+0) and a bit in `kept`. bytes: M K sizeof(T), M rounded up to 64 (+ M K / 8 where
/// something is pruned).
template <weight_value T>
class column_major {
 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "column_major"; }

  template <sparse_format F>
  column_major(F const& w, machine const&) : shape_(w.shape()), nnz_(w.nnz()) {
    values_ = matrix<T>(shape_.cols, round_up(shape_.rows, block_rows()));
    for_each(w, [&](index_t r, index_t c, T v) { values_(c, r) = v; });
    if (nnz_ != shape_.size()) kept_ = kept(w);
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] bool keeps_all() const noexcept { return nnz_ == shape_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return values_.bytes() +
           (keeps_all() ? 0 : static_cast<std::size_t>(kept_.rows() * kept_.words_per_row()) * sizeof(mask::word));
  }
  [[nodiscard]] static constexpr index_t block_rows() noexcept { return 64; }
  [[nodiscard]] index_t block_nnz(index_t) const noexcept { return block_rows() * shape_.cols; }
  /// The weights of one input, one for each output.
  [[nodiscard]] T const* column(index_t c) const noexcept { return values_.row(c); }

  /// The stored elements of a row, for the kernels that must skip the others.
  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    if (keeps_all()) {
      for (index_t c = 0; c < shape_.cols; ++c) f(c, values_(c, r));
    } else {
      kept_.for_each_in_row(r, [&](index_t c) { f(c, values_(c, r)); });
    }
  }

 private:
  extents shape_;
  index_t nnz_;
  matrix<T> values_;  // (K, M filled up)
  mask kept_;
};

}  // namespace pare::inline PARE_ABI
