// SPDX-License-Identifier: Apache-2.0
// From scores to a mask, with exact counts.
//
// Count rule: of n units that compete, exactly floor(s * n) are removed. Tie rule: of equal scores the unit of the
// lower (layer, row, column) is removed first. Both hold for every pattern and scope.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/mask/mask.hpp>
#include <pare/pattern/pattern.hpp>
#include <pare/select/cut.hpp>
#include <pare/select/group_ranks.hpp>
#include <pare/select/rows.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

/// The sums over units of ur rows and uc columns: one row of sums for each ur rows, which are taken in order.
template <class Rows>
[[nodiscard]] matrix<float> unit_sums(Rows& rows, extents unit) {
  auto const [ur, uc] = unit;
  matrix<float> sums(rows.shape().rows / ur, rows.shape().cols / uc);
  for (index_t r = 0; r < sums.rows() * ur; ++r) {
    float const* const x = rows.row(r);
    float* const sum = sums.row(r / ur);
    for (index_t c = 0; c < sums.cols(); ++c)
      for (index_t j = 0; j < uc; ++j) sum[c] += x[c * uc + j];
  }
  return sums;
}

/// The mask of elements of a mask of units.
[[nodiscard]] inline mask spread_units(mask const& units, extents unit) {
  mask keep({units.rows() * unit.rows, units.cols() * unit.cols});
  for (index_t r = 0; r < units.rows(); ++r) {
    mask::word* const first = keep.row_words(r * unit.rows);
    if (unit.cols == 1) {
      std::copy_n(units.row_words(r), keep.words_per_row(), first);
    } else {
      units.for_each_in_row(r, [&](index_t c) {
        for (index_t bit = c * unit.cols, end = bit + unit.cols; bit < end;) {
          index_t const place = bit % mask::word_bits;
          index_t const count = std::min(end - bit, mask::word_bits - place);
          first[bit / mask::word_bits] |= ~mask::word{0} >> (mask::word_bits - count) << place;
          bit += count;
        }
      });
    }
    for (index_t i = 1; i < unit.rows; ++i) std::copy_n(first, keep.words_per_row(), first + i * keep.words_per_row());
  }
  return keep;
}

/// The mask of elements that select_of(rows of units' scores) gives as a mask of units.
template <class Rows, class Select>
[[nodiscard]] mask select_units(Rows& rows, extents unit, Select select_of) {
  if (unit == extents{1, 1}) return select_of(rows);
  matrix<float> const sums = unit_sums(rows, unit);
  stored_rows stored{sums.span()};  // NaN is looked for there: Inf - Inf is none
  return spread_units(select_of(stored), unit);
}

/// Removes the lowest floor(s * n) units of each row, or of the matrix.
template <class Rows>
[[nodiscard]] mask select_lowest(Rows& rows, sparsity s, scope where) {
  mask keep(rows.shape());
  index_t const count = keep.rows();
  index_t const cols = keep.cols();
  cut_finder find;
  index_t const step = where == scope::row ? 1 : std::max<index_t>(count, 1);
  for (index_t first = 0; first < count; first += step) {
    auto const each_row = [&, first](auto f) {
      for (index_t r = first; r < first + step; ++r) f(rows.row(r), cols);
    };
    cut at = find(each_row, step * cols, s.removed_of(step * cols));
    for (index_t r = first; r < first + step; ++r) write_kept(rows.row(r), cols, at, keep.row_words(r));
  }
  return keep;
}

/// Keeps the n highest of each m consecutive units of a row.
template <class Rows>
[[nodiscard]] mask select_of_groups(Rows& rows, index_t n, index_t m) {
  mask keep(rows.shape());
  group_ranks ranks(rows.shape().cols, m);
  for (index_t r = 0; r < keep.rows(); ++r) ranks.write_kept(rows.row(r), n, keep.row_words(r));
  return keep;
}

}  // namespace detail

