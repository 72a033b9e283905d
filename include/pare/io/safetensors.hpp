// SPDX-License-Identifier: Apache-2.0
// safetensors: 8 bytes header length (little-endian), a JSON header {name: {dtype, shape, data_offsets}}, the data.
// https://huggingface.co/docs/safetensors. Files are hostile: every number is checked before it is used, and
// memory stays within a small multiple of the file's size.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/bytes.hpp>
#include <pare/io/dtype.hpp>
#include <pare/io/file.hpp>
#include <pare/io/json.hpp>
#include <pare/io/utf8.hpp>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pare::inline PARE_ABI {

/// One tensor of a file.
struct tensor_info {
  std::string name;
  dtype_code dtype{};
  std::vector<index_t> shape;  // empty: a scalar
  std::size_t begin = 0;       // its bytes are [begin, end) of the data section
  std::size_t end = 0;
};

/// One tensor to be written; the bytes are little-endian, row-major.
struct tensor_source {
  std::string name;
  dtype_code dtype{};
  std::vector<index_t> shape;
  std::span<std::byte const> bytes;
};

/// A shape as "[2, 3]".
[[nodiscard]] inline std::string to_string(std::span<index_t const> shape) {
  std::string out = "[";
  for (index_t d : shape) {
    if (out.size() > 1) out += ", ";
    if (out.size() > 120) return out + "...]";
    out += std::to_string(d);
  }
  return out + "]";
}

/// Product of the dimensions, 1 for a scalar; false where it does not fit 63 bits. A dimension of 0 after an
/// overflow does not save the product, as in the reference reader.
[[nodiscard]] inline bool element_count(std::span<index_t const> shape, std::uint64_t& count) noexcept {
  count = 1;
  for (index_t d : shape)
    if (d < 0 || !checked_multiply(count, static_cast<std::uint64_t>(d), count)) return false;
  return count <= static_cast<std::uint64_t>(INT64_MAX);
}

namespace detail {

inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;
// In a header, a dimension or a metadata key takes a few bytes, in memory many more.
inline constexpr std::size_t safetensors_rank_limit = 64;  // NumPy's
inline constexpr std::size_t safetensors_metadata_limit = 100'000;

[[nodiscard]] inline std::string tensor_place(std::string_view name) { return "tensor " + in_quotes(name); }

/// Bytes that a tensor takes, or why that cannot be said.
[[nodiscard]] inline result<std::uint64_t> tensor_bytes(tensor_info const& t) {
  std::uint64_t count = 0;
  std::uint64_t bit_count = 0;
  if (!element_count(t.shape, count) || !checked_multiply(count, static_cast<std::uint64_t>(bits(t.dtype)), bit_count))
    return error{errc::malformed, tensor_place(t.name), "shape " + to_string(t.shape) + " overflows 64 bits"};
  if (bit_count % 8 != 0)
    return error{errc::malformed, tensor_place(t.name),
                 "shape " + to_string(t.shape) + " of " + std::string(name(t.dtype)) + " does not fill whole bytes"};
  return bit_count / 8;
}

/// Reads the header straight into tensor_infos, without a document tree: its size is the file's choice.
class safetensors_events : public json_events {
 public:
  std::vector<tensor_info> tensors;
  std::map<std::string, std::string> metadata;

