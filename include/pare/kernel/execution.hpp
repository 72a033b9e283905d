// SPDX-License-Identifier: Apache-2.0
// Who does the work: the concept, sequential execution, and a reference to any execution.
#pragma once

#include <concepts>
#include <type_traits>

#include <pare/core/index.hpp>

namespace pare::inline PARE_ABI {

/// Runs independent parts of one piece of work.
///
/// Semantics: `parallel(n, body)` calls body(0) ... body(n - 1), each once, in any order and on any thread, and returns
/// when all are done; until then the calling thread multiplies nothing else with pare. body throws nothing but
/// std::bad_alloc, where a thread's first working memory is not to be had.
/// `concurrency()` >= 1 says how many may run at a time. How work is cut never changes a result: rows of Y are computed
/// whole, in a fixed order.
template <class E>
concept execution = requires(E& e, index_t parts, void (*body)(index_t)) {
  { e.concurrency() }
  noexcept->std::same_as<int>;
  e.parallel(parts, body);
};

/// The calling thread alone.
struct sequential {
  [[nodiscard]] int concurrency() const noexcept { return 1; }
  template <class Body>
  void parallel(index_t parts, Body&& body) {
    for (index_t p = 0; p < parts; ++p) body(p);
  }
};

/// A reference to an execution, of one type for all; default-constructed it is sequential. What it refers to must live.
class execution_ref {
 public:
  execution_ref() = default;
  template <execution E>
    requires(!std::same_as<E, execution_ref>)
  execution_ref(E& e)
  noexcept  // NOLINT: implicit by design
      : context_(&e),
        concurrency_([](void* c) noexcept { return static_cast<E*>(c)->concurrency(); }),
        parallel_([](void* c, index_t parts, void (*call)(void*, index_t), void* body) {
          static_cast<E*>(c)->parallel(parts, [=](index_t p) { call(body, p); });
        }) {}

  [[nodiscard]] int concurrency() const noexcept { return context_ == nullptr ? 1 : concurrency_(context_); }
  template <class Body>
  void parallel(index_t parts, Body&& body) {
    if (context_ == nullptr) {
      sequential{}.parallel(parts, body);
    } else {
      parallel_(
          context_, parts, [](void* b, index_t p) { (*static_cast<std::remove_reference_t<Body>*>(b))(p); },
          const_cast<void*>(static_cast<void const*>(&body)));
    }
  }

 private:
  void* context_ = nullptr;
  int (*concurrency_)(void*) noexcept = nullptr;
  void (*parallel_)(void*, index_t, void (*)(void*, index_t), void*) = nullptr;
};

}  // namespace pare::inline PARE_ABI
