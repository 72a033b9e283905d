// SPDX-License-Identifier: Apache-2.0
// Selection by what scores are worth instead of by a count: above a threshold, or up to a share of their sum
// ("mass" threshold of FTWT, Elkerdawy et al. 2022, "Fire Together Wire Together", arXiv 2110.08232).
#pragma once

#include <algorithm>
#include <vector>

#include <pare/core/math.hpp>
#include <pare/select/positions.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

namespace detail {

template <sparsity_pattern P>
void require_free(P const& pattern) {
  static_assert(!fixed_ratio_pattern<P>,
                "pare: N:M fixes how many units stay, so it takes neither a threshold nor a share");
  PARE_EXPECTS(pattern.of() == 0, "select: N:M fixes how many units stay, so it takes neither a threshold nor a share");
}

inline void keep_unit(mask& keep, index_t unit_row, index_t unit_col, extents unit) noexcept {
  for (index_t r = unit_row * unit.rows; r < (unit_row + 1) * unit.rows; ++r)
    for (index_t c = unit_col * unit.cols; c < (unit_col + 1) * unit.cols; ++c) keep.set(r, c);
}

template <class Keeps>
mask keep_where(matrix_span<float const> scores, any_pattern const& pattern, Keeps keeps) {
  matrix<float> const units = unit_scores(scores, pattern);
  mask keep(scores.shape());
  for (index_t r = 0; r < units.rows(); ++r)
    for (index_t c = 0; c < units.cols(); ++c) {
      PARE_EXPECTS(units(r, c) == units(r, c), "select: a score is NaN, so no threshold decides about it");
      if (keeps(units(r, c))) keep_unit(keep, r, c, pattern.unit());
    }
  return keep;
}

}  // namespace detail

/// Keeps the units whose score (the sum over the unit) is greater than `threshold`.
/// scores (M, K). Pre: the pattern fits and is not N:M; no NaN. O(M K).
template <matrix_view Scores, sparsity_pattern P = unstructured>
[[nodiscard]] mask select_above(Scores const& scores, float threshold, P const& pattern = {}) {
  detail::require_free(pattern);
  PARE_EXPECTS(threshold == threshold, "select_above: the threshold is NaN");
  return detail::keep_where(as_span(scores), pattern, [=](float s) { return s > threshold; });
}

/// Keeps the units whose score is at least `threshold`. Otherwise as select_above.
template <matrix_view Scores, sparsity_pattern P = unstructured>
[[nodiscard]] mask select_at_least(Scores const& scores, float threshold, P const& pattern = {}) {
  detail::require_free(pattern);
  PARE_EXPECTS(threshold == threshold, "select_at_least: the threshold is NaN");
  return detail::keep_where(as_span(scores), pattern, [=](float s) { return s >= threshold; });
}

/// What happens to the unit with which the cumulated share first exceeds the one asked for.
enum class crossing {
  dropped,  // what stays has at most the share (the published code)
  kept,     // what stays is the smallest set that exceeds the share
};

/// Keeps the highest units of each pool until their cumulated share of the pool's sum exceeds `share`:
///
///   units in descending order, c_i = (s_1 + ... + s_i) / sum;  unit i stays while c_i <= share + 1e-5
///
/// A share of 1 keeps what has a share above 1e-5 of its own. Equal scores: the lower (row, column) is dropped first.
/// A pool whose sum is 0 loses all its units. The sums are double.
/// scores (M, K). Pre: 0 <= share <= 1; no unit's score is negative, NaN or infinite; the pattern fits and is not N:M;
/// `where` is row or matrix. O(M K log) time.
template <matrix_view Scores, sparsity_pattern P = unstructured>
[[nodiscard]] mask select_mass(Scores const& scores, double share, scope where = scope::matrix, P const& pattern = {},
                               crossing last = crossing::dropped) {
  constexpr double tolerance = 1e-5;  // of the published code; it also hides what rounding does to a sum of 1
  detail::require_free(pattern);
  PARE_EXPECTS(share >= 0.0 && share <= 1.0, "select_mass: the share must lie in [0, 1]");
  PARE_EXPECTS(where != scope::network, "select_mass: the pool is a row or a matrix");
  matrix<float> const units = unit_scores(as_span(scores), pattern);
  PARE_EXPECTS(units.size() < (index_t{1} << 32), "select_mass: fewer than 2^32 units");
  for (index_t i = 0; i < units.size(); ++i)
    PARE_EXPECTS(units.data()[i] >= 0.0f && math::is_finite(units.data()[i]),
                 "select_mass: scores must be finite and not negative to have shares of a sum");
  mask keep(as_span(scores).shape());
  index_t const rows = where == scope::row ? 1 : units.rows();  // of a pool
  for (index_t first = 0; first < units.rows(); first += rows) {
    std::vector<detail::ranked_position> pool;
    double sum = 0.0;
    for (index_t i = 0; i < rows * units.cols(); ++i) {
      float const s = units.row(first)[i];
      pool.push_back({s, static_cast<std::uint32_t>(i)});
      sum += static_cast<double>(s);
    }
    std::sort(pool.begin(), pool.end());
    double cumulated = 0.0;
    bool reached = false;
    for (auto unit = pool.rbegin(); unit != pool.rend(); ++unit) {
      auto const i = static_cast<index_t>(unit->position);
      auto const s = static_cast<double>(unit->value);
      cumulated += s;
      bool stays = false;
      if (share == 1.0) {
        stays = s > tolerance * sum;
      } else if (sum > 0.0 && !reached) {
        reached = cumulated > (share + tolerance) * sum;
        stays = !reached || last == crossing::kept;
      }
      if (stays) detail::keep_unit(keep, first + i / units.cols(), i % units.cols(), pattern.unit());
    }
  }
  return keep;
}

}  // namespace pare::inline PARE_ABI
