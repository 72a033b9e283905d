// SPDX-License-Identifier: Apache-2.0
// smtx, the text format of the Deep Learning Matrix Collection: which elements a pruned matrix keeps, without values.
//   rows, cols, nnz
//   rows + 1 row offsets, from 0 to nnz
//   nnz column indices from 0, ascending in each row
// https://github.com/google-research/google-research/tree/master/sgk
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/bytes.hpp>
#include <pare/io/file.hpp>
#include <pare/io/utf8.hpp>
#include <pare/mask/mask.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pare::inline PARE_ABI {

namespace detail {

/// The integers of one line of an smtx file, one after another.
class smtx_line {
 public:
  /// Takes the next line off `rest`. `number` is for messages.
  smtx_line(std::string_view& rest, int number) : number_(number) {
    std::size_t const end = std::min(rest.find('\n'), rest.size());
    left_ = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }

  [[nodiscard]] error fail(std::string what) const {
    return {errc::malformed, "line " + std::to_string(number_), std::move(what)};
  }
  /// Nothing but space and commas is left.
  [[nodiscard]] bool at_end() noexcept {
    while (!left_.empty() && is_space(left_.front())) left_.remove_prefix(1);
    return left_.empty();
  }
  /// The next integer, which is `what` in messages.
  [[nodiscard]] result<index_t> next(char const* what) {
    if (at_end()) return fail("ends where " + std::string(what) + " was expected");
    index_t value = 0;
    auto const [end, code] = std::from_chars(left_.data(), left_.data() + left_.size(), value);
    auto const length = static_cast<std::size_t>(end - left_.data());
    if (code != std::errc() || value < 0 || (length < left_.size() && !is_space(left_[length])))
      return fail(std::string(what) + " must be an integer from 0 to 2^63 - 1, found " +
                  in_quotes(left_.substr(0, std::min<std::size_t>(left_.find_first_of(", \t\r"), 24))));
    left_.remove_prefix(length);
    return value;
  }
  /// No more integers follow.
  [[nodiscard]] result<void> done(std::string const& expected) {
    if (!at_end()) return fail("more numbers follow the " + expected);
    return {};
  }

 private:
  static bool is_space(char c) noexcept { return c == ' ' || c == ',' || c == '\t' || c == '\r'; }

  std::string_view left_;
  int number_;
};

/// What a mask costs beyond its file is bounded: 1 MiB, and 64 bytes for each byte of text. A column index takes at
/// least two bytes, so that refuses matrices of more than 1000 elements a kept one only where they are large.
[[nodiscard]] inline bool smtx_mask_fits(std::uint64_t rows, std::uint64_t cols, std::uint64_t text_size) noexcept {
  std::uint64_t bytes = 0;
  constexpr std::uint64_t word_bytes = sizeof(mask::word);
  return checked_multiply(rows, cols / static_cast<std::uint64_t>(mask::word_bits) + 1, bytes) &&
         checked_multiply(bytes, word_bytes, bytes) && bytes <= (std::uint64_t{1} << 20) + 64 * text_size;
}

}  // namespace detail

/// The mask in the text of an .smtx file. O(text + rows * cols / 64).
/// Errors: errc::malformed naming the line and the rule; errc::unsupported for a mask far larger than its file.
[[nodiscard]] inline result<mask> parse_smtx(std::string_view text) {
  std::uint64_t const size = text.size();
  detail::smtx_line first(text, 1);
  PARE_TRY(index_t const rows, first.next("the number of rows"));
  PARE_TRY(index_t const cols, first.next("the number of columns"));
  PARE_TRY(index_t const nnz, first.next("the number of kept elements"));
  PARE_TRY_VOID(first.done("rows, columns and number of kept elements"));

  // Each integer takes a character and one before or after it: what the file cannot hold is not allocated.
  auto const file_can_hold = [&](index_t count) { return static_cast<std::uint64_t>(count) <= size / 2; };
  detail::smtx_line second(text, 2);
  if (rows == INT64_MAX || !file_can_hold(rows))
    return first.fail("claims " + std::to_string(rows) + " rows, more than the file has offsets for");
  if (!file_can_hold(nnz))
    return first.fail("claims " + std::to_string(nnz) + " kept elements, more than the file has columns for");
  if (!detail::smtx_mask_fits(static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols), size))
    return error{errc::unsupported, "line 1",
                 "claims " + std::to_string(rows) + " x " + std::to_string(cols) +
                     " elements, too many for a file of this size to be read as a mask"};

  std::vector<index_t> offsets;
  offsets.reserve(static_cast<std::size_t>(rows + 1));
  for (index_t r = 0; r <= rows; ++r) {
    PARE_TRY(index_t const offset, second.next("a row offset"));
    if (r == 0 && offset != 0) return second.fail("the first row offset must be 0, found " + std::to_string(offset));
    if (r > 0 && offset < offsets.back())
      return second.fail("row offsets must ascend: row " + std::to_string(r - 1) + " begins at " +
                         std::to_string(offsets.back()) + " and ends at " + std::to_string(offset));
    offsets.push_back(offset);
  }
  PARE_TRY_VOID(second.done(std::to_string(rows + 1) + " row offsets"));
  if (offsets.back() != nnz)
    return second.fail("the last row offset must be the number of kept elements, " + std::to_string(nnz) + ", found " +
                       std::to_string(offsets.back()));

  detail::smtx_line third(text, 3);
  mask keep(extents{rows, cols});
  for (index_t r = 0; r < rows; ++r) {
    index_t last = -1;
    for (index_t i = offsets[static_cast<std::size_t>(r)]; i < offsets[static_cast<std::size_t>(r) + 1]; ++i) {
      PARE_TRY(index_t const c, third.next("a column index"));
      if (c >= cols)
        return third.fail("row " + std::to_string(r) + " has column " + std::to_string(c) +
                          ", but columns go from 0 to " + std::to_string(cols - 1));
      if (c <= last)
        return third.fail("columns must ascend: row " + std::to_string(r) + " has " + std::to_string(c) + " after " +
                          std::to_string(last));
      keep.set(r, c);
      last = c;
    }
  }
  PARE_TRY_VOID(third.done(std::to_string(nnz) + " column indices"));
  while (!text.empty() && (text.front() == '\n' || text.front() == '\r')) text.remove_prefix(1);
  if (!text.empty()) return error{errc::malformed, "line 4", "the file must end after three lines"};
  return keep;
}

/// The mask of an .smtx file.
[[nodiscard]] inline result<mask> read_smtx(std::filesystem::path const& path) {
  PARE_TRY(auto const bytes, read_file(path));
  auto keep = parse_smtx(as_text(bytes));
  if (!keep) return in(path.string(), std::move(keep.error()));
  return keep;
}

}  // namespace pare::inline PARE_ABI
