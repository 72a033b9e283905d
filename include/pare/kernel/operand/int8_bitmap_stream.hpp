// SPDX-License-Identifier: Apache-2.0
// Bitmaps and 8-bit codes of four rows in one stream each: 8-bit decode at moderate sparsity.
//
//   rows 0 .. 3:  inputs   0 ..  63:  masks m0 m1 m2 m3 (64 bits each)
//                 inputs  64 .. 127:  masks m0 m1 m2 m3      codes of row 0 | of row 1 | of row 2 | of row 3     4
//                 scales inputs 128 .. 191:  ...
//   rows 4 .. 7:  ...
//
// The codes of a row are those of 128 inputs, a group; with G = 64 a group has 64, and a larger G repeats its scales.
// Codes are stored as code + 128 (see int8_columns.hpp). Four rows share a stream, because prefetching ahead in streams
// of single rows runs into the neighbour's.
//
// Measured (Zen 5, 11008 x 4096 at 50 / 70 / 90 %, from memory) and dropped: masks and scales in the stream of codes,
// with the length of each record in front: 870 / 638 / 583 us instead of 809 / 552 / 450, since masks then begin
// anywhere in a line; without the length, which makes each record wait for the sum of eight counts: 1050 / 940 / 880.
#pragma once

#include <vector>

#include <pare/format/quantised.hpp>
#include <pare/kernel/bytes.hpp>
#include <pare/kernel/int8_columns.hpp>

namespace pare::inline PARE_ABI {

/// bytes: nnz + M (K / 8 + 4 K / group), M rounded up to 4 and K to groups; and 8 for every four rows.
template <index_t G>
class int8_bitmap_stream {
 public:
  using value_type = float;
  static constexpr index_t scaled = G;  // inputs that share a scale
  static constexpr index_t group = detail::int8_group<G>;
  static constexpr index_t height = 4;
  static constexpr index_t words = group / 64;  // masks of a row and group
  static constexpr char const* name() noexcept { return "int8_bitmap_stream"; }

  int8_bitmap_stream(quantised<G> const& w, machine const&)
      : shape_(w.shape()),
        nnz_(w.nnz()),
        masks_(ceil_div(shape_.rows, height), ceil_div(shape_.cols, group) * height * words),
        scales_(masks_.rows(), ceil_div(shape_.cols, group) * height),
        codes_(1, nnz_ + 64) {  // whole registers are read up to the last code
    mask const all = w.keeps_all() ? mask(shape_, true) : mask();
    mask const& keep = w.keeps_all() ? all : w.bits();
    std::uint8_t* out = codes_.data();
    for (index_t q = 0; q < masks_.rows(); ++q) {
      begin_.push_back(out - codes_.data());
      out = append_rows(w, keep, q, out);
    }
    begin_.push_back(nnz_);
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return masks_.bytes() + scales_.bytes() + codes_.bytes() + begin_.size() * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return height; }
  [[nodiscard]] index_t block_nnz(index_t q) const noexcept { return begin(q + 1) - begin(q); }

  /// Walks the groups of rows 4 q ... 4 q + 3.
  class cursor {
   public:
    cursor(int8_bitmap_stream const& w, index_t q) noexcept
        : masks_(w.masks_.row(q)), scales_(w.scales_.row(q)), codes_(w.codes_.data() + w.begin(q)), end_(codes_) {}
    /// Those of the four rows.
    [[nodiscard]] float const* scales() const noexcept { return scales_; }
    /// Bit c: input 64 b + c of the row is stored.
    [[nodiscard]] std::uint64_t bits(index_t row, index_t b) const noexcept { return masks_[b * height + row]; }
#if XSIMD_WITH_AVX512BW && defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
    /// 128 where nothing is stored.
    template <class A>
    [[gnu::always_inline]] void load(__m512i (&weights)[height][words]) noexcept {
      end_ = codes_;
      simd::repeat<A, height>([&](index_t i) __attribute__((always_inline)) {
        std::uint8_t const* p = end_;
        index_t count = 0;  // of the row, so that the rows' ends depend on few additions
        simd::repeat<A, words>([&](index_t b) __attribute__((always_inline)) {
          weights[i][b] = simd::expand_bytes<A>(_mm512_set1_epi8(-128), bits(i, b), simd::load_bytes<A>(p));
          p += std::popcount(bits(i, b));
          count += std::popcount(bits(i, b));
        });
        end_ += count;
      });
    }
#endif
    /// Far: more than a page, behind which the hardware does not look; and few lines, since each costs a cycle.
    template <class A, bool>
    void fetch_ahead() const noexcept {
      constexpr index_t distance = simd::fetch_distance<A>(16384);
      simd::repeat<A, height * group / 128>([&](index_t n) __attribute__((always_inline)) {
        __builtin_prefetch(codes_ + distance + 64 * n);
      });
      __builtin_prefetch(masks_ + distance / 32);  // a bit for each code, twice as far
    }
    /// After load(), or skip().
    void next() noexcept {
      masks_ += height * words;
      scales_ += height;
      codes_ = end_;
    }
    /// f(b, bits, codes) for each 64 inputs of a row, instead of load().
    template <class F>
    void visit(index_t row, F&& f) noexcept {
      for (index_t i = 0; i < height; ++i)
        for (index_t b = 0; b < words; ++b) {
          if (i == row) f(b, bits(i, b), end_);
          end_ += std::popcount(bits(i, b));
        }
    }

   private:
    std::uint64_t const* masks_;
    float const* scales_;
    std::uint8_t const* codes_;
    std::uint8_t const* end_;
  };

  /// The stored elements of a row, columns ascending. Walks the masks of the four rows that are stored together.
  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    cursor in(*this, r / height);
    for (index_t first = 0; first < shape_.cols; first += group, in.next()) {
      float const scale = in.scales()[r % height];
      in.visit(r % height, [&](index_t b, std::uint64_t bits, std::uint8_t const* code) {
        for (; bits != 0; bits &= bits - 1)
          f(first + 64 * b + std::countr_zero(bits), static_cast<float>(*code++ - 128) * scale);
      });
    }
  }

 private:
  [[nodiscard]] index_t begin(index_t q) const noexcept { return begin_[static_cast<std::size_t>(q)]; }

  std::uint8_t* append_rows(quantised<G> const& w, mask const& keep, index_t q, std::uint8_t* out) {
    std::int8_t const* codes[height] = {};
    index_t const first = q * height;
    index_t const rows = shape_.rows - first < height ? shape_.rows - first : height;
    for (index_t i = 0; i < rows; ++i) codes[i] = w.row_codes(first + i);
    for (index_t g = 0; g * group < shape_.cols; ++g)
      for (index_t i = 0; i < rows; ++i) {
        scales_(q, g * height + i) = w.row_scales(first + i)[g * group / G];
        for (index_t b = 0; b < words && g * words + b < keep.words_per_row(); ++b) {
          std::uint64_t const bits = keep.row_words(first + i)[g * words + b];
          masks_(q, (g * words + b) * height + i) = bits;
          for (int n = std::popcount(bits); n > 0; --n) *out++ = static_cast<std::uint8_t>(*codes[i]++ + 128);
        }
      }
    return out;
  }

  extents shape_;
  index_t nnz_;
  matrix<std::uint64_t> masks_;
  matrix<float> scales_;
  matrix<std::uint8_t> codes_;
  std::vector<index_t> begin_;  // of the codes of each four rows, and the end
};

}  // namespace pare::inline PARE_ABI
