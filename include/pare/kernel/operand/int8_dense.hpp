// SPDX-License-Identifier: Apache-2.0
// Dense 8-bit codes of four rows in one stream: the baseline of 8-bit decode.
//
//   rows 0 .. 3:  inputs   0 .. 127:  codes of row 0 | of row 1 | of row 2 | of row 3       scales of rows 0 1 2 3
//                 inputs 128 .. 255:  ...                                                   ...
//   rows 4 .. 7:  ...
//
// So many inputs are a group; with G = 64 they are 64, and a larger G repeats its scales. Codes are stored as code +
// 128 (see int8_columns.hpp); what is pruned or behind the last row or column is 128. Scales have a stream of their
// own, because codes that begin in the middle of a line are read from memory at 80 to 90 % of the speed of those that
// do not.
#pragma once

#include <cstring>

#include <pare/format/quantised.hpp>
#include <pare/kernel/bytes.hpp>
#include <pare/kernel/int8_columns.hpp>

namespace pare::inline PARE_ABI {

/// bytes: M (K + 4 K / group), M rounded up to 4 and K to groups (+ M K / 8 where something is pruned).
template <index_t G>
class int8_dense {
 public:
  using value_type = float;
  static constexpr index_t scaled = G;  // inputs that share a scale
  static constexpr index_t group = detail::int8_group<G>;
  static constexpr index_t height = 4;
  static constexpr char const* name() noexcept { return "int8_dense"; }

  int8_dense(quantised<G> const& w, machine const&)
      : shape_(w.shape()),
        nnz_(w.nnz()),
        kept_(w.bits()),
        codes_(ceil_div(shape_.rows, height), round_up(shape_.cols, group) * height),
        scales_(codes_.rows(), ceil_div(shape_.cols, group) * height) {
    if (codes_.size() > 0) std::memset(codes_.data(), 128, codes_.bytes());
    for (index_t r = 0; r < shape_.rows; ++r) {
      for (index_t c = 0; c < shape_.cols; c += group) scales_(r / height, scale_at(r, c)) = w.row_scales(r)[c / G];
      w.for_each_code_in_row(r, [&](index_t c, std::int8_t code) {
        codes_(r / height, code_at(r, c)) = static_cast<std::uint8_t>(code + 128);
      });
    }
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] bool keeps_all() const noexcept { return nnz_ == shape_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return codes_.bytes() + scales_.bytes() +
           static_cast<std::size_t>(kept_.rows() * kept_.words_per_row()) * sizeof(mask::word);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return height; }
  [[nodiscard]] index_t block_nnz(index_t) const noexcept { return height * shape_.cols; }

  /// Group g of rows 4 q ... 4 q + 3: the codes, row by row, and the scales.
  [[nodiscard]] std::uint8_t const* codes(index_t q, index_t g) const noexcept {
    return codes_.row(q) + g * height * group;
  }
  [[nodiscard]] float const* scales(index_t q, index_t g) const noexcept { return scales_.row(q) + g * height; }

  /// Walks the groups of rows 4 q ... 4 q + 3.
  class cursor {
   public:
    cursor(int8_dense const& w, index_t q) noexcept : codes_(w.codes_.row(q)), scales_(w.scales_.row(q)) {}
    /// Those of the four rows.
    [[nodiscard]] float const* scales() const noexcept { return scales_; }
    [[nodiscard]] std::uint8_t const* codes(index_t row) const noexcept { return codes_ + row * group; }
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
    template <class A>
    [[gnu::always_inline]] void load(__m512i (&weights)[height][group / 64]) const noexcept {
      simd::repeat<A, height>([&](index_t i) __attribute__((always_inline)) {
        simd::repeat<A, group / 64>([&](index_t b) __attribute__((always_inline)) {
          weights[i][b] = simd::load_bytes<A>(codes(i) + 64 * b);
        });
      });
    }
#endif
    /// For one column only a line of the next page: the hardware fetches the rest of a plain stream, but stops at the
    /// end of a page. Beside the reads of many columns it loses the stream (8 columns: 20 % of the memory's speed).
    template <class A, bool One>
    void fetch_ahead() const noexcept {
      if constexpr (One) {
        __builtin_prefetch(codes_ + 4096);
      } else {
        simd::repeat<A, height * group / 64>([&](index_t n) __attribute__((always_inline)) {
          __builtin_prefetch(codes_ + 8192 + 64 * n);
        });
      }
    }
    void next() noexcept {
      codes_ += height * group;
      scales_ += height;
    }

   private:
    std::uint8_t const* codes_;
    float const* scales_;
  };

  /// The stored elements of a row, columns ascending.
  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    auto const visit = [&](index_t c) {
      float const scale = scales_(r / height, scale_at(r, c));
      f(c, static_cast<float>(codes_(r / height, code_at(r, c)) - 128) * scale);
    };
    if (keeps_all()) {
      for (index_t c = 0; c < shape_.cols; ++c) visit(c);
    } else {
      kept_.for_each_in_row(r, visit);
    }
  }

 private:
  static constexpr index_t scale_at(index_t r, index_t c) noexcept { return c / group * height + r % height; }
  static constexpr index_t code_at(index_t r, index_t c) noexcept { return scale_at(r, c) * group + c % group; }

  extents shape_;
  index_t nnz_;
  mask kept_;  // empty where everything is
  matrix<std::uint8_t> codes_;
  matrix<float> scales_;
};

}  // namespace pare::inline PARE_ABI