  bool null() { return scalar("null"); }
  bool boolean(bool) { return scalar("a boolean"); }
  bool number_integer(number_integer_t) { return scalar("a negative number"); }
  bool number_float(number_float_t, string_t const& text) { return scalar("the number " + in_quotes(text)); }
  bool number_unsigned(number_unsigned_t v) {
    if (in_ != place::shape && in_ != place::offsets) return scalar("a number");
    if (v > static_cast<std::uint64_t>(INT64_MAX)) return scalar("the number " + std::to_string(v));
    if (in_ == place::shape) {
      if (tensors.back().shape.size() == safetensors_rank_limit)
        return refuse_here("shape has more than " + std::to_string(safetensors_rank_limit) + " dimensions");
      return tensors.back().shape.push_back(static_cast<index_t>(v)), true;
    }
    if (offsets_ == 2) return refuse_here("data_offsets must hold two numbers, found more");
    (offsets_++ == 0 ? tensors.back().begin : tensors.back().end) = static_cast<std::size_t>(v);
    return true;
  }
  bool string(string_t& v) {
    if (in_ == place::metadata) {
      if (metadata.size() == safetensors_metadata_limit)
        return refuse("__metadata__ has more than " + std::to_string(safetensors_metadata_limit) + " keys");
      auto const [at, fresh] = metadata.emplace(std::move(key_), std::move(v));
      return fresh || refuse("__metadata__ has the key " + in_quotes(at->first) + " twice");
    }
    if (in_ == place::entry && field_ == field::dtype) {
      auto const code = find_dtype(v);
      if (!code) return refuse_here("unknown dtype " + in_quotes(v));
      tensors.back().dtype = *code;
      return true;
    }
    return scalar("the string " + in_quotes(v));
  }
  bool key(string_t& k) {
    if (in_ == place::metadata) {
      key_ = std::move(k);
    } else if (in_ == place::entry) {
      field_ = k == "dtype"          ? field::dtype
               : k == "shape"        ? field::shape
               : k == "data_offsets" ? field::offsets
                                     : field::unknown;
      if (field_ == field::unknown) return true;
      unsigned const bit = 1u << static_cast<unsigned>(field_);
      if ((seen_ & bit) != 0) return refuse_here("has the key " + in_quotes(k) + " twice");
      seen_ |= bit;
    } else if (in_ == place::top) {
      is_metadata_ = k == "__metadata__";
      if (is_metadata_) {
        if (std::exchange(has_metadata_, true)) return refuse("has the key \"__metadata__\" twice");
      } else {
        tensors.push_back({std::move(k), {}, {}, 0, 0});
      }
    }
    return true;
  }
  bool start_object(std::size_t) {
    switch (in_) {
      case place::start:
        in_ = place::top;
        return true;
      case place::top:
        in_ = is_metadata_ ? place::metadata : place::entry;
        seen_ = 0;
        offsets_ = 0;
        return true;
      default:
        return nested("an object");
    }
  }
  bool end_object() {
    if (in_ == place::unknown) return leave_unknown();
    if (in_ == place::entry) {
      for (auto const& [f, text] : {std::pair{field::dtype, "dtype"}, std::pair{field::shape, "shape"},
                                    std::pair{field::offsets, "data_offsets"}})
        if ((seen_ & (1u << static_cast<unsigned>(f))) == 0) return refuse_here(std::string("has no ") + text);
    }
    in_ = place::top;
    return true;
  }
  bool start_array(std::size_t) {
    if (in_ == place::entry && field_ == field::shape) return in_ = place::shape, true;
    if (in_ == place::entry && field_ == field::offsets) return in_ = place::offsets, true;
    return nested("a list");
  }
  bool end_array() {
    if (in_ == place::unknown) return leave_unknown();
    if (in_ == place::offsets && offsets_ != 2)
      return refuse_here("data_offsets must hold two numbers, found " + std::to_string(offsets_));
    in_ = place::entry;
    return true;
  }

 private:
  enum class place { start, top, metadata, entry, shape, offsets, unknown };
  enum class field { dtype, shape, offsets, unknown };

  bool refuse_here(std::string const& sentence) { return refuse(tensor_place(tensors.back().name) + ": " + sentence); }

