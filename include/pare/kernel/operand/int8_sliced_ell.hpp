// SPDX-License-Identifier: Apache-2.0
// 8-bit codes of 16 rows with the places of their inputs: 8-bit SpMM with unstructured sparsity.
//
// Rows are cut into blocks of 128, and each block, its rows sorted by how many elements they store, into eight slices
// of 16. A block's groups of 128 inputs follow each other; in each of them the slices come longest first, as many steps
// long as their longest row needs with four elements a step:
//
//   group:  slice | slice | ...                                   slice:  offsets | scales | step, step, ...
//   step:   16 rows x 4 inputs (64 bytes) | 16 rows x 4 codes (64 bytes)
//
// The first steps of a slice look in inputs 0 .. 63 of the group, the next ones in 32 .. 95, the last in 64 .. 127: an
// input is its number there. What lies in two of these windows goes where the row has room, so that a slice has hardly
// more steps than with one window of 128 (which two registers would hold; see int8_sliced_ell_spmm), where two windows
// side by side take 7 % (50 % sparsity) to 20 (90 %) more.
//
// Offsets are -128 times the sum of a row's codes there, since x comes as code + 128 (see int8_panels.hpp). Padding is
// input 64, which a look-up takes for 0, times 0. Longest first, because then the lengths of loops are predicted.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include <pare/format/quantised.hpp>
#include <pare/kernel/kernel.hpp>

namespace pare::inline PARE_ABI {

/// bytes: 2 nnz and padding + M (K / 16 + 1), M rounded up to 16 and K to 128; and 32 for every block and group.
/// Padding: at 50, 70, 80, 90 % random sparsity 0.18, 0.29, 0.37, 0.6 of the elements.
template <index_t G>
class int8_sliced_ell {
  static_assert(G % 128 == 0, "pare::int8_sliced_ell: groups must be multiples of 128 inputs");

 public:
  using value_type = float;
  static constexpr index_t scaled = G;  // inputs that share a scale
  static constexpr index_t group = 128;
  static constexpr index_t height = 128;
  static constexpr index_t slice_rows = 16;
  static constexpr index_t most_slices = height / slice_rows;
  static constexpr index_t scales_at = 64;
  static constexpr index_t steps_at = 128;
  static constexpr index_t step_bytes = 128;
  static constexpr char const* name() noexcept { return "int8_sliced_ell"; }

  /// A slice of a group: its number in the block, its steps in the first window, in the first two, and in all.
  struct slice {
    std::uint8_t number;
    std::uint8_t first;
    std::uint8_t middle;
    std::uint8_t steps;
    [[nodiscard]] index_t window_of(index_t step) const noexcept {
      return static_cast<index_t>(step >= first) + static_cast<index_t>(step >= middle);
    }
  };

  int8_sliced_ell(quantised<G> const& w, machine const&)
      : shape_(w.shape()), nnz_(w.nnz()), row_at_(static_cast<std::size_t>(blocks() * height)) {
    std::vector<row_part> rows(static_cast<std::size_t>(groups() * height));
    std::vector<std::uint8_t> bytes;
    begin_.push_back(0);
    for (index_t b = 0; b < blocks(); ++b) {
      sort_rows(w, b);
      for (row_part& in : rows) in.count = 0;
      for (index_t place = 0; place < rows_of(b); ++place)
        w.for_each_code_in_row(row_at(b, place), [&](index_t c, std::int8_t code) {
          row_part& in = rows[static_cast<std::size_t>(c / group * height + place)];
          in.inputs[in.count] = static_cast<std::uint8_t>(c % group);
          in.codes[in.count++] = code;
        });
      for (index_t i = 0; i < groups(); ++i) append_group(w, b, i, rows.data() + i * height, bytes);
      begin_.push_back(static_cast<index_t>(bytes.size()));
    }
    stream_ = matrix<std::uint8_t>(1, begin_.back());
    if (!bytes.empty()) std::memcpy(stream_.data(), bytes.data(), bytes.size());
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return stream_.bytes() + slices_.size() * sizeof(slice) + row_at_.size() + begin_.size() * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return height; }
  [[nodiscard]] index_t block_nnz(index_t b) const noexcept { return begin(b + 1) - begin(b); }

  [[nodiscard]] index_t groups() const noexcept { return ceil_div(shape_.cols, group); }
  /// Of block b: its slices in every group, and in each group what they are, in the order of the stream.
  [[nodiscard]] index_t slices_in(index_t b) const noexcept { return ceil_div(rows_of(b), slice_rows); }
  [[nodiscard]] slice const* slices(index_t b) const noexcept { return slices_.data() + b * groups() * most_slices; }
  [[nodiscard]] std::uint8_t const* stream(index_t b) const noexcept { return stream_.data() + begin(b); }
  [[nodiscard]] index_t rows_of(index_t b) const noexcept {
    return shape_.rows - b * height < height ? shape_.rows - b * height : height;
  }
  /// The row in a place of block b: row i % 16 of slice i / 16.
  [[nodiscard]] index_t row_at(index_t b, index_t i) const noexcept {
    return b * height + row_at_[static_cast<std::size_t>(b * height + i)];
  }

