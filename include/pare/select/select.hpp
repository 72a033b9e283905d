// SPDX-License-Identifier: Apache-2.0
// From scores to a mask, with exact counts.
//
// Count rule: of n units that compete, exactly floor(s * n) are removed. Tie rule: of equal scores the unit of the
// lower (layer, row, column) is removed first. Both hold for every pattern and scope.
#pragma once

#include <span>
#include <type_traits>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/mask/mask.hpp>
#include <pare/pattern/pattern.hpp>
#include <pare/select/order.hpp>

namespace pare::inline PARE_ABI {

/// Scores of units out of scores of elements: the sum over each unit. scores (M, K) -> (M / unit rows, K / unit cols).
template <sparsity_pattern P>
[[nodiscard]] matrix<float> unit_scores(matrix_span<float const> scores, P const& pattern) {
  PARE_EXPECTS(fits(pattern, scores.shape()), "unit_scores: the pattern does not tile the scores");
  auto const [ur, uc] = pattern.unit();
  matrix<float> out(scores.rows / ur, scores.cols / uc);
  for (index_t r = 0; r < scores.rows; ++r)
    for (index_t c = 0; c < scores.cols; ++c) out(r / ur, c / uc) += scores(r, c);
  return out;
}

namespace detail {

inline void require_numbers(matrix_span<float const> scores) {
  bool nan = false;
  for (index_t r = 0; r < scores.rows; ++r)
    for (index_t c = 0; c < scores.cols; ++c) nan = nan || scores(r, c) != scores(r, c);
  PARE_EXPECTS(!nan, "select: a score is NaN, so there is no order to select by");
}

inline void remove_unit(mask& keep, index_t unit_row, index_t unit_col, extents unit) noexcept {
  for (index_t r = unit_row * unit.rows; r < (unit_row + 1) * unit.rows; ++r)
    for (index_t c = unit_col * unit.cols; c < (unit_col + 1) * unit.cols; ++c) keep.set(r, c, false);
}

/// Removes the lowest floor(s * n) units of rows [first, last) of `units` from `keep`.
inline void remove_lowest(mask& keep, matrix_span<float const> units, extents unit, sparsity s, index_t first,
                          index_t last) {
  std::vector<ranked> pool;
  pool.reserve(static_cast<std::size_t>((last - first) * units.cols));
  for (index_t r = first; r < last; ++r)
    for (index_t c = 0; c < units.cols; ++c)
      pool.push_back({order_key(units(r, c)), static_cast<std::uint32_t>((r - first) * units.cols + c)});
  index_t const removed = s.removed_of(static_cast<index_t>(pool.size()));
  partition_lowest(pool, removed);
  for (index_t i = 0; i < removed; ++i) {
    auto const position = static_cast<index_t>(pool[static_cast<std::size_t>(i)].position);
    remove_unit(keep, first + position / units.cols, position % units.cols, unit);
  }
}

}  // namespace detail

/// The mask of a pattern with a free number of units: removes the fraction `s` of the units within each pool.
/// scores (M, K): higher = keep. where: scope::row or scope::matrix (for a network see select_network).
/// Pre: the pattern fits; no score is NaN; fewer than 2^32 units in a pool. O(M K).
template <matrix_view Scores, sparsity_pattern P>
[[nodiscard]] mask select(Scores const& scores, P const& pattern, sparsity s, scope where = scope::matrix) {
  static_assert(!fixed_ratio_pattern<P>,
                "pare::select: N:M fixes its own sparsity; call select(scores, n_of_m<N, M>{}) without a budget");
  auto const view = as_span(scores);
  PARE_EXPECTS(pattern.of() == 0, "select: N:M fixes its own sparsity and takes no budget");
  PARE_EXPECTS(fits(pattern, view.shape()), "select: the pattern does not tile a matrix of this shape");
  PARE_EXPECTS(where != scope::network, "select: the scope network needs all layers; use select_network");
  mask keep(view.shape(), true);
  bool const elements = pattern.unit() == extents{1, 1};
  matrix<float> const sums = elements ? matrix<float>() : unit_scores(view, pattern);
  matrix_span<float const> const units = elements ? view : sums.span();
  detail::require_numbers(units);  // of the sums: Inf - Inf is none
  if (where == scope::row) {
    for (index_t r = 0; r < units.rows; ++r) detail::remove_lowest(keep, units, pattern.unit(), s, r, r + 1);
  } else {
    detail::remove_lowest(keep, units, pattern.unit(), s, 0, units.rows);
  }
  return keep;
}

/// The mask of an N:M pattern: the N highest scores of each M consecutive inputs, summed over the outputs that share
/// the choice. Pre: as above. O(M K log M).
template <matrix_view Scores, sparsity_pattern P>
[[nodiscard]] mask select(Scores const& scores, P const& pattern) {
  static_assert(fixed_ratio_pattern<P> || std::is_same_v<P, any_pattern>,
                "pare::select: this pattern leaves the number of kept units free; pass a sparsity");
  auto const view = as_span(scores);
  PARE_EXPECTS(pattern.of() > 0, "select: this pattern leaves the number of kept units free; pass a sparsity");
  PARE_EXPECTS(fits(pattern, view.shape()),
               "select: the number of columns must be a multiple of M, and that of rows one of the rows that share");
  bool const elements = pattern.unit() == extents{1, 1};
  matrix<float> const sums = elements ? matrix<float>() : unit_scores(view, pattern);
  matrix_span<float const> const units = elements ? view : sums.span();
  detail::require_numbers(units);
  mask keep(view.shape(), true);
  index_t const m = pattern.of();
  std::vector<detail::ranked> group(static_cast<std::size_t>(m));
  for (index_t r = 0; r < units.rows; ++r)
    for (index_t c = 0; c < units.cols; c += m) {
      for (index_t i = 0; i < m; ++i)
        group[static_cast<std::size_t>(i)] = {detail::order_key(units(r, c + i)), static_cast<std::uint32_t>(i)};
      detail::partition_lowest(group, m - pattern.keep());
      for (index_t i = 0; i < m - pattern.keep(); ++i) {
        auto const position = static_cast<index_t>(group[static_cast<std::size_t>(i)].position);
        detail::remove_unit(keep, r, c + position, pattern.unit());
      }
    }
  return keep;
}

/// How many units each layer loses when the fraction `s` of all units is removed, the lowest scores of the whole
/// network first. units: one score a unit, one matrix a layer. O(units) time, 12 bytes a unit.
[[nodiscard]] inline std::vector<index_t> network_removals(std::span<matrix_span<float const> const> units,
                                                           sparsity s) {
  struct entry {
    std::uint32_t score;
    std::uint32_t layer;
    std::uint32_t position;
    bool operator<(entry const& o) const noexcept {
      if (score != o.score) return score < o.score;
      return layer != o.layer ? layer < o.layer : position < o.position;
    }
  };
  std::vector<entry> pool;
  index_t total = 0;
  for (auto const& u : units) total += u.shape().size();
  pool.reserve(static_cast<std::size_t>(total));
  for (std::size_t l = 0; l < units.size(); ++l) {
    detail::require_numbers(units[l]);
    for (index_t r = 0; r < units[l].rows; ++r)
      for (index_t c = 0; c < units[l].cols; ++c)
        pool.push_back({detail::order_key(units[l](r, c)), static_cast<std::uint32_t>(l),
                        static_cast<std::uint32_t>(r * units[l].cols + c)});
  }
  index_t const removed = s.removed_of(total);
  if (removed > 0 && removed < total) std::nth_element(pool.begin(), pool.begin() + removed, pool.end());
  std::vector<index_t> counts(units.size(), 0);
  for (index_t i = 0; i < removed; ++i) ++counts[pool[static_cast<std::size_t>(i)].layer];
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
  std::vector<matrix_span<float const>> units;
  for (auto const& layer : scores) sums.push_back(unit_scores(layer, pattern));
  for (auto const& layer : sums) units.push_back(layer.span());
  std::vector<index_t> const removed = network_removals(units, s);
  std::vector<mask> masks;
  for (std::size_t l = 0; l < scores.size(); ++l)
    masks.push_back(select(scores[l], pattern, exactly(removed[l], units[l].shape().size()), scope::matrix));
  return masks;
}

}  // namespace pare::inline PARE_ABI