  /// A value that is not allowed where it stands, unless it belongs to a key that is not ours.
  bool scalar(std::string const& found) {
    switch (in_) {
      case place::start:
        return refuse("the header must be a JSON object, found " + found);
      case place::top:
        return is_metadata_ ? refuse("__metadata__ must be an object, found " + found)
                            : refuse_here("the entry must be an object, found " + found);
      case place::metadata:
        return refuse("__metadata__ key " + in_quotes(key_) + " must be a string, found " + found);
      case place::shape:
        return refuse_here("shape must hold integers from 0 to 2^63 - 1, found " + found);
      case place::offsets:
        return refuse_here("data_offsets must hold integers from 0 to 2^63 - 1, found " + found);
      case place::unknown:
        return true;
      case place::entry:
        break;
    }
    switch (field_) {
      case field::dtype:
        return refuse_here("dtype must be a string, found " + found);
      case field::shape:
        return refuse_here("shape must be a list, found " + found);
      case field::offsets:
        return refuse_here("data_offsets must be a list, found " + found);
      case field::unknown:
        return true;
    }
    return true;
  }
  bool nested(char const* found) {
    if (in_ == place::entry && field_ == field::unknown) {
      in_ = place::unknown;
      depth_ = 1;
      return true;
    }
    if (in_ != place::unknown) return scalar(found);
    return ++depth_ < json_depth_limit || refuse_here("nests deeper than " + std::to_string(json_depth_limit));
  }
  bool leave_unknown() {
    if (--depth_ == 0) in_ = place::entry;
    return true;
  }

  place in_ = place::start;
  field field_ = field::unknown;
  unsigned seen_ = 0;      // bit per field of the entry
  int offsets_ = 0;        // numbers seen in data_offsets
  std::size_t depth_ = 0;  // of containers below an unknown key
  bool is_metadata_ = false;
  bool has_metadata_ = false;
  std::string key_;  // of the metadata
};

/// The rules that need all entries: names differ, the ranges tile the data, each has its shape's size.
/// Leaves the tensors in data order. O(n log n).
[[nodiscard]] inline result<void> check_tensors(std::vector<tensor_info>& tensors, std::uint64_t data_size) {
  std::sort(tensors.begin(), tensors.end(), [](tensor_info const& a, tensor_info const& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
  });
  std::uint64_t expected_begin = 0;
  for (tensor_info const& t : tensors) {
    auto const fail = [&](std::string sentence) {
      return error{errc::malformed, tensor_place(t.name), std::move(sentence)};
    };
    std::string const range = "data_offsets [" + std::to_string(t.begin) + ", " + std::to_string(t.end) + "]";
    if (t.begin > t.end) return fail(range + " end before they begin");
    if (t.begin != expected_begin)
      return fail(range + (t.begin < expected_begin ? " overlap" : " leave a hole after") +
                  " the tensor before: they must begin at " + std::to_string(expected_begin));
    if (t.end > data_size) return fail(range + " go past the data, which has " + std::to_string(data_size) + " bytes");
    PARE_TRY(std::uint64_t const needed, tensor_bytes(t));
    if (needed != t.end - t.begin)
      return fail(range + " hold " + std::to_string(t.end - t.begin) + " bytes, but shape " + to_string(t.shape) +
                  " of " + std::string(name(t.dtype)) + " needs " + std::to_string(needed));
    expected_begin = t.end;
  }
  if (expected_begin != data_size)
    return error{errc::malformed, "",
                 "the tensors end at byte " + std::to_string(expected_begin) + " of the data, which has " +
                     std::to_string(data_size) + " bytes"};
  return {};
}

}  // namespace detail

/// A safetensors file in memory. Reading is strict: the format's rules, nothing more lenient.
class safetensors {
 public:
  safetensors() = default;

  /// Reads a file; nothing of it but the header is read before the header is found right.
  /// Errors: errc::io, errc::malformed naming the tensor and the rule.
  [[nodiscard]] static result<safetensors> open(std::filesystem::path const& path) {
    PARE_TRY(auto file, input_file::open(path));
    auto opened = read(file);
    if (!opened && opened.error().code != errc::io) return in(path.string(), std::move(opened.error()));
    return opened;
  }

