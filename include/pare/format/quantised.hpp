// SPDX-License-Identifier: Apache-2.0
// Quantised: symmetric 8-bit codes with one float scale for every G consecutive inputs of a row.
//
//   row r:  scales   s0              s1              s2           (ceil(K / G) of them)
//           codes    c c c ...       c c ...         c c ...      (those of stored elements, columns ascending)
//           mask     1101001...      0110...                      (only where something is pruned)
//
// The value of an element is the float product code * scale; an element that is stored stays stored, whatever its code.
#pragma once

#include <cstdint>
#include <vector>

#include <pare/core/math.hpp>
#include <pare/format/format.hpp>

namespace pare::inline PARE_ABI {

/// scale = max|w| / 127 over the stored weights of a group; code = w / scale rounded to the nearest, ties to even, so
/// -127 ... 127: |w - code scale| <= scale / 2, up to float rounding (2^-15 of it). A group of zeros has the scale 0;
/// other scales are at least 2^-126, so that the bound holds for subnormal weights too, and 127 of them are finite.
/// A stored NaN or Inf makes the scale of its group, and so all stored weights of the group, NaN: damage shows.
/// Stored zeros come back as +0. Converting to float and back may move a scale by one unit in the last place.
/// bytes: nnz + 4 M ceil(K / G), and where something is pruned M K / 8 (rows padded to 64 bits) + 8 (M + 1).
template <index_t G = 128>
class quantised {
  static_assert(G == 64 || (G > 0 && G % 128 == 0), "pare::quantised: a group is 64 inputs or a multiple of 128");

 public:
  using value_type = float;
  static constexpr index_t group = G;
  template <sparsity_pattern P>
  static constexpr bool stores = true;
  static constexpr char const* name() noexcept { return "quantised"; }
  static bool accepts(mask const&) noexcept { return true; }

  quantised() = default;
  template <weight_value U>
  quantised(matrix_span<U const> w, mask const& keep) : shape_(w.shape()), scales_(w.rows, ceil_div(w.cols, G)) {
    codes_.resize(static_cast<std::size_t>(keep.count()));
    if (nnz() != shape_.size()) {
      keep_ = keep;
      row_begin_.reserve(static_cast<std::size_t>(w.rows + 1));
    }
    std::int8_t* next = codes_.data();
    for (index_t r = 0; r < w.rows; ++r) {
      if (!keeps_all()) row_begin_.push_back(next - codes_.data());
      float* const scale = scales_.row(r);
      keep.for_each_in_row(r, [&](index_t c) { scale[c / G] = wider(scale[c / G], to_float(w(r, c))); });
      for (index_t g = 0; g < scales_.cols(); ++g) scale[g] = scale_of(scale[g]);
      keep.for_each_in_row(r, [&](index_t c) { *next++ = code_of(to_float(w(r, c)), scale[c / G]); });
    }
    if (!keeps_all()) row_begin_.push_back(nnz());
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return static_cast<index_t>(codes_.size()); }
  [[nodiscard]] bool keeps_all() const noexcept { return nnz() == shape_.size(); }
  [[nodiscard]] index_t row_nnz(index_t r) const noexcept {
    return keeps_all() ? shape_.cols : row_begin(r + 1) - row_begin(r);
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return codes_.size() + scales_.bytes() + row_begin_.size() * sizeof(index_t) +
           static_cast<std::size_t>(keep_.rows() * keep_.words_per_row()) * sizeof(mask::word);
  }
  /// Empty where everything is stored.
  [[nodiscard]] mask const& bits() const noexcept { return keep_; }
  /// The codes of the stored elements of row r, columns ascending: row_nnz(r) of them.
  [[nodiscard]] std::int8_t const* row_codes(index_t r) const noexcept { return codes_.data() + row_begin(r); }
  /// The scales of the groups of row r.
  [[nodiscard]] float const* row_scales(index_t r) const noexcept { return scales_.row(r); }

  /// f(column, code) for the stored elements of a row, columns ascending.
  template <class F>
  void for_each_code_in_row(index_t r, F&& f) const {
    std::int8_t const* code = row_codes(r);
    if (keeps_all()) {
      for (index_t c = 0; c < shape_.cols; ++c) f(c, *code++);
    } else {
      keep_.for_each_in_row(r, [&](index_t c) { f(c, *code++); });
    }
  }
  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    float const* const scale = row_scales(r);
    for_each_code_in_row(r, [&](index_t c, std::int8_t code) { f(c, static_cast<float>(code) * scale[c / G]); });
  }

 private:
  [[nodiscard]] index_t row_begin(index_t r) const noexcept {
    return keeps_all() ? r * shape_.cols : row_begin_[static_cast<std::size_t>(r)];
  }
  /// The larger of two magnitudes; NaN and Inf stay.
  static float wider(float magnitude, float w) noexcept {
    float const m = w < 0.0f ? -w : w;
    return m <= magnitude ? magnitude : (magnitude != magnitude ? magnitude : m);
  }
  static float scale_of(float magnitude) noexcept {
    if (magnitude == 0.0f) return 0.0f;
    float const scale = magnitude / 127.0f;
    if (scale < 0x1p-126f) return 0x1p-126f;
    constexpr float most = 0x1.020406p+121f;  // 127 of it are still finite
    if (scale > most && scale - scale == 0.0f) return most;
    return scale + (scale - scale);  // Inf becomes NaN
  }
  static std::int8_t code_of(float w, float scale) noexcept {
    if (!(scale > 0.0f)) return 0;
    constexpr float integers = 0x1.8p23f;  // floats of this size have no fraction, so the addition rounds
    return static_cast<std::int8_t>((w / scale + integers) - integers);
  }

  extents shape_;
  matrix<float> scales_;
  mask keep_;
  std::vector<index_t> row_begin_;
  std::vector<std::int8_t> codes_;
};

}  // namespace pare::inline PARE_ABI
