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

/// Scores w by `first` and `second`, then out = combine(first's, second's). One more matrix of working memory.
template <class Combine>
void score_both(matrix_span<float const> w, auto const& stats, auto const& first, auto const& second,
                score_sink<float> out, Combine combine) {
  first.score(w, stats, out);
  matrix<float> other(out.shape());
  second.score(w, stats, other.span());
  for (index_t i = 0; i < out.rows; ++i)
    for (index_t j = 0; j < out.cols; ++j) out(i, j) = combine(out(i, j), other(i, j));
}

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
};

/// The sum of two criteria's scores. It competes where the first one does.
template <criterion A, criterion B>
struct score_sum {
  static constexpr scope compares = default_scope<A>();
  using needs = typename detail::both_statistics<typename A::needs, typename B::needs>::type;

  A first{};
  B second{};

  template <matrix_view W>
  void score(W const& w, auto const& stats, score_sink<float> out) const {
    detail::score_both(as_span(w), stats, first, second, out, [](float a, float b) { return a + b; });
  }
};

/// The product of two criteria's scores. It competes where the first one does.
template <criterion A, criterion B>
struct score_product {
  static constexpr scope compares = default_scope<A>();
  using needs = typename detail::both_statistics<typename A::needs, typename B::needs>::type;

  A first{};
  B second{};

  template <matrix_view W>
  void score(W const& w, auto const& stats, score_sink<float> out) const {
    detail::score_both(as_span(w), stats, first, second, out, [](float a, float b) { return a * b; });
  }
};

/// The criterion, then the transform. (In a namespace of your own: `using pare::operator|;` where neither is pare's.)
template <criterion C, score_transform T>
[[nodiscard]] constexpr transformed<C, T> operator|(C inner, T transform) {
  return {inner, transform};
}
template <criterion A, criterion B>
[[nodiscard]] constexpr score_sum<A, B> operator+(A first, B second) {
  return {first, second};
}
template <criterion A, criterion B>
[[nodiscard]] constexpr score_product<A, B> operator*(A first, B second) {
  return {first, second};
}

}  // namespace pare::inline PARE_ABI