  /// The same for bytes in memory, which it keeps.
  [[nodiscard]] static result<safetensors> parse(std::vector<std::byte> bytes) {
    PARE_TRY(std::uint64_t const header, header_size(bytes, bytes.size()));
    safetensors out;
    auto const text = as_text(std::span(bytes).subspan(8, static_cast<std::size_t>(header)));
    PARE_TRY_VOID(out.read_header(text, bytes.size() - 8 - header));
    out.data_begin_ = static_cast<std::size_t>(8 + header);
    out.storage_ = std::move(bytes);
    return out;
  }

  /// The tensors in the order of their data.
  [[nodiscard]] std::span<tensor_info const> tensors() const noexcept { return tensors_; }

  /// The tensor of a name, or nullptr. O(log n).
  [[nodiscard]] tensor_info const* find(std::string_view name) const noexcept {
    auto const at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                     [&](std::size_t i, std::string_view n) { return tensors_[i].name < n; });
    return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
  }

  /// A tensor's bytes: little-endian, row-major, perhaps misaligned. Pre: `tensor` is one of tensors().
  [[nodiscard]] std::span<std::byte const> bytes(tensor_info const& tensor) const noexcept {
    return std::span(storage_).subspan(data_begin_ + tensor.begin, tensor.end - tensor.begin);
  }

  /// The strings under "__metadata__".
  [[nodiscard]] std::map<std::string, std::string> const& metadata() const noexcept { return metadata_; }

 private:
  /// The header's length, checked against the size of the whole file. `start` holds at least its first 8 bytes.
  [[nodiscard]] static result<std::uint64_t> header_size(std::span<std::byte const> start, std::uint64_t file_size) {
    if (file_size < 8)
      return error{errc::malformed, "",
                   "has " + std::to_string(file_size) + " bytes; a safetensors file starts with 8 bytes of length"};
    auto const size = load_little<std::uint64_t>(start.data());
    if (size > detail::safetensors_header_limit)
      return error{errc::malformed, "",
                   "claims a header of " + std::to_string(size) + " bytes; the limit is 100000000"};
    if (size > file_size - 8)
      return error{errc::malformed, "",
                   "claims a header of " + std::to_string(size) + " bytes, but only " + std::to_string(file_size - 8) +
                       " follow"};
    return size;
  }

  [[nodiscard]] static result<safetensors> read(input_file& file) {
    PARE_TRY(auto const start, file.read(std::min<std::uint64_t>(file.size(), 8)));
    PARE_TRY(std::uint64_t const header, header_size(start, file.size()));
    safetensors out;
    {
      PARE_TRY(auto const text, file.read(header));
      PARE_TRY_VOID(out.read_header(as_text(text), file.size() - 8 - header));
    }
    PARE_TRY(out.storage_, file.read(file.size() - 8 - header));
    return out;
  }

  [[nodiscard]] result<void> read_header(std::string_view text, std::uint64_t data_size) {
    detail::safetensors_events events;
    PARE_TRY_VOID(detail::walk_json(text, "header", events));
    tensors_ = std::move(events.tensors);
    metadata_ = std::move(events.metadata);
    by_name_.resize(tensors_.size());
    std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
    auto const name_of = [&](std::size_t i) -> std::string const& { return tensors_[i].name; };
    auto const by_name = [&](std::size_t a, std::size_t b) { return name_of(a) < name_of(b); };
    std::sort(by_name_.begin(), by_name_.end(), by_name);
    auto const twin = std::adjacent_find(by_name_.begin(), by_name_.end(),
                                         [&](std::size_t a, std::size_t b) { return name_of(a) == name_of(b); });
    if (twin != by_name_.end())
      return error{errc::malformed, detail::tensor_place(name_of(*twin)), "the name occurs twice"};
    PARE_TRY_VOID(detail::check_tensors(tensors_, data_size));
    std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});  // check_tensors has reordered them
    std::sort(by_name_.begin(), by_name_.end(), by_name);
    return {};
  }

  std::vector<std::byte> storage_;
  std::size_t data_begin_ = 0;
  std::vector<tensor_info> tensors_;
  std::vector<std::size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

