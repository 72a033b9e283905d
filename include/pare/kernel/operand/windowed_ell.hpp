// SPDX-License-Identifier: Apache-2.0
// Sixteen rows in the lanes of a register, and x in two: the operand for few columns and high sparsity.
//
// A group of 16 rows is cut into windows of 32 columns, so that a permutation of two registers looks x up. In each
// window the rows are put in the order of their number of elements. Step i then takes the i-th element, from the right,
// of the first n(i) lanes: nothing is padded, although the rows have different lengths.
//
//   window (columns 64..95):  lane 0: row 7   lane 1: row 2   lane 2: row 11   ...
//     bits                         66 70 81       64 71 93       65 82
//     step 0, n = 16                81             93             82          values: w(7,81) w(2,93) w(11,82) ...
//     step 1, n = 13                70             71             65                  w(7,70) w(2,71) w(11,65) ...
//     step 2, n = 2                 66             64                                 w(7,66) w(2,64)
//
//   windows: for each with elements: order (16 nibbles: from which lane of the window before each lane takes its sum),
//            number of the window, steps; 16 words of bits, the first column highest, apart for the sake of alignment
//   values:  one stream. float: as above. bf16: pairs, w(7,81) w(7,70) | w(2,93) w(2,71) | ..., 0 where the second is
//            missing, so that one load gives the weights of two steps
//
// Columns are not stored: the kernel takes the lowest bit of each lane (columns go from the right because counting
// leading zeros is the instruction that there is), which costs less than bytes do, up to 90 % sparsity. The windows of
// a group follow each other by their number of steps, so that the loop over them is predicted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>

#include <pare/kernel/operand/row_blocks.hpp>

namespace pare::inline PARE_ABI {

/// Groups are made of rows with about equally many elements, in blocks of 256 rows. bytes: nnz sizeof(T), and 76 for a
/// window of a group that is not empty (M K / 6.7 where none is); bf16: 2 for each row with an odd number of elements
/// in a window. Pre: K <= most_columns. Kernels may read a line behind the end of the values.
template <weight_value T>
class windowed_ell {
 public:
  using value_type = T;
  static constexpr char const* name() noexcept { return "windowed_ell"; }
  static constexpr index_t lanes = 16;
  static constexpr index_t window_columns = 32;
  static constexpr index_t most_columns = window_columns * 65536;
  static constexpr index_t no_row = -1;

  struct window {
    std::uint32_t order[2] = {};  // lane l: nibble l / 2 of word l % 2
    std::uint16_t number = 0;
    std::uint16_t steps = 0;
  };
  struct group {
    index_t windows = 0;       // where they begin
    index_t values = 0;        // where they begin
    index_t rows[lanes] = {};  // of the lanes, in the order after the last window; no_row: none
  };

