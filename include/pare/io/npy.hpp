// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy, versions 1 to 3: "\x93NUMPY", version, header length, a Python dict with the keys descr,
// fortran_order and shape, then the data. Only plain little-endian numbers; objects (pickle) are refused.
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/io/bytes.hpp>
#include <pare/io/dtype.hpp>
#include <pare/io/file.hpp>
#include <pare/io/safetensors.hpp>
#include <pare/io/utf8.hpp>

#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pare::inline PARE_ABI {

/// An array as it is in the file.
struct npy_array {
  dtype_code dtype{};
  bool fortran_order = false;
  std::vector<index_t> shape;
  std::vector<std::byte> bytes;  // element_count(shape) little-endian elements

  [[nodiscard]] index_t size() const noexcept { return static_cast<index_t>(bytes.size() / size_in_bytes(dtype)); }
};

namespace detail {

/// Reads the dict literal of an npy header; the cursor stands on the next character.
class npy_header {
 public:
  explicit npy_header(std::string_view text) : rest_(text) {}

  [[nodiscard]] result<void> read(npy_array& out) {
    if (!take('{')) return fail("expected a dict");
    std::array<bool, 3> seen{};
    while (!take('}')) {
      PARE_TRY(std::string_view const key, string());
      std::size_t const which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : 3;
      if (which == 3 || std::exchange(seen[which], true)) return fail("unexpected key " + in_quotes(key));
      if (!take(':')) return fail("expected ':' after " + in_quotes(key));
      if (which == 0) PARE_TRY_VOID(descr(out.dtype));
      if (which == 1) {
        out.fortran_order = word("True");
        if (!out.fortran_order && !word("False")) return fail("fortran_order must be True or False");
      }
      if (which == 2) PARE_TRY_VOID(shape(out.shape));
      if (!take(',')) {
        if (!take('}')) return fail("expected ',' or '}'");
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) return fail("more text after the dict");
    if (!seen[0] || !seen[1] || !seen[2]) return fail("needs descr, fortran_order and shape");
    return {};
  }

 private:
  [[nodiscard]] static error fail(std::string what) { return {errc::malformed, "npy header", std::move(what)}; }
  void skip_space() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n' || rest_.front() == '\t'))
      rest_.remove_prefix(1);
  }
  bool take(char c) {
    skip_space();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool word(std::string_view w) {
    skip_space();
    if (!rest_.starts_with(w)) return false;
    rest_.remove_prefix(w.size());
    return true;
  }
  [[nodiscard]] result<std::string_view> string() {
    skip_space();
    char const quote = rest_.empty() ? '\0' : rest_.front();
    std::size_t const end = quote == '\'' || quote == '"' ? rest_.find(quote, 1) : rest_.npos;
    if (end == rest_.npos) return fail("expected a string");
    std::string_view const out = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return out;
  }
  [[nodiscard]] result<void> descr(dtype_code& out) {
    skip_space();
    if (rest_.starts_with('[')) return error{errc::unsupported, "npy header", "structured arrays are not read"};
    PARE_TRY(std::string_view const text, string());
    struct row {
      std::string_view descr;
      dtype_code code;
    };
    constexpr row rows[] = {{"<f4", dtype_code::f32},     {"<f8", dtype_code::f64}, {"<f2", dtype_code::f16},
                            {"|b1", dtype_code::boolean}, {"|u1", dtype_code::u8},  {"|i1", dtype_code::i8},
                            {"<u1", dtype_code::u8},      {"<i1", dtype_code::i8},  {"<i2", dtype_code::i16},
                            {"<u2", dtype_code::u16},     {"<i4", dtype_code::i32}, {"<u4", dtype_code::u32},
                            {"<i8", dtype_code::i64},     {"<u8", dtype_code::u64}};
    for (row const& r : rows)
      if (r.descr == text) return out = r.code, result<void>();
    return error{errc::unsupported, "npy header",
                 "type " + in_quotes(text) + " is not read; little-endian f2 f4 f8 i1..i8 u1..u8 b1 are"};
  }
  [[nodiscard]] result<void> shape(std::vector<index_t>& out) {
    if (!take('(')) return fail("shape must be a tuple");
    while (!take(')')) {
      skip_space();
      index_t value = 0;
      auto const [end, code] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
      if (code != std::errc() || value < 0) return fail("shape must hold integers from 0 to 2^63 - 1");
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      out.push_back(value);
      if (!take(',')) {
        if (!take(')')) return fail("expected ',' or ')' in shape");
        break;
      }
    }
    return {};
  }

  std::string_view rest_;
};

/// Calls f(i, p) for the elements in C order: p are the bytes of element number i.
template <class F>
void for_each_npy_element(npy_array const& a, F&& f) {
  std::size_t const step = size_in_bytes(a.dtype);
  auto const count = static_cast<std::size_t>(a.size());
  if (!a.fortran_order || a.shape.size() < 2) {
    for (std::size_t i = 0; i < count; ++i) f(i, a.bytes.data() + i * step);
    return;
  }
  std::vector<index_t> at(a.shape.size(), 0);  // the file's first axis varies first, ours last
  for (std::size_t in_file = 0; in_file < count; ++in_file) {
    index_t i = 0;
    for (std::size_t d = 0; d < at.size(); ++d) i = i * a.shape[d] + at[d];
    f(static_cast<std::size_t>(i), a.bytes.data() + in_file * step);
    for (std::size_t d = 0; d < at.size() && ++at[d] == a.shape[d]; ++d) at[d] = 0;
  }
}

/// The integer at p; nothing for a floating-point type or a value above 2^63 - 1.
[[nodiscard]] inline std::optional<std::int64_t> npy_integer(dtype_code dtype, std::byte const* p) noexcept {
  switch (dtype) {
    case dtype_code::boolean:
    case dtype_code::u8:
      return static_cast<std::uint8_t>(*p);
    case dtype_code::i8:
      return static_cast<std::int8_t>(*p);
    case dtype_code::i16:
      return static_cast<std::int16_t>(load_little<std::uint16_t>(p));
    case dtype_code::u16:
      return load_little<std::uint16_t>(p);
    case dtype_code::i32:
      return static_cast<std::int32_t>(load_little<std::uint32_t>(p));
    case dtype_code::u32:
      return load_little<std::uint32_t>(p);
    case dtype_code::i64:
      return static_cast<std::int64_t>(load_little<std::uint64_t>(p));
    case dtype_code::u64: {
      auto const v = load_little<std::uint64_t>(p);
      if (v > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<std::int64_t>(v);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace detail

/// The array in the bytes of a .npy file. Errors: errc::malformed, errc::unsupported for a type that is not read.
[[nodiscard]] inline result<npy_array> parse_npy(std::vector<std::byte> bytes) {
  auto const malformed = [](std::string what) { return error{errc::malformed, "", std::move(what)}; };
  std::string_view const text = as_text(bytes);
  if (!text.starts_with("\x93NUMPY") || bytes.size() < 10)
    return malformed("is not a .npy file: no NUMPY at its start");
  auto const major = static_cast<unsigned>(bytes[6]);
  if (major < 1 || major > 3)
    return error{errc::unsupported, "", "npy version " + std::to_string(major) + " is not read; 1, 2 and 3 are"};
  std::size_t const start = major == 1 ? 10 : 12;
  if (bytes.size() < start) return malformed("ends inside the npy header");
  std::size_t const length =
      major == 1 ? load_little<std::uint16_t>(bytes.data() + 8) : load_little<std::uint32_t>(bytes.data() + 8);
  if (length > bytes.size() - start)
    return malformed("claims a header of " + std::to_string(length) + " bytes, but only " +
                     std::to_string(bytes.size() - start) + " follow");
  npy_array out;
  PARE_TRY_VOID(detail::npy_header(text.substr(start, length)).read(out));
  std::uint64_t count = 0;
  std::uint64_t needed = 0;
  if (!element_count(out.shape, count) || !checked_multiply(count, size_in_bytes(out.dtype), needed))
    return malformed("shape " + to_string(out.shape) + " overflows 64 bits");
  std::size_t const found = bytes.size() - start - length;
  if (needed != found)
    return malformed("shape " + to_string(out.shape) + " of " + std::string(name(out.dtype)) + " needs " +
                     std::to_string(needed) + " bytes of data, found " + std::to_string(found));
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(start + length));
  out.bytes = std::move(bytes);
  return out;
}

[[nodiscard]] inline result<npy_array> read_npy(std::filesystem::path const& path) {
  PARE_TRY(auto bytes, read_file(path));
  auto out = parse_npy(std::move(bytes));
  if (!out) return in(path.string(), std::move(out.error()));
  return out;
}

/// Any array of numbers as a float matrix: the first dimension becomes rows, the others columns; one dimension
/// becomes one column. NaN and Inf are kept.
[[nodiscard]] inline matrix<float> to_matrix(npy_array const& a) {
  index_t const rows = a.shape.empty() ? 1 : a.shape[0];
  matrix<float> out(rows, rows == 0 ? 0 : a.size() / rows);
  detail::for_each_npy_element(a, [&](std::size_t i, std::byte const* p) {
    if (is_weight_dtype(a.dtype)) {
      to_floats(a.dtype, {p, size_in_bytes(a.dtype)}, {out.data() + i, 1});
    } else {
      auto const v = detail::npy_integer(a.dtype, p);  // absent: a u64 of 2^63 and more
      out.data()[i] = v ? static_cast<float>(*v) : static_cast<float>(load_little<std::uint64_t>(p));
    }
  });
  return out;
}

/// An array of integers, flattened in C order. Errors: errc::mismatch for a floating-point array, errc::out_of_range.
[[nodiscard]] inline result<std::vector<int>> to_ints(npy_array const& a) {
  if (is_weight_dtype(a.dtype))
    return error{errc::mismatch, "", "expected an array of integers, found " + std::string(name(a.dtype))};
  std::vector<int> out(static_cast<std::size_t>(a.size()));
  std::optional<std::size_t> bad;
  detail::for_each_npy_element(a, [&](std::size_t i, std::byte const* p) {
    auto const v = detail::npy_integer(a.dtype, p);
    bool const fits = v && *v >= INT32_MIN && *v <= INT32_MAX;
    if (!fits && !bad) bad = i;
    out[i] = fits ? static_cast<int>(*v) : 0;
  });
  if (bad) return error{errc::out_of_range, "", "element " + std::to_string(*bad) + " does not fit 32 bits"};
  return out;
}

/// A .npy file as a float matrix (see to_matrix), or as integers (see to_ints).
[[nodiscard]] inline result<matrix<float>> read_npy_matrix(std::filesystem::path const& path) {
  PARE_TRY(auto const array, read_npy(path));
  return to_matrix(array);
}
[[nodiscard]] inline result<std::vector<int>> read_npy_ints(std::filesystem::path const& path) {
  PARE_TRY(auto const array, read_npy(path));
  auto out = to_ints(array);
  if (!out) return in(path.string(), std::move(out.error()));
  return out;
}

/// Writes a matrix as version 1, '<f4', C order, data aligned to 64 bytes.
[[nodiscard]] inline result<void> write_npy(std::filesystem::path const& path, matrix_span<float const> m) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(m.rows) + ", " +
                       std::to_string(m.cols) + "), }";
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  header += '\n';
  std::string start = "\x93NUMPY";
  start += '\x01';
  start += '\0';
  start += static_cast<char>(header.size() & 0xff);
  start += static_cast<char>(header.size() >> 8);
  std::vector<std::byte> data(static_cast<std::size_t>(m.shape().size()) * 4);
  std::byte* p = data.data();
  for (index_t i = 0; i < m.rows; ++i)
    for (index_t j = 0; j < m.cols; ++j, p += 4) store_little(std::bit_cast<std::uint32_t>(m(i, j)), p);
  PARE_TRY(auto file, atomic_file::open(path));
  PARE_TRY_VOID(file.append(as_bytes(start)));
  PARE_TRY_VOID(file.append(as_bytes(header)));
  PARE_TRY_VOID(file.append(data));
  return file.commit();
}

}  // namespace pare::inline PARE_ABI