/// Scores of units out of scores of elements: the sum over each unit. scores (M, K) -> (M / unit rows, K / unit cols).
template <sparsity_pattern P>
[[nodiscard]] matrix<float> unit_scores(matrix_span<float const> scores, P const& pattern) {
  PARE_EXPECTS(fits(pattern, scores.shape()), "unit_scores: the pattern does not tile the scores");
  return detail::with_rows_of(scores, [&](auto rows) { return detail::unit_sums(rows, pattern.unit()); });
}

namespace detail {

template <sparsity_pattern P>
void require_free_units(P const& pattern, extents shape, scope where) {
  static_assert(!fixed_ratio_pattern<P>,
                "pare::select: N:M fixes its own sparsity; call select(scores, n_of_m<N, M>{}) without a budget");
  PARE_EXPECTS(pattern.of() == 0, "select: N:M fixes its own sparsity and takes no budget");
  PARE_EXPECTS(fits(pattern, shape), "select: the pattern does not tile a matrix of this shape");
  PARE_EXPECTS(where != scope::network, "select: the scope network needs all layers; use select_network");
}

template <sparsity_pattern P>
void require_groups(P const& pattern, extents shape) {
  static_assert(fixed_ratio_pattern<P> || std::is_same_v<P, any_pattern>,
                "pare::select: this pattern leaves the number of kept units free; pass a sparsity");
  PARE_EXPECTS(pattern.of() > 0, "select: this pattern leaves the number of kept units free; pass a sparsity");
  PARE_EXPECTS(fits(pattern, shape),
               "select: the number of columns must be a multiple of M, and that of rows one of the rows that share");
}

}  // namespace detail

/// The mask of a pattern with a free number of units: removes the fraction `s` of the units within each pool.
/// scores (M, K): higher = keep. where: scope::row or scope::matrix (for a network see select_network).
/// Pre: the pattern fits; no score is NaN. O(M K); memory: one score a unit where units are blocks, and one a 64th of
/// a pool.
template <matrix_view Scores, sparsity_pattern P>
[[nodiscard]] mask select(Scores const& scores, P const& pattern, sparsity s, scope where = scope::matrix) {
  matrix_span<float const> const view = as_span(scores);
  detail::require_free_units(pattern, view.shape(), where);
  return detail::with_rows_of(view, [&](auto rows) {
    return detail::select_units(rows, pattern.unit(),
                                [&](auto& units) { return detail::select_lowest(units, s, where); });
  });
}

/// The mask of an N:M pattern: the N highest scores of each M consecutive inputs, summed over the outputs that share
/// the choice. Pre: as above. O(M K of()).
template <matrix_view Scores, sparsity_pattern P>
[[nodiscard]] mask select(Scores const& scores, P const& pattern) {
  matrix_span<float const> const view = as_span(scores);
  detail::require_groups(pattern, view.shape());
  return detail::with_rows_of(view, [&](auto rows) {
    return detail::select_units(rows, pattern.unit(), [&](auto& units) {
      return detail::select_of_groups(units, pattern.keep(), pattern.of());
    });
  });
}

/// select(score(w, by, stats), pattern, s, where), without a matrix of scores where the criterion scores row by row.
/// w: float or bf16. Pre: as above, and those of `score`.
template <matrix_view W, criterion C, class Stats, sparsity_pattern P>
[[nodiscard]] mask select(W const& w, C const& by, Stats const& stats, P const& pattern, sparsity s,
                          scope where = default_scope<C>()) {
  if constexpr (row_wise_criterion<C>) {
    static_assert(provides<Stats, typename C::needs>,
                  "pare::select: this criterion needs statistics that were not passed; collect them with "
                  "pare::calibrate");
    auto const view = as_span(w);
    detail::require_free_units(pattern, view.shape(), where);
    return detail::with_rows_of(view, by, stats, [&](auto rows) {
      return detail::select_units(rows, pattern.unit(),
                                  [&](auto& units) { return detail::select_lowest(units, s, where); });
    });
  } else {
    return select(score(w, by, stats), pattern, s, where);
  }
}