  template <sparse_format F>
  windowed_ell(F const& format, machine const&) : shape_(format.shape()), nnz_(format.nnz()) {
    PARE_EXPECTS(shape_.cols <= most_columns, "windowed_ell: too many columns");
    bitmap<T> const& w = detail::as_bitmap(format);
    values_.reserve(static_cast<std::size_t>(nnz_));
    block_rows_ = detail::rows_per_block(shape_.rows, 256, 4, lanes);
    std::vector<std::uint32_t> bits;
    std::vector<index_t> order;
    for (index_t r = 0; r < shape_.rows; r += block_rows_) {
      order.resize(static_cast<std::size_t>(std::min(block_rows_, shape_.rows - r)));
      std::iota(order.begin(), order.end(), r);
      std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) { return w.row_nnz(a) > w.row_nnz(b); });
      order.resize(static_cast<std::size_t>(round_up(static_cast<index_t>(order.size()), lanes)), no_row);
      for (std::size_t i = 0; i < order.size(); i += lanes) {
        begin_group();
        append_group(w, order.data() + i, bits);
      }
    }
    begin_group();
    values_.resize(values_.size() + alignment / sizeof(T));
    values_.shrink_to_fit();
    bits_ = matrix<std::uint32_t>(static_cast<index_t>(windows_.size()), lanes);
    if (!bits.empty()) std::memcpy(bits_.data(), bits.data(), bits_.bytes());
    windows_.shrink_to_fit();
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return windows_.size() * sizeof(window) + bits_.bytes() + values_.size() * sizeof(T) +
           groups_.size() * sizeof(group);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return block_rows_; }
  [[nodiscard]] index_t block_nnz(index_t b) const noexcept {
    index_t const end = std::min((b + 1) * block_rows_, round_up(shape_.rows, lanes));
    return group_at(end / lanes).values - group_at(b * block_rows_ / lanes).values;
  }

  /// Rows [16 i, 16 i + 16) of the order in which rows are grouped; behind the last group stands the end.
  [[nodiscard]] group const& group_at(index_t i) const noexcept { return groups_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] window const* windows(group const& g) const noexcept { return windows_.data() + g.windows; }
  /// 16 words for each window.
  [[nodiscard]] std::uint32_t const* bits(group const& g) const noexcept { return bits_.row(g.windows); }
  [[nodiscard]] T const* values(group const& g) const noexcept { return values_.data() + g.values; }

 private:
  struct lane {
    std::uint32_t bits = 0;
    T const* values = nullptr;
    [[nodiscard]] int count() const noexcept { return std::popcount(bits); }
  };
  struct unpacked {
    std::uint16_t number = 0;
    int steps = 0;
    lane rows[lanes];
  };

  void begin_group() {
    groups_.emplace_back();
    groups_.back().windows = static_cast<index_t>(windows_.size());
    groups_.back().values = static_cast<index_t>(values_.size());
  }

  void append_group(bitmap<T> const& w, index_t const* rows, std::vector<std::uint32_t>& bits) {
    index_t at[lanes];  // lane -> row, of the 16
    std::iota(at, at + lanes, index_t{0});
    for (unpacked const& win : windows_of(w, rows)) {
      index_t order[lanes];
      std::iota(order, order + lanes, index_t{0});
      std::stable_sort(order, order + lanes,
                       [&](index_t a, index_t b) { return win.rows[at[a]].count() > win.rows[at[b]].count(); });
      window packed{{}, win.number, static_cast<std::uint16_t>(win.steps)};
      lane const* in[lanes];
      for (index_t l = 0; l < lanes; ++l) {
        packed.order[l % 2] |= static_cast<std::uint32_t>(order[l]) << (l / 2 * 4);
        in[l] = &win.rows[at[order[l]]];
        bits.push_back(reversed(in[l]->bits));
      }
      windows_.push_back(packed);
      constexpr int together = std::same_as<T, float> ? 1 : 2;
      for (int s = 0; s < win.steps; s += together)
        for (index_t l = 0; l < lanes && in[l]->count() > s; ++l)
          for (int i = s; i < s + together; ++i)
            values_.push_back(i < in[l]->count() ? in[l]->values[in[l]->count() - 1 - i] : T{});
      for (index_t l = 0; l < lanes; ++l) at[l] = in[l] - win.rows;
    }
    for (index_t l = 0; l < lanes; ++l) groups_.back().rows[l] = rows[at[l]];
  }

  /// The windows of 16 rows in which there is something, those of many steps first.
  [[nodiscard]] std::vector<unpacked> windows_of(bitmap<T> const& w, index_t const* rows) const {
    std::vector<unpacked> out(static_cast<std::size_t>(ceil_div(shape_.cols, window_columns)));
    for (index_t l = 0; l < lanes; ++l) {
      if (rows[l] == no_row) continue;
      detail::word_cursor<T> cursor(w, rows[l]);
      for (std::size_t i = 0; i < out.size(); ++i) {
        auto const low = static_cast<std::uint32_t>(cursor.bits());
        auto const high = static_cast<std::uint32_t>(cursor.bits() >> 32);
        lane const row = i % 2 == 0 ? lane{low, cursor.values()} : lane{high, cursor.values() + std::popcount(low)};
        out[i].number = static_cast<std::uint16_t>(i);
        out[i].rows[l] = row;
        out[i].steps = std::max(out[i].steps, row.count());
        if (i % 2 == 1) cursor.next();
      }
    }
    std::erase_if(out, [](unpacked const& win) { return win.steps == 0; });
    std::stable_sort(out.begin(), out.end(), [](unpacked const& a, unpacked const& b) { return a.steps > b.steps; });
    return out;
  }
  static std::uint32_t reversed(std::uint32_t bits) noexcept {
    std::uint32_t out = 0;
    for (; bits != 0; bits &= bits - 1) out |= 0x80000000u >> std::countr_zero(bits);
    return out;
  }

  extents shape_;
  index_t nnz_;
  index_t block_rows_ = lanes;
  std::vector<group> groups_;
  std::vector<window, aligned_allocator<window>> windows_;
  matrix<std::uint32_t> bits_;
  std::vector<T, aligned_allocator<T>> values_;
};

}  // namespace pare::inline PARE_ABI
