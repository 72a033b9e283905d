// SPDX-License-Identifier: Apache-2.0
// 8-bit codes with the places of their inputs: 8-bit decode at high sparsity.
//
// 64 rows by a window of 128 inputs, which two registers hold, are a record. In every window of its own the rows are
// sorted by how many elements they store, most first, and cut into four parts of 16, as many steps long as the first
// row of each needs with four elements a step:
//
//   places (64 bytes) | scales (64 floats, sorted) | part 0: step, step, ... | part 1: ... | part 2: ... | part 3: ...
//
//   place of row r: where the sort has put it;   step: 16 rows x 4 inputs (64 bytes) | 16 rows x 4 magnitudes
//
// An input is its number in the window, with 128 added where the weight is negative: the sign goes to x, since the
// products of bytes want one side without sign. Padding is input 128 times 0. Sorting the rows of a record instead of
// taking them as they come brings padding at 90 % sparsity from 61 to 27 % of the elements.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include <pare/format/quantised.hpp>
#include <pare/kernel/bytes.hpp>
#include <pare/kernel/int8_columns.hpp>

namespace pare::inline PARE_ABI {

/// bytes: 2 nnz and padding + M (5 K / 128), M rounded up to 64 and K to 128; and 4 for every record.
template <index_t G>
class int8_windowed_ell {
  static_assert(G % 128 == 0, "pare::int8_windowed_ell: groups must be multiples of 128 inputs");

 public:
  using value_type = float;
  static constexpr index_t scaled = G;  // inputs that share a scale
  static constexpr index_t group = 128;
  static constexpr index_t height = 64;
  static constexpr index_t parts = height / 16;
  static constexpr index_t step_bytes = 128;
  static constexpr char const* name() noexcept { return "int8_windowed_ell"; }

  int8_windowed_ell(quantised<G> const& w, machine const&)
      : shape_(w.shape()), nnz_(w.nnz()), steps_(static_cast<std::size_t>(blocks() * windows() * parts)) {
    std::vector<window> rows(static_cast<std::size_t>(windows() * height));
    std::vector<std::uint8_t> bytes;
    for (index_t b = 0; b < blocks(); ++b) {
      begin_.push_back(static_cast<index_t>(bytes.size()));
      for (window& in : rows) in.count = 0;
      for (index_t r = b * height; r < shape_.rows && r < (b + 1) * height; ++r)
        w.for_each_code_in_row(r, [&](index_t c, std::int8_t code) {
          window& in = rows[static_cast<std::size_t>(c / group * height + r % height)];
          in.inputs[in.count] = static_cast<std::uint8_t>(c % group + (code < 0 ? negative : 0));
          in.magnitudes[in.count++] = static_cast<std::uint8_t>(code < 0 ? -code : code);
        });
      for (index_t i = 0; i < windows(); ++i) append_record(w, b, i, rows.data() + i * height, bytes);
    }
    begin_.push_back(static_cast<index_t>(bytes.size()));
    stream_ = matrix<std::uint8_t>(1, begin_.back());
    if (!bytes.empty()) std::memcpy(stream_.data(), bytes.data(), bytes.size());
  }

  [[nodiscard]] extents shape() const noexcept { return shape_; }
  [[nodiscard]] index_t nnz() const noexcept { return nnz_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return stream_.bytes() + steps_.size() + begin_.size() * sizeof(index_t);
  }
  [[nodiscard]] index_t block_rows() const noexcept { return height; }
  [[nodiscard]] index_t block_nnz(index_t b) const noexcept { return records(b + 1) - records(b); }

  /// The records of rows 64 b ... 64 b + 63, one for each window; and the steps of the parts of each.
  [[nodiscard]] std::uint8_t const* records(index_t b) const noexcept {
    return stream_.data() + begin_[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] std::uint8_t const* steps(index_t b) const noexcept { return steps_.data() + b * windows() * parts; }
  static constexpr index_t scales_at = height;
  static constexpr index_t steps_at = height + height * 4;

  /// The stored elements of a row, columns ascending.
  template <class F>
  void for_each_in_row(index_t r, F&& f) const {
    std::uint8_t const* record = records(r / height);
    std::uint8_t const* count = steps(r / height);
    for (index_t first = 0; first < shape_.cols; first += group, count += parts) {
      index_t const place = record[r % height];
      float scale;
      std::memcpy(&scale, record + scales_at + place * 4, sizeof scale);
      record += steps_at;
      for (index_t part = 0; part < parts; ++part)
        for (index_t s = 0; s < count[part]; ++s, record += step_bytes)
          for (index_t i = place % 16 * 4; part == place / 16 && i < place % 16 * 4 + 4; ++i) {
            int const magnitude = record[64 + i];
            if (record[i] == negative && magnitude == 0) break;
            f(first + record[i] % negative, static_cast<float>(record[i] < negative ? magnitude : -magnitude) * scale);
          }
    }
  }

 private:
  static constexpr std::uint8_t negative = 128;
  /// The stored elements of a row in a window.
  struct window {
    std::uint8_t count;
    std::uint8_t inputs[group];
    std::uint8_t magnitudes[group];
  };

  [[nodiscard]] index_t blocks() const noexcept { return ceil_div(shape_.rows, height); }
  [[nodiscard]] index_t windows() const noexcept { return ceil_div(shape_.cols, group); }

  void append_record(quantised<G> const& w, index_t block, index_t number, window const* rows,
                     std::vector<std::uint8_t>& bytes) {
    std::uint8_t sorted[height];
    for (index_t i = 0; i < height; ++i) sorted[i] = static_cast<std::uint8_t>(i);
    std::stable_sort(sorted, sorted + height, [&](auto a, auto b) { return rows[a].count > rows[b].count; });
    std::size_t const begin = bytes.size();
    bytes.resize(begin + steps_at);
    for (index_t i = 0; i < height; ++i) {
      index_t const r = block * height + sorted[i];
      float const scale = r < shape_.rows ? w.row_scales(r)[number * group / G] : 0.0f;
      bytes[begin + sorted[i]] = static_cast<std::uint8_t>(i);
      std::memcpy(&bytes[begin + static_cast<std::size_t>(scales_at + i * 4)], &scale, sizeof scale);
    }
    for (index_t part = 0; part < parts; ++part) {
      int const count = (rows[sorted[part * 16]].count + 3) / 4;
      steps_[static_cast<std::size_t>((block * windows() + number) * parts + part)] = static_cast<std::uint8_t>(count);
      for (int s = 0; s < count; ++s)
        for (bool const magnitudes : {false, true})
          for (index_t i = 0; i < 64; ++i) {
            window const& in = rows[sorted[part * 16 + i / 4]];
            index_t const e = s * 4 + i % 4;
            std::uint8_t const padding = magnitudes ? std::uint8_t{0} : negative;
            bytes.push_back(e >= in.count ? padding : (magnitudes ? in.magnitudes[e] : in.inputs[e]));
          }
    }
  }

  extents shape_;
  index_t nnz_;
  std::vector<index_t> begin_;  // of the records of each 64 rows, and the end
  std::vector<std::uint8_t> steps_;
  matrix<std::uint8_t> stream_;
};

}  // namespace pare::inline PARE_ABI
