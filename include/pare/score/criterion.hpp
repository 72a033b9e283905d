// SPDX-License-Identifier: Apache-2.0
// What an importance criterion is, and `score`, which applies one to a layer.
#pragma once

#include <pare/calibrate/statistics.hpp>
#include <pare/core/cast.hpp>
#include <pare/core/matrix.hpp>
#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// Where a criterion writes its scores: a view of the weights' shape.
template <class T>
using score_sink = matrix_span<T>;

/// An importance criterion: gives every weight a score; higher = keep.
///
/// Semantics: `needs` lists the statistics that it reads, so that calibration collects exactly those; `score` writes
/// all of `out` (shape of w), is deterministic, and does not change w. Only the order of scores within the pool that
/// competes matters; `compares` (optional, default scope::matrix) names the pool that the method's paper uses.
/// `row_scorer(stats)` (optional) is for criteria that score each row on its own: it returns a function of (w, out)
/// that scores any rows of the layer, so that a layer can be scored a few rows at a time.
template <class C>
concept criterion = std::copy_constructible<C> && requires {
  typename C::needs;
} && requires(C const& c, matrix_span<float const> const& w, typename C::needs const& stats, score_sink<float> out) {
  c.score(w, stats, out);
};

/// A criterion that is shown every layer before it scores one, for what depends on the whole network (means over it).
///
/// Semantics: `look(w, stats)` is called once for each layer that will be scored, in their order, by pare::prune. A
/// criterion that was shown nothing scores a layer as if it were the network.
template <class C>
concept network_criterion = criterion<C> &&
    requires(C& c, matrix_span<float const> const& w, typename C::needs const& stats) {
  c.look(w, stats);
};

/// The pool that a criterion's scores are meant for.
template <criterion C>
[[nodiscard]] constexpr scope default_scope() noexcept {
  if constexpr (requires { C::compares; }) {
    return C::compares;
  } else {
    return scope::matrix;
  }
}

/// A criterion that scores each row on its own.
template <class C>
concept row_wise_criterion = criterion<C> && requires(C const& c, typename C::needs const& stats) {
  c.row_scorer(stats);
};

/// Scores a layer's weights w (M, K). `stats` must hold what the criterion needs; `statistics<>{}` where it needs none.
/// Returns (M, K). Complexity: the criterion's, O(M K) for all elementwise ones.
template <criterion C, class Stats = statistics<>>
  requires provides<Stats, typename C::needs>
[[nodiscard]] matrix<float> score(matrix_span<float const> w, C const& by, Stats const& stats = Stats{}) {
  matrix<float> scores(w.shape());
  by.score(w, stats, scores.span());
  return scores;
}

/// The same for any dense matrix of float or bf16, Eigen's included.
template <matrix_view W, criterion C, class Stats = statistics<>>
[[nodiscard]] matrix<float> score(W const& w, C const& by, Stats const& stats = Stats{}) {
  static_assert(provides<Stats, typename C::needs>,
                "pare::score: this criterion needs statistics that were not passed; collect them with pare::calibrate");
  if constexpr (std::same_as<element_t<W>, float>) {
    return score(matrix_span<float const>(as_span(w)), by, stats);
  } else {
    return score(matrix_span<float const>(cast<float>(w).span()), by, stats);
  }
}

}  // namespace pare::inline PARE_ABI
