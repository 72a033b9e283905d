// SPDX-License-Identifier: Apache-2.0
// Progress of long work: the core reports, the program shows. Nothing in pare prints.
#pragma once

#include <concepts>
#include <string_view>
#include <type_traits>

#include <pare/core/index.hpp>

namespace pare::inline PARE_ABI {

/// A callback that is told `done` of `total` steps of the work `what`; it returns false to cancel.
/// Default-constructed it does nothing. Copyable, no allocation; the callee must outlive it.
class progress {
 public:
  constexpr progress() = default;
  template <class F>
    requires(!std::same_as<std::remove_cv_t<F>, progress>)  // a copy reports to the same callee, not to the original
  constexpr explicit progress(F& callee) noexcept  // F: bool(std::string_view what, index_t done, index_t total)
      : context_(&callee), report_([](void* f, std::string_view what, index_t done, index_t total) -> bool {
          return (*static_cast<F*>(f))(what, done, total);
        }) {}

  /// Reports; false means that the work shall stop with errc::cancelled.
  bool operator()(std::string_view what, index_t done, index_t total) const {
    return report_ == nullptr || report_(context_, what, done, total);
  }

 private:
  void* context_ = nullptr;
  bool (*report_)(void*, std::string_view, index_t, index_t) = nullptr;
};

}  // namespace pare::inline PARE_ABI