namespace detail {

[[nodiscard]] inline bool is_utf8_without_nul(std::string_view text) noexcept {
  while (!text.empty()) {
    std::size_t const n = text.front() == '\0' ? 0 : code_point_length(text);
    if (n == 0) return false;
    text.remove_prefix(n);
  }
  return true;
}

/// `text` as a JSON string. Pre: UTF-8.
[[nodiscard]] inline std::string json_string(std::string_view text) { return nlohmann::json(std::string(text)).dump(); }

}  // namespace detail

/// Writes a file that every reader accepts: tensors sorted by dtype (enum order, descending) and then by name,
/// header padded with spaces to a multiple of 8. The same tensors and metadata give the same bytes, in whatever
/// order they come. The file appears only when it is complete.
/// Errors: errc::io; errc::malformed for a name that is not UTF-8, holds NUL, is "__metadata__" or occurs twice, or
/// bytes that do not have the shape's size.
[[nodiscard]] inline result<void> write_safetensors(std::filesystem::path const& path,
                                                    std::span<tensor_source const> tensors,
                                                    std::map<std::string, std::string> const& metadata = {}) {
  std::vector<tensor_source const*> order;
  for (tensor_source const& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](tensor_source const* a, tensor_source const* b) {
    return a->dtype != b->dtype ? a->dtype > b->dtype : a->name < b->name;
  });

  std::vector<std::string_view> names;
  for (tensor_source const& t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  if (auto const twin = std::adjacent_find(names.begin(), names.end()); twin != names.end())
    return error{errc::malformed, detail::tensor_place(*twin), "the name occurs twice"};

  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (auto const& [key, value] : metadata) {
      if (!detail::is_utf8_without_nul(key) || !detail::is_utf8_without_nul(value))
        return error{errc::malformed, "__metadata__ key " + in_quotes(key), "key and value must be UTF-8 without NUL"};
      if (header.back() != '{') header += ',';
      header += detail::json_string(key) + ":" + detail::json_string(value);
    }
    header += '}';
  }
  std::uint64_t offset = 0;
  for (tensor_source const* t : order) {
    auto const place = detail::tensor_place(t->name);
    if (!detail::is_utf8_without_nul(t->name) || t->name == "__metadata__")
      return error{errc::malformed, place, "a tensor's name must be UTF-8 without NUL, and not \"__metadata__\""};
    PARE_TRY(std::uint64_t const needed, detail::tensor_bytes({t->name, t->dtype, t->shape, 0, 0}));
    if (needed != t->bytes.size())
      return error{errc::malformed, place,
                   "shape " + to_string(t->shape) + " of " + std::string(name(t->dtype)) + " needs " +
                       std::to_string(needed) + " bytes, found " + std::to_string(t->bytes.size())};
    if (header.size() > 1) header += ',';
    header += detail::json_string(t->name) + ":{\"dtype\":\"" + std::string(name(t->dtype)) + "\",\"shape\":[";
    for (std::size_t i = 0; i < t->shape.size(); ++i) header += (i == 0 ? "" : ",") + std::to_string(t->shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + needed) + "]}";
    offset += needed;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > detail::safetensors_header_limit)
    return error{errc::unsupported, path.string(), "the header would exceed the format's limit of 100000000 bytes"};

  std::byte length[8];
  store_little(std::uint64_t{header.size()}, length);
  PARE_TRY(auto file, atomic_file::open(path));
  PARE_TRY_VOID(file.append(length));
  PARE_TRY_VOID(file.append(as_bytes(header)));
  for (tensor_source const* t : order) PARE_TRY_VOID(file.append(t->bytes));
  return file.commit();
}

}  // namespace pare::inline PARE_ABI
