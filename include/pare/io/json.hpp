// SPDX-License-Identifier: Apache-2.0
// JSON from files: the only header of pare that includes nlohmann-json. Parsing never throws, bounds the depth,
// names a duplicate key, and the getters say which key is wrong, what was expected and what was found.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/utf8.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace pare::inline PARE_ABI {

/// Objects and arrays inside each other that are accepted.
inline constexpr std::size_t json_depth_limit = 64;

namespace detail {

/// The part of a SAX handler that all of ours share: what went wrong first.
struct json_events {
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  std::string problem;

  bool refuse(std::string sentence) {
    if (problem.empty()) problem = std::move(sentence);
    return false;
  }
  bool binary(binary_t&) { return refuse("holds a binary value"); }
  bool parse_error(std::size_t position, std::string const& last, nlohmann::json::exception const&) {
    return refuse("is not valid JSON at byte " + std::to_string(position) + ", near " + in_quotes(last));
  }
};

/// Feeds `text` to a handler derived from json_events; its problem is the error.
template <class Events>
[[nodiscard]] result<void> walk_json(std::string_view text, std::string const& place, Events& events) {
  // the lexer takes a NUL byte for the end of its input, and skips a byte order mark: neither is JSON
  if (auto const nul = text.find('\0'); nul != text.npos)
    return error{errc::malformed, place, "is not valid JSON at byte " + std::to_string(nul) + ": a NUL byte"};
  if (text.starts_with("\xef\xbb\xbf"))
    return error{errc::malformed, place, "is not valid JSON: it starts with a byte order mark"};
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &events))
    return error{errc::malformed, place, events.problem.empty() ? "is not valid JSON" : std::move(events.problem)};
  return {};
}

/// Builds the document tree.
class json_builder : public json_events {
 public:
  nlohmann::json root;

  bool null() { return add(nullptr); }
  bool boolean(bool v) { return add(v); }
  bool number_integer(number_integer_t v) { return add(v); }
  bool number_unsigned(number_unsigned_t v) { return add(v); }
  bool number_float(number_float_t v, string_t const&) { return add(v); }
  bool string(string_t& v) { return add(std::move(v)); }
  bool key(string_t& v) {
    auto const [at, fresh] = open_.back()->get_ref<nlohmann::json::object_t&>().emplace(v, nullptr);
    if (!fresh) return refuse("has the key " + in_quotes(v) + " twice in one object");
    slot_ = &at->second;
    return true;
  }
  bool start_object(std::size_t) { return start(nlohmann::json::object()); }
  bool start_array(std::size_t) { return start(nlohmann::json::array()); }
  bool end_object() { return open_.pop_back(), true; }
  bool end_array() { return open_.pop_back(), true; }

 private:
  nlohmann::json* place() {
    if (open_.empty()) return &root;
    if (open_.back()->is_object()) return slot_;
    auto& array = open_.back()->get_ref<nlohmann::json::array_t&>();
    return &array.emplace_back();
  }
  template <class V>
  bool add(V&& v) {
    *place() = std::forward<V>(v);
    return true;
  }
  bool start(nlohmann::json container) {
    if (open_.size() == json_depth_limit)
      return refuse("nests deeper than " + std::to_string(json_depth_limit) + " levels");
    nlohmann::json* const at = place();
    *at = std::move(container);
    open_.push_back(at);  // stays valid: an array does not grow while one of its elements is open
    return true;
  }

  std::vector<nlohmann::json*> open_;
  nlohmann::json* slot_ = nullptr;
};

[[nodiscard]] inline std::string describe(nlohmann::json const& v) {
  if (v.is_string()) return in_quotes(v.get_ref<std::string const&>());
  if (v.is_object()) return "an object";
  if (v.is_array()) return "an array of " + std::to_string(v.size());
  return v.dump();
}

/// The value of a key, or nullptr where it is absent or null (both mean "not set" in model configs).
[[nodiscard]] inline nlohmann::json const* find_set(nlohmann::json const& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  auto const at = object.find(key);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

[[nodiscard]] inline error wrong_key(std::string_view key, std::string const& expected, nlohmann::json const* found) {
  std::string const place = "key " + in_quotes(key);
  if (found == nullptr) return {errc::missing, place, "is not set; expected " + expected};
  return {errc::malformed, place, "expected " + expected + ", found " + describe(*found)};
}

}  // namespace detail

