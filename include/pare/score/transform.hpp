// SPDX-License-Identifier: Apache-2.0
// Criteria made of criteria: `magnitude{} | row_share{} | power{0.5}`, and sums and products of two.
#pragma once

#include <concepts>
#include <type_traits>

#include <pare/score/criterion.hpp>

namespace pare::inline PARE_ABI {

/// A score transform: `apply(scores)` replaces scores (M, K) in place by others, from nothing but themselves.
///
/// Semantics: deterministic; every element is written. A NaN stays one, and makes those NaN that are computed from it.
template <class T>
concept score_transform = std::copy_constructible<T> && requires(T const& t, score_sink<float> scores) {
  t.apply(scores);
};

namespace detail {

/// The statistics of both lists, each once, those of the first list first.
template <class A, class B>
struct both_statistics;
template <class... A>
struct both_statistics<statistics<A...>, statistics<>> {
  using type = statistics<A...>;
};
template <class... A, class B, class... Rest>
struct both_statistics<statistics<A...>, statistics<B, Rest...>>
    : both_statistics<std::conditional_t<(std::same_as<A, B> || ...), statistics<A...>, statistics<A..., B>>,
                      statistics<Rest...>> {};

/// The criterion wants to be shown all layers before it scores one.
template <class C, class Stats>
concept looks = requires(C& c, matrix_span<float const> w, Stats const& stats) {
  c.look(w, stats);
};

struct sum_of_scores {
  static constexpr float of(float a, float b) noexcept { return a + b; }
};
struct product_of_scores {
  static constexpr float of(float a, float b) noexcept { return a * b; }
};

}  // namespace detail

/// A criterion whose scores a transform changes. It needs what the inner criterion needs and competes where that does.
template <criterion C, score_transform T>
struct transformed {
  static constexpr scope compares = default_scope<C>();
  using needs = typename C::needs;

  C inner{};
  T transform{};

  template <matrix_view W>
  void score(W const& w, auto const& stats, score_sink<float> out) const {
    inner.score(as_span(w), stats, out);
    transform.apply(out);
  }
  /// Shows the inner criterion a layer, where it looks at all before it scores one.
  template <class Stats>
  void look(matrix_span<float const> w, Stats const& stats) requires detail::looks<C, Stats> {
    inner.look(w, stats);
  }
};

/// The scores of two criteria, added or multiplied. It needs what both need and competes where the first one does. One
/// more matrix of working memory.
template <criterion A, criterion B, class Combine>
struct combined {
  static constexpr scope compares = default_scope<A>();
  using needs = typename detail::both_statistics<typename A::needs, typename B::needs>::type;

  A first{};
  B second{};

  template <matrix_view W>
  void score(W const& w, auto const& stats, score_sink<float> out) const {
    first.score(as_span(w), stats, out);
    matrix<float> other(out.shape());
    second.score(as_span(w), stats, other.span());
    for (index_t i = 0; i < out.rows; ++i)
      for (index_t j = 0; j < out.cols; ++j) out(i, j) = Combine::of(out(i, j), other(i, j));
  }
  /// Shows a layer to those of the two that look.
  template <class Stats>
  void look(matrix_span<float const> w,
            Stats const& stats) requires(detail::looks<A, Stats> || detail::looks<B, Stats>) {
    if constexpr (detail::looks<A, Stats>) first.look(w, stats);
    if constexpr (detail::looks<B, Stats>) second.look(w, stats);
  }
};

/// The criterion, then the transform. (In a namespace of your own: `using pare::operator|;` where neither is pare's.)
template <criterion C, score_transform T>
[[nodiscard]] constexpr transformed<C, T> operator|(C inner, T transform) {
  return {inner, transform};
}
template <criterion A, criterion B>
[[nodiscard]] constexpr combined<A, B, detail::sum_of_scores> operator+(A first, B second) {
  return {first, second};
}
template <criterion A, criterion B>
[[nodiscard]] constexpr combined<A, B, detail::product_of_scores> operator*(A first, B second) {
  return {first, second};
}

}  // namespace pare::inline PARE_ABI
