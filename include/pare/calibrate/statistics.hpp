// SPDX-License-Identifier: Apache-2.0
// What calibration collects for one layer: a compile-time list of statistics, each streaming and mergeable.
#pragma once

#include <concepts>

#include <pare/core/matrix.hpp>

namespace pare::inline PARE_ABI {

/// One statistic of a layer's inputs.
///
/// Semantics: constructed for K input features; `add(x)` takes one batch of inputs x (K, N), any strides, N samples;
/// `merge(o)` makes it what it would be had it seen o's batches too. The order of batches changes rounding only.
template <class S>
concept input_statistic = std::copyable<S> && std::constructible_from<S, index_t> &&
    requires(S s, S const& other, matrix_span<float const> x) {
  s.add(x);
  s.merge(other);
};

/// The statistics of one layer; `get<S>()` reads one. A criterion lists what it reads as `using needs =
/// statistics<...>`.
template <input_statistic... S>
struct statistics : S... {
  statistics() requires(sizeof...(S) == 0) = default;
  explicit statistics([[maybe_unused]] index_t features) : S(features)... {}

  template <class T>
    requires(std::same_as<T, S> || ...)
  [[nodiscard]] T const& get() const noexcept { return *this; }
  /// x (K, N): a batch of inputs of the layer.
  void add([[maybe_unused]] matrix_span<float const> x) { (S::add(x), ...); }
  void merge([[maybe_unused]] statistics const& other) { (S::merge(other), ...); }
};

namespace detail {
template <class Have, class Need>
inline constexpr bool provides_all = false;
template <class Have, class... S>
inline constexpr bool provides_all<Have, statistics<S...>> = (requires(Have const& h) { h.template get<S>(); } && ...);
}  // namespace detail

/// `Have` holds every statistic of the list `Need`.
template <class Have, class Need>
concept provides = detail::provides_all<Have, Need>;

}  // namespace pare::inline PARE_ABI
