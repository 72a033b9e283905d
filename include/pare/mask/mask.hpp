// SPDX-License-Identifier: Apache-2.0
// Which elements of a matrix are kept: one bit each, rows padded to 64-bit words.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <pare/core/contract.hpp>
#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// A (rows, cols) bit matrix; 1 = keep, 0 = pruned. A value type: copies, compares, combines as a set.
///
/// Column c of a row is bit `c % 64` of its word `c / 64`; the bits after the last column are 0.
class mask {
 public:
  using word = std::uint64_t;
  static constexpr index_t word_bits = 64;

  mask() = default;
  /// Everything pruned, or everything kept. Pre: extents >= 0, and an index_t holds their product.
  explicit mask(extents shape, bool keep = false) : shape_(shape), words_per_row_(ceil_div(shape.cols, word_bits)) {
    PARE_EXPECTS(shape.rows >= 0 && shape.cols >= 0, "mask: extents must not be negative");
    PARE_EXPECTS(shape.cols == 0 || shape.rows <= std::numeric_limits<index_t>::max() / shape.cols,
                 "mask: so many elements cannot be counted");
    words_.resize(static_cast<std::size_t>(shape.rows * words_per_row_));
    if (keep) fill();
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t rows() const noexcept { return shape_.rows; }
  [[nodiscard]] index_t cols() const noexcept { return shape_.cols; }

  [[nodiscard]] bool operator()(index_t row, index_t col) const noexcept {
    return ((row_words(row)[col / word_bits] >> (col % word_bits)) & 1u) != 0;
  }
  void set(index_t row, index_t col, bool keep = true) noexcept {
    word& w = row_words(row)[col / word_bits];
    word const bit = word{1} << (col % word_bits);
    w = keep ? (w | bit) : (w & ~bit);
  }
  /// Keeps everything.
  void fill() noexcept {
    index_t const tail = shape_.cols % word_bits;
    for (index_t r = 0; r < shape_.rows; ++r) {
      word* w = row_words(r);
      for (index_t i = 0; i < words_per_row_; ++i) w[i] = ~word{0};
      if (tail != 0) w[words_per_row_ - 1] = (word{1} << tail) - 1;
    }
  }

  /// The word whose bit i is bit(i), for i in [0, n); its other bits are 0. Pre: n <= 64.
  /// Where bit(i) is a comparison of two arrays' elements, compilers vectorise this, and all but the last word of a
  /// row.
  template <class F>
  [[nodiscard]] static word pack(index_t n, F bit) noexcept {
    alignas(word_bits) unsigned char one[word_bits] = {};  // a byte for each bit: that narrowing is vectorised
    if (n == word_bits) {
      for (index_t i = 0; i < word_bits; ++i) one[i] = static_cast<unsigned char>(bit(i));
    } else {
      for (index_t i = 0; i < n; ++i) one[i] = static_cast<unsigned char>(bit(i));
    }
    word eights[8];
    std::memcpy(eights, one, sizeof eights);
    constexpr bool little = std::endian::native == std::endian::little;
    unsigned char bytes[8];  // the product moves the lowest bit of each of 8 bytes into the highest byte, side by side
    for (int i = 0; i < 8; ++i)
      bytes[little ? i : 7 - i] =
          static_cast<unsigned char>(eights[i] * (little ? 0x0102040810204080u : 0x8040201008040201u) >> 56);
    word packed;
    std::memcpy(&packed, bytes, sizeof packed);
    return packed;
  }

  /// The words of one row, `words_per_row()` of them.
  [[nodiscard]] word* row_words(index_t row) noexcept { return words_.data() + row * words_per_row_; }
  [[nodiscard]] word const* row_words(index_t row) const noexcept { return words_.data() + row * words_per_row_; }
  [[nodiscard]] index_t words_per_row() const noexcept { return words_per_row_; }

  /// How many elements are kept: in all, or in one row.
  [[nodiscard]] index_t count() const noexcept {
    index_t n = 0;
    for (word w : words_) n += std::popcount(w);
    return n;
  }
  [[nodiscard]] index_t row_count(index_t row) const noexcept {
    index_t n = 0;
    word const* w = row_words(row);
    for (index_t i = 0; i < words_per_row_; ++i) n += std::popcount(w[i]);
    return n;
  }
  /// Fraction of pruned elements; 0 for an empty matrix.
  [[nodiscard]] double sparsity() const noexcept {
    index_t const n = shape_.size();
    return n == 0 ? 0.0 : static_cast<double>(n - count()) / static_cast<double>(n);
  }
  [[nodiscard]] bool keeps_all() const noexcept { return count() == shape_.size(); }

  /// Calls f(col) for the kept columns of a row, ascending. O(cols / 64 + kept).
  template <class F>
  void for_each_in_row(index_t row, F&& f) const {
    word const* w = row_words(row);
    for (index_t i = 0; i < words_per_row_; ++i)
      for (word bits = w[i]; bits != 0; bits &= bits - 1) f(i * word_bits + std::countr_zero(bits));
  }

  /// Intersection, union, symmetric difference, complement. Pre: equal shapes.
  mask& operator&=(mask const& other) {
    return combine(other, [](word a, word b) { return a & b; });
  }
  mask& operator|=(mask const& other) {
    return combine(other, [](word a, word b) { return a | b; });
  }
  mask& operator^=(mask const& other) {
    return combine(other, [](word a, word b) { return a ^ b; });
  }
  friend mask operator&(mask a, mask const& b) { return a &= b; }
  friend mask operator|(mask a, mask const& b) { return a |= b; }
  friend mask operator^(mask a, mask const& b) { return a ^= b; }
  friend mask operator~(mask const& a) { return mask(a.shape(), true) ^= a; }
  friend bool operator==(mask const&, mask const&) = default;

  /// True where every element kept here is kept in `other` too. Pre: equal shapes.
  [[nodiscard]] bool subset_of(mask const& other) const { return (*this & other) == *this; }

 private:
  template <class F>
  mask& combine(mask const& other, F f) {
    PARE_EXPECTS(shape_ == other.shape_, "mask: set operations need equal shapes");
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] = f(words_[i], other.words_[i]);
    return *this;
  }

  extents shape_;
  index_t words_per_row_ = 0;
  std::vector<word> words_;
};

/// The mask of a matrix's elements that differ from zero (NaN counts as kept).
template <matrix_view W>
[[nodiscard]] mask nonzeros(W const& w) {
  auto const m = as_span(w);
  mask keep(m.shape());
  for (index_t i = 0; i < m.rows; ++i)
    for (index_t j = 0; j < m.cols; ++j)
      if (!(static_cast<float>(m(i, j)) == 0.0f)) keep.set(i, j);
  return keep;
}

/// Writes +0 over the pruned elements of w. Pre: equal shapes.
template <matrix_view W>
void apply(mask const& keep, W&& w) {
  auto const m = as_mutable_span(w);
  PARE_EXPECTS(m.shape() == keep.shape(), "apply: the mask and the matrix must have equal shapes");
  for (index_t i = 0; i < m.rows; ++i)
    for (index_t j = 0; j < m.cols; ++j)
      if (!keep(i, j)) m(i, j) = element_t<W>{};
}

/// |a & b| / |a | b|, the Jaccard index of two masks; 1 where both are empty. Pre: equal shapes.
[[nodiscard]] inline double overlap(mask const& a, mask const& b) {
  index_t const all = (a | b).count();
  return all == 0 ? 1.0 : static_cast<double>((a & b).count()) / static_cast<double>(all);
}

}  // namespace pare::inline PARE_ABI