  /// The stored elements of a row, columns ascending. Walks the slices of its block.
  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    index_t const b = r / height;
    index_t place = 0;
    while (row_at(b, place) != r) ++place;
    slice const* s = slices(b);
    std::uint8_t const* p = stream(b);
    for (index_t first = 0; first < shape_.cols; first += group, s += most_slices)
      for (index_t n = 0; n < slices_in(b); p += steps_at + s[n].steps * step_bytes, ++n) {
        if (s[n].number != place / slice_rows) continue;
        index_t const lane = place % slice_rows;
        float scale;
        std::memcpy(&scale, p + scales_at + lane * 4, sizeof scale);
        for (index_t e = 0; e < 4 * s[n].steps; ++e) {
          std::uint8_t const* const at = p + steps_at + e / 4 * step_bytes + lane * 4 + e % 4;
          if (*at == padding) continue;
          f(first + 32 * s[n].window_of(e / 4) + *at, static_cast<float>(static_cast<std::int8_t>(at[64])) * scale);
        }
      }
  }

 private:
  static constexpr std::uint8_t padding = 64;
  /// The stored elements of a row in a group.
  struct row_part {
    std::uint8_t count;
    std::uint8_t inputs[group];
    std::int8_t codes[group];
    [[nodiscard]] int before(int input) const noexcept {
      return static_cast<int>(std::lower_bound(inputs, inputs + count, input) - inputs);
    }
  };

  [[nodiscard]] index_t blocks() const noexcept { return ceil_div(shape_.rows, height); }
  [[nodiscard]] index_t begin(index_t b) const noexcept { return begin_[static_cast<std::size_t>(b)]; }

  void sort_rows(quantised<G> const& w, index_t b) {
    std::uint8_t* const rows = row_at_.data() + b * height;
    for (index_t i = 0; i < height; ++i) rows[i] = static_cast<std::uint8_t>(i);
    std::stable_sort(rows, rows + rows_of(b),
                     [&](auto i, auto j) { return w.row_nnz(b * height + i) > w.row_nnz(b * height + j); });
  }

  void append_group(quantised<G> const& w, index_t b, index_t number, row_part const* rows,
                    std::vector<std::uint8_t>& bytes) {
    slice order[most_slices] = {};
    for (index_t n = 0; n < slices_in(b); ++n) order[n] = steps_of(static_cast<std::uint8_t>(n), rows + n * slice_rows);
    std::stable_sort(order, order + slices_in(b), [](slice a, slice c) { return a.steps > c.steps; });
    slices_.insert(slices_.end(), order, order + most_slices);
    for (index_t n = 0; n < slices_in(b); ++n) {
      std::size_t const at = bytes.size();
      bytes.resize(at + static_cast<std::size_t>(steps_at + order[n].steps * step_bytes));
      append_slice(w, b, number, rows, order[n], bytes.data() + at);
    }
  }

  /// As few steps as there can be: enough for the longest row, for what only the first or the last window has, and for
  /// what one of them has together with the middle one.
  static slice steps_of(std::uint8_t number, row_part const* rows) {
    int first = 0, last = 0, not_last = 0, not_first = 0, all = 0;
    auto const raise = [](int& steps, int elements) { steps = std::max(steps, (elements + 3) / 4); };
    for (index_t i = 0; i < slice_rows; ++i) {
      row_part const& in = rows[i];
      raise(first, in.before(32));
      raise(not_last, in.before(64));
      raise(not_first, in.count - in.before(64));
      raise(last, in.count - in.before(96));
      raise(all, in.count);
    }
    all = std::max({all, not_last + last, first + not_first});
    return {number, static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(all - last),
            static_cast<std::uint8_t>(all)};
  }

  void append_slice(quantised<G> const& w, index_t b, index_t number, row_part const* rows, slice s,
                    std::uint8_t* out) {
    std::uint8_t* const steps = out + steps_at;
    for (index_t n = 0; n < s.steps; ++n) {
      std::memset(steps + n * step_bytes, padding, 64);
      std::memset(steps + n * step_bytes + 64, 0, 64);
    }
    for (index_t i = 0; i < slice_rows; ++i) {
      index_t const place = s.number * slice_rows + i;
      row_part const& in = rows[place];
      std::int32_t offset = 0;
      int const to_last = std::min(in.count - in.before(64), 4 * (s.steps - s.middle));
      int slot = 0;
      for (int e = 0; e < in.count; ++e, ++slot) {
        if (slot < 4 * s.first && in.inputs[e] >= 64) slot = 4 * s.first;
        if (e == in.count - to_last) slot = 4 * s.middle;
        std::uint8_t* const at = steps + slot / 4 * step_bytes + i * 4 + slot % 4;
        at[0] = static_cast<std::uint8_t>(in.inputs[e] - 32 * s.window_of(slot / 4));
        at[64] = static_cast<std::uint8_t>(in.codes[e]);
        offset -= 128 * in.codes[e];
      }
      float const scale = place < rows_of(b) ? w.row_scales(row_at(b, place))[number * group / G] : 0.0f;
      std::memcpy(out + i * 4, &offset, sizeof offset);
      std::memcpy(out + scales_at + i * 4, &scale, sizeof scale);
    }
  }

  extents shape_;
  index_t nnz_;
  std::vector<std::uint8_t> row_at_;  // in its block
  std::vector<slice> slices_;
  std::vector<index_t> begin_;  // of the stream of each block, and the end
  matrix<std::uint8_t> stream_;
};

}  // namespace pare::inline PARE_ABI
