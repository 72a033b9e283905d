// SPDX-License-Identifier: Apache-2.0
// Contracts: what the caller must guarantee, checked once at the edge of the public functions.
//
// A broken contract is a bug of the caller (mismatched shapes, for example). Bad *data* (a malformed file, a
// NaN weight) is not: that is reported through result<T>.
#pragma once

#include <pare/core/version.hpp>

#if PARE_CONTRACT_THROW
#include <new>  // std::exception, as the base of bad_alloc: <exception> itself costs three times as much
#else
#include <cstdio>
#include <cstdlib>
#endif

namespace pare::inline PARE_ABI {

#if PARE_CONTRACT_THROW
/// Thrown where a precondition does not hold (default policy). Holds a copy of the first 255 characters.
class contract_violation : public std::exception {
 public:
  explicit contract_violation(char const* sentence) noexcept {
    for (int i = 0; i < 255 && sentence[i] != 0; ++i) text_[i] = sentence[i];
  }
  [[nodiscard]] char const* what() const noexcept override { return text_; }

 private:
  char text_[256] = {};
};
#endif

namespace detail {
[[noreturn]] inline void contract_failed(char const* sentence) {
#if PARE_CONTRACT_THROW
  throw contract_violation(sentence);
#else
  std::fputs(sentence, stderr);
  std::fputc('\n', stderr);
  std::abort();
#endif
}
}  // namespace detail

}  // namespace pare::inline PARE_ABI

/// Checks a precondition; `sentence` says what must hold, starting with the function's name.
#define PARE_EXPECTS(condition, sentence) \
  ((condition) ? static_cast<void>(0) : ::pare::detail::contract_failed(sentence))