/// select(score(w, by, stats), pattern) for N:M, likewise.
template <matrix_view W, criterion C, class Stats, sparsity_pattern P>
[[nodiscard]] mask select(W const& w, C const& by, Stats const& stats, P const& pattern) {
  if constexpr (row_wise_criterion<C>) {
    static_assert(provides<Stats, typename C::needs>,
                  "pare::select: this criterion needs statistics that were not passed; collect them with "
                  "pare::calibrate");
    auto const view = as_span(w);
    detail::require_groups(pattern, view.shape());
    return detail::with_rows_of(view, by, stats, [&](auto rows) {
      return detail::select_units(rows, pattern.unit(), [&](auto& units) {
        return detail::select_of_groups(units, pattern.keep(), pattern.of());
      });
    });
  } else {
    return select(score(w, by, stats), pattern);
  }
}

namespace detail {

/// Where the pool of all layers' units is cut.
[[nodiscard]] inline cut network_cut(std::span<matrix_span<float const> const> units, sparsity s) {
  index_t total = 0;
  for (auto const& u : units) total += u.shape().size();
  auto const each_row = [&](auto f) {
    for (auto const& u : units)
      with_rows_of(u, [&](auto rows) {
        for (index_t r = 0; r < u.rows; ++r) f(rows.row(r), u.cols);
      });
  };
  return cut_finder()(each_row, total, s.removed_of(total));
}

}  // namespace detail

/// How many units each layer loses when the fraction `s` of all units is removed, the lowest scores of the whole
/// network first. units: one score a unit, one matrix a layer. O(units) time, one score for 64 units.
[[nodiscard]] inline std::vector<index_t> network_removals(std::span<matrix_span<float const> const> units,
                                                           sparsity s) {
  detail::cut at = detail::network_cut(units, s);
  std::vector<index_t> counts;
  for (auto const& u : units)
    counts.push_back(detail::with_rows_of(u, [&](auto rows) {
      detail::tally t;
      for (index_t r = 0; r < u.rows; ++r) t.add(rows.row(r), u.cols, at.score, at.score);
      index_t const ties = std::min(at.ties, t.upto - t.below);
      at.ties -= ties;
      return t.below + ties;
    }));
  return counts;
}

/// The sparsity that removes exactly `removed` of n units under the count rule.
[[nodiscard]] constexpr sparsity exactly(index_t removed, index_t n) {
  if (n == 0 || removed == n) return sparsity(n == 0 ? 0.0 : 1.0);
  return sparsity((static_cast<double>(removed) + 0.5) / static_cast<double>(n));
}

/// Masks of several layers that compete in one pool: exactly floor(s * n) of all n units are removed.
template <sparsity_pattern P>
[[nodiscard]] std::vector<mask> select_network(std::span<matrix_span<float const> const> scores, P const& pattern,
                                               sparsity s) {
  static_assert(!fixed_ratio_pattern<P>,
                "pare::select_network: N:M fixes the sparsity of every layer; there is nothing to share out");
  std::vector<matrix<float>> sums;
  std::vector<matrix_span<float const>> units(scores.begin(), scores.end());
  if (pattern.unit() != extents{1, 1}) {
    for (auto const& layer : scores) sums.push_back(unit_scores(layer, pattern));
    std::transform(sums.begin(), sums.end(), units.begin(), [](auto const& layer) { return layer.span(); });
  }
  detail::cut at = detail::network_cut(units, s);
  std::vector<mask> masks;
  for (auto const& layer : units)
    masks.push_back(detail::with_rows_of(layer, [&](auto rows) {
      mask keep(layer.shape());
      for (index_t r = 0; r < layer.rows; ++r) detail::write_kept(rows.row(r), layer.cols, at, keep.row_words(r));
      return pattern.unit() == extents{1, 1} ? keep : detail::spread_units(keep, pattern.unit());
    }));
  return masks;
}

}  // namespace pare::inline PARE_ABI
