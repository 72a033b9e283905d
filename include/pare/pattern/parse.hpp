// SPDX-License-Identifier: Apache-2.0
// Patterns as people write them: "unstructured:0.5", "2:4", "2:4x16", "block4x1:0.8".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <pare/core/result.hpp>
#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// A pattern together with the sparsity that was written behind it.
struct pattern_spec {
  any_pattern pattern;
  sparsity target{0.0};  // for N:M: 1 - N / M
};

namespace detail {

/// Reads digits from the front of `text`; nothing where there are none or more than six.
constexpr std::optional<index_t> take_number(std::string_view& text) noexcept {
  index_t value = 0;
  std::size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9' && digits < 7)
    value = value * 10 + (text[digits++] - '0');
  if (digits == 0 || digits > 6) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

/// Reads a decimal fraction such as "0.5", ".5" or "0"; the whole text must be one.
constexpr std::optional<double> whole_fraction(std::string_view text) noexcept {
  double value = 0.0;
  double scale = 1.0;
  bool point = false;
  bool digit = false;
  if (text.size() > 20) return std::nullopt;
  for (char const c : text) {
    if (c == '.' && !point) {
      point = true;
    } else if (c >= '0' && c <= '9') {
      digit = true;
      value = value * 10.0 + (c - '0');
      if (point) scale *= 10.0;
    } else {
      return std::nullopt;
    }
  }
  return digit ? std::optional(value / scale) : std::nullopt;
}

}  // namespace detail

/// Parses "unstructured:S", "N:M" (N of M inputs stay, N < M <= 32), "N:MxV" (the choice is shared by V outputs) or
/// "blockRxC:S"; S is the sparsity, in [0, 1).
[[nodiscard]] inline result<pattern_spec> parse_pattern(std::string_view text) {
  auto const refuse = [&](errc code, char const* rule) -> error {
    return {code, "pattern '" + std::string(text) + "'", rule};
  };
  std::string_view rest = text;
  any_pattern pattern;
  if (rest.starts_with("unstructured")) {
    rest.remove_prefix(12);
  } else if (rest.starts_with("block")) {
    rest.remove_prefix(5);
    auto const rows = detail::take_number(rest);
    bool const times = rest.starts_with('x');
    if (times) rest.remove_prefix(1);
    auto const cols = detail::take_number(rest);
    if (!rows || !times || !cols)
      return refuse(errc::malformed, "a block pattern is written blockRxC:SPARSITY, as in block4x1:0.8");
    if (*rows < 1 || *cols < 1 || *rows * *cols < 2 || *rows > 1024 || *cols > 1024)
      return refuse(errc::out_of_range, "block rows and columns must lie in 1..1024, with at least two elements");
    pattern = any_pattern({*rows, *cols}, 0, 0);
  } else {
    auto const n = detail::take_number(rest);
    bool const colon = rest.starts_with(':');
    if (colon) rest.remove_prefix(1);
    auto const m = detail::take_number(rest);
    std::optional<index_t> rows = 1;
    if (rest.starts_with('x')) {
      rest.remove_prefix(1);
      rows = detail::take_number(rest);
    }
    if (!n || !colon || !m || !rows || !rest.empty())
      return refuse(errc::malformed,
                    "expected unstructured:SPARSITY, N:M, N:MxROWS or blockRxC:SPARSITY (for example unstructured:0.5, "
                    "2:4, 2:4x16, block4x1:0.8)");
    if (*n < 1 || *n >= *m || *m > 32) return refuse(errc::out_of_range, "N:M keeps N of M inputs: 0 < N < M <= 32");
    if (*rows < 1 || *rows > 1024)
      return refuse(errc::out_of_range, "the choice of N:M is shared by 1 to 1024 outputs that follow each other");
    return pattern_spec{any_pattern({*rows, 1}, *n, *m),
                        sparsity(1.0 - static_cast<double>(*n) / static_cast<double>(*m))};
  }
  if (!rest.starts_with(':'))
    return refuse(errc::malformed, "the sparsity is missing: write it behind a colon, as in unstructured:0.5");
  auto const s = detail::whole_fraction(rest.substr(1));
  if (!s)
    return refuse(errc::malformed,
                  "the sparsity must be a decimal number in [0, 1) of at most 20 characters, such as 0.5");
  if (!(*s < 1.0)) return refuse(errc::out_of_range, "the sparsity must lie in [0, 1): it is the fraction removed");
  return pattern_spec{pattern, sparsity(*s)};
}

/// The pattern as parse_pattern reads it, without the sparsity: "unstructured", "2:4", "2:4x16", "block4x1". (N:M of
/// units wider than an input, which parse_pattern does not know, is written "2:4x1x2".)
[[nodiscard]] inline std::string to_string(any_pattern const& p) {
  std::string const rows = "x" + std::to_string(p.unit().rows);
  if (p.of() > 0) {
    std::string const text = std::to_string(p.keep()) + ":" + std::to_string(p.of());
    if (p.unit().cols > 1) return text + rows + "x" + std::to_string(p.unit().cols);
    return p.unit().rows > 1 ? text + rows : text;
  }
  if (p.unit() == extents{1, 1}) return "unstructured";
  return "block" + std::to_string(p.unit().rows) + "x" + std::to_string(p.unit().cols);
}

}  // namespace pare::inline PARE_ABI
