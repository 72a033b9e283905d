// SPDX-License-Identifier: Apache-2.0
// result<T>: a value or an error, for everything that depends on data (std::expected is C++23).
#pragma once

#include <optional>
#include <string>
#include <utility>

#include <pare/core/contract.hpp>

namespace pare::inline PARE_ABI {

/// What kind of thing went wrong; names are stable and appear in `--json` output.
enum class errc {
  io,              // the operating system refused: missing file, no permission, full disk
  malformed,       // a file does not follow its format
  unsupported,     // well-formed, but something pare does not handle
  missing,         // a tensor, key or file that is needed is not there
  mismatch,        // shapes or types do not go together
  pattern_misfit,  // a sparsity pattern does not fit a layer
  not_finite,      // NaN or Inf where a number is needed
  out_of_range,    // a value outside its documented range
  cancelled,       // a progress callback asked to stop
};

/// The stable name of an error code.
[[nodiscard]] constexpr char const* name(errc code) noexcept {
  switch (code) {
    case errc::io:
      return "io";
    case errc::malformed:
      return "malformed";
    case errc::unsupported:
      return "unsupported";
    case errc::missing:
      return "missing";
    case errc::mismatch:
      return "mismatch";
    case errc::pattern_misfit:
      return "pattern_misfit";
    case errc::not_finite:
      return "not_finite";
    case errc::out_of_range:
      return "out_of_range";
    case errc::cancelled:
      return "cancelled";
  }
  return "unknown";
}

/// An error: its kind, the thing at fault (file, tensor, layer, option), and a sentence that says the rule,
/// what was expected and what was found.
struct error {
  errc code{};
  std::string where;
  std::string what;

  /// "where: what", as shown to people.
  [[nodiscard]] std::string message() const { return where.empty() ? what : where + ": " + what; }
};

/// Puts the outer thing (a file's name) in front of the place that an inner function reported.
[[nodiscard]] inline error in(std::string outer, error e) {
  e.where = e.where.empty() ? std::move(outer) : std::move(outer) + ": " + e.where;
  return e;
}

/// A value of type T, or an error. T = void for operations without a value.
template <class T>
class [[nodiscard]] result {
 public:
  using value_type = T;

  result(T value) : value_(std::move(value)) {}    // NOLINT: implicit by design
  result(pare::error e) : error_(std::move(e)) {}  // NOLINT: implicit by design

  [[nodiscard]] bool has_value() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return has_value(); }

  /// The value; without one this is a contract violation that carries the error's message.
  T& value() & { return require(), *value_; }
  T const& value() const& { return require(), *value_; }
  T&& value() && { return require(), *std::move(value_); }

  T& operator*() & noexcept { return *value_; }
  T const& operator*() const& noexcept { return *value_; }
  T&& operator*() && noexcept { return *std::move(value_); }
  T* operator->() noexcept { return &*value_; }
  T const* operator->() const noexcept { return &*value_; }

  /// The error. Pre: !has_value().
  [[nodiscard]] pare::error& error() noexcept { return error_; }
  [[nodiscard]] pare::error const& error() const noexcept { return error_; }

 private:
  void require() const {
    if (!has_value()) detail::contract_failed(error().message().c_str());
  }
  std::optional<T> value_;
  pare::error error_;
};

template <>
class [[nodiscard]] result<void> {
 public:
  using value_type = void;

  result() = default;
  result(pare::error e) : error_(std::move(e)), failed_(true) {}  // NOLINT: implicit by design

  [[nodiscard]] bool has_value() const noexcept { return !failed_; }
  explicit operator bool() const noexcept { return !failed_; }
  void value() const {
    if (failed_) detail::contract_failed(error_.message().c_str());
  }
  [[nodiscard]] pare::error& error() noexcept { return error_; }
  [[nodiscard]] pare::error const& error() const noexcept { return error_; }

 private:
  pare::error error_;
  bool failed_ = false;
};

}  // namespace pare::inline PARE_ABI

#define PARE_CONCAT_(a, b) a##b
#define PARE_CONCAT(a, b) PARE_CONCAT_(a, b)
#define PARE_TRY_(temporary, declaration, expression)                 \
  auto temporary = (expression);                                      \
  if (!temporary) return ::pare::error(std::move(temporary.error())); \
  declaration = *std::move(temporary)

/// `PARE_TRY(auto x, f());` binds the value of a result, or returns its error from the enclosing function.
#define PARE_TRY(declaration, expression) PARE_TRY_(PARE_CONCAT(pare_try_, __LINE__), declaration, expression)

/// The same for result<void>.
#define PARE_TRY_VOID(expression) \
  if (auto pare_try_void = (expression); !pare_try_void) return ::pare::error(std::move(pare_try_void.error()))