/// The document in `text`; `place` (a file's name) goes into the error. Whole text, depth at most
/// json_depth_limit, no duplicate keys. Memory is bounded by a constant times the text.
[[nodiscard]] inline result<nlohmann::json> parse_json(std::string_view text, std::string const& place) {
  detail::json_builder builder;
  PARE_TRY_VOID(detail::walk_json(text, place, builder));
  return std::move(builder.root);
}

// Typed getters. `fallback` is given back where the key is absent or null; without one that is errc::missing.
// A value of the wrong type or range is errc::malformed and names the key, never silently replaced.

/// An integer in [lowest, highest].
[[nodiscard]] inline result<index_t> get_integer(nlohmann::json const& object, std::string_view key, index_t lowest,
                                                 index_t highest, std::optional<index_t> fallback = std::nullopt) {
  nlohmann::json const* v = detail::find_set(object, key);
  if (v == nullptr && fallback) return *fallback;
  if (v != nullptr && v->is_number_integer()) {
    bool const fits = !v->is_number_unsigned() || v->get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
    auto const n = fits ? static_cast<index_t>(v->get<std::int64_t>()) : index_t{0};
    if (fits && n >= lowest && n <= highest) return n;
  }
  return detail::wrong_key(key, "an integer from " + std::to_string(lowest) + " to " + std::to_string(highest), v);
}

/// An integer in [1, 2^31 - 1]: what sizes in configs are, so that a product of two cannot overflow.
[[nodiscard]] inline result<index_t> get_positive(nlohmann::json const& object, std::string_view key,
                                                  std::optional<index_t> fallback = std::nullopt) {
  return get_integer(object, key, 1, INT32_MAX, fallback);
}

/// A finite number.
[[nodiscard]] inline result<double> get_number(nlohmann::json const& object, std::string_view key,
                                               std::optional<double> fallback = std::nullopt) {
  nlohmann::json const* v = detail::find_set(object, key);
  if (v == nullptr && fallback) return *fallback;
  if (v != nullptr && v->is_number()) return v->get<double>();  // JSON has no infinities
  return detail::wrong_key(key, "a number", v);
}

[[nodiscard]] inline result<bool> get_bool(nlohmann::json const& object, std::string_view key,
                                           std::optional<bool> fallback = std::nullopt) {
  nlohmann::json const* v = detail::find_set(object, key);
  if (v == nullptr && fallback) return *fallback;
  if (v != nullptr && v->is_boolean()) return v->get<bool>();
  return detail::wrong_key(key, "true or false", v);
}

[[nodiscard]] inline result<std::string> get_string(nlohmann::json const& object, std::string_view key,
                                                    std::optional<std::string> fallback = std::nullopt) {
  nlohmann::json const* v = detail::find_set(object, key);
  if (v == nullptr && fallback) return *std::move(fallback);
  if (v != nullptr && v->is_string()) return v->get<std::string>();
  return detail::wrong_key(key, "a string", v);
}

/// An array of integers in [1, 2^31 - 1].
[[nodiscard]] inline result<std::vector<index_t>> get_positives(nlohmann::json const& object, std::string_view key) {
  nlohmann::json const* v = detail::find_set(object, key);
  if (v == nullptr || !v->is_array()) return detail::wrong_key(key, "an array of positive integers", v);
  std::vector<index_t> out;
  for (nlohmann::json const& item : *v) {
    bool const good = item.is_number_unsigned() && item.get<std::uint64_t>() >= 1 &&
                      item.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT32_MAX);
    if (!good) return detail::wrong_key(key, "an array of integers from 1 to 2147483647", &item);
    out.push_back(static_cast<index_t>(item.get<std::uint64_t>()));
  }
  return out;
}

/// An array of strings.
[[nodiscard]] inline result<std::vector<std::string>> get_strings(nlohmann::json const& object, std::string_view key) {
  nlohmann::json const* v = detail::find_set(object, key);
  if (v == nullptr || !v->is_array()) return detail::wrong_key(key, "an array of strings", v);
  std::vector<std::string> out;
  for (nlohmann::json const& item : *v) {
    if (!item.is_string()) return detail::wrong_key(key, "an array of strings", &item);
    out.push_back(item.get<std::string>());
  }
  return out;
}

}  // namespace pare::inline PARE_ABI
