// SPDX-License-Identifier: Apache-2.0
// Coupled units: rows and columns of several tensors that stay or go together (attention heads, channels of a
// feed-forward network, the hidden dimension), as in LLM-Pruner (Ma et al. 2023, arXiv 2305.11627), LoRAPrune (Zhang et
// al. 2023, arXiv 2305.18403) and DepGraph (Fang et al. 2023, arXiv 2301.12900).
//
//   auto const g = head_groups({.query = 0, .key = 1, .value = 2, .output = 3}, 32, 8, 128);
//   auto const keep = keep_best(unit_scores(g, scores, {}), sparsity{0.25});
//   std::vector<mask> const masks = group_masks(g, keep, shapes);
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/mask/mask.hpp>
#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// Rows are outputs of a layer, columns its inputs.
enum class axis { row, column };

/// Whole rows, or whole columns, [first, first + count) of one tensor, a matrix (M, K); a convolution's is
/// (out, in * kh * kw), a norm's (1, K). `tensor` is a position in the caller's list of tensors.
struct unit_slice {
  std::size_t tensor = 0;
  axis along = axis::row;
  index_t first = 0;
  index_t count = 0;
  friend bool operator==(unit_slice const&, unit_slice const&) = default;
};

/// units[u][m] is the m-th member of unit u. All units have the same number of members; the m-th ones are alike (the
/// same tensor and axis), so that their scores form a vector over the units.
struct coupled_units {
  std::vector<std::vector<unit_slice>> units;
};

/// Where one member of every unit lies: unit u owns rows (columns) [u width, (u + 1) width) of the tensor.
struct unit_member {
  std::size_t tensor = 0;
  axis along = axis::row;
  index_t width = 1;
};

/// `count` units of which each has one slice of every member. Channels of a gated feed-forward network:
/// `couple(channels, {{gate, axis::row}, {up, axis::row}, {down, axis::column}})`; the hidden dimension of a residual
/// network: every tensor that writes it by row, every tensor that reads it by column (an embedding (vocabulary, hidden)
/// and norms by column too). Pre: count, widths >= 0.
[[nodiscard]] inline coupled_units couple(index_t count, std::vector<unit_member> const& members) {
  PARE_EXPECTS(count >= 0, "couple: the number of units must not be negative");
  coupled_units out;
  out.units.resize(static_cast<std::size_t>(count));
  for (index_t u = 0; u < count; ++u)
    for (unit_member const& m : members)
      out.units[static_cast<std::size_t>(u)].push_back({m.tensor, m.along, u * m.width, m.width});
  return out;
}

/// The tensors of an attention layer: query, key, value (heads * head_dim, hidden), output (hidden, heads * head_dim).
struct attention_tensors {
  std::size_t query = 0;
  std::size_t key = 1;
  std::size_t value = 2;
  std::size_t output = 3;
};

/// One unit for each key-value head: its rows of key and value, the rows of the query_heads / key_heads query heads
/// that follow each other and share it, and their columns of the output. Pre: key_heads divides query_heads; all
/// positive.
[[nodiscard]] inline coupled_units head_groups(attention_tensors at, index_t query_heads, index_t key_heads,
                                               index_t head_dim) {
  PARE_EXPECTS(query_heads > 0 && key_heads > 0 && head_dim > 0, "head_groups: heads and their size must be positive");
  PARE_EXPECTS(query_heads % key_heads == 0, "head_groups: every key-value head serves equally many query heads");
  index_t const queries = query_heads / key_heads * head_dim;
  return couple(key_heads, {{at.query, axis::row, queries},
                            {at.key, axis::row, head_dim},
                            {at.value, axis::row, head_dim},
                            {at.output, axis::column, queries}});
}

/// elements -> one number a member -> normalised over the units -> one number a unit.
struct unit_scoring {
  /// How many numbers become one.
  enum class reduction {
    sum,
    mean,
    max,
    l2,       // sqrt of the sum of squares
    abs_sum,  // |sum|: of signed scores w g, the change of the loss if all go at once (LLM-Pruner's "vectorize")
  };
  /// What the scores of one member over all units are divided by, before members are combined.
  enum class normaliser {
    none,
    l2,    // their L2 norm (LoRAPrune; its code adds 1e-8 to the norm)
    mean,  // their mean (Torch-Pruning's default)
  };

  reduction elements = reduction::sum;
  normaliser over_units = normaliser::none;
  reduction members = reduction::sum;
};

namespace detail {

template <class Term>
double reduce(index_t n, unit_scoring::reduction how, Term term) {
  using by = unit_scoring::reduction;
  double sum = 0.0;
  double largest = n > 0 ? term(0) : 0.0;
  for (index_t i = 0; i < n; ++i) {
    double const v = term(i);
    sum += how == by::l2 ? v * v : v;
    largest = std::max(largest, v);
  }
  switch (how) {
    case by::sum:
      return sum;
    case by::mean:
      return n > 0 ? sum / static_cast<double>(n) : 0.0;
    case by::max:
      return largest;
    case by::l2:
      return std::sqrt(sum);
    case by::abs_sum:
      return std::abs(sum);
  }
  return sum;
}

/// Rows or columns of a slice, as a matrix whose rows they are.
template <class T>
matrix_span<T> view_of(matrix_span<T> tensor, unit_slice const& s) {
  index_t const extent = s.along == axis::row ? tensor.rows : tensor.cols;
  PARE_EXPECTS(s.first >= 0 && s.count >= 0 && s.first + s.count <= extent, "coupled units: a slice leaves its tensor");
  return s.along == axis::row ? tensor.row_range(s.first, s.count) : tensor.transposed().row_range(s.first, s.count);
}

}  // namespace detail

/// The score of every unit out of the scores of elements, in double. scores: one matrix a tensor, of its shape. A
/// member whose normaliser is 0 has only zeros (or, for the mean, cancels) and is left as it is. O(elements of the
/// units). Pre: slices lie within their tensors; members are alike in all units.
[[nodiscard]] inline std::vector<double> unit_scores(coupled_units const& group,
                                                     std::span<matrix_span<float const> const> scores,
                                                     unit_scoring const& how) {
  auto const& units = group.units;
  std::size_t const members = units.empty() ? 0 : units.front().size();
  std::vector<std::vector<double>> of_member(members, std::vector<double>(units.size()));
  for (std::size_t u = 0; u < units.size(); ++u) {
    PARE_EXPECTS(units[u].size() == members, "unit_scores: every unit must have the same members");
    for (std::size_t m = 0; m < members; ++m) {
      unit_slice const& s = units[u][m];
      PARE_EXPECTS(s.tensor == units.front()[m].tensor && s.along == units.front()[m].along,
                   "unit_scores: the m-th members of all units must be of the same tensor and axis");
      PARE_EXPECTS(s.tensor < scores.size(), "unit_scores: a unit names a tensor without scores");
      auto const v = detail::view_of(scores[s.tensor], s);
      of_member[m][u] = detail::reduce(v.rows * v.cols, how.elements,
                                       [&](index_t i) { return static_cast<double>(v(i / v.cols, i % v.cols)); });
    }
  }
  auto const count = static_cast<index_t>(units.size());
  using normaliser = unit_scoring::normaliser;
  using by = unit_scoring::reduction;
  if (how.over_units != normaliser::none)
    for (auto& vector : of_member) {
      double const divisor = detail::reduce(count, how.over_units == normaliser::l2 ? by::l2 : by::mean,
                                            [&](index_t u) { return vector[static_cast<std::size_t>(u)]; });
      if (divisor != 0.0)
        for (double& v : vector) v /= divisor;
    }
  std::vector<double> out(units.size());
  for (std::size_t u = 0; u < units.size(); ++u)
    out[u] = detail::reduce(static_cast<index_t>(members), how.members,
                            [&](index_t m) { return of_member[static_cast<std::size_t>(m)][u]; });
  return out;
}

/// How many elements each unit holds: its cost in parameters. shapes: of the tensors.
/// (Elements in which two slices of a unit cross are counted twice.)
[[nodiscard]] inline std::vector<double> unit_costs(coupled_units const& group, std::span<extents const> shapes) {
  std::vector<double> out;
  for (auto const& unit : group.units) {
    double cost = 0.0;
    for (unit_slice const& s : unit) {
      PARE_EXPECTS(s.tensor < shapes.size(), "unit_costs: a unit names a tensor without a shape");
      index_t const other = s.along == axis::row ? shapes[s.tensor].cols : shapes[s.tensor].rows;
      cost += static_cast<double>(s.count * other);
    }
    out.push_back(cost);
  }
  return out;
}

namespace detail {

/// Positions in the order of removal: lower scores first, of equal ones the lower position.
inline std::vector<std::size_t> removal_order(std::span<double const> scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (double const s : scores) PARE_EXPECTS(s == s, "select: a score is NaN, so there is no order to select by");
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  return order;
}

}  // namespace detail

/// Which units stay where exactly floor(s n) of n are removed. Units of several groups compete in one pool when their
/// scores follow each other in `scores`. Pre: no NaN. O(n log n).
[[nodiscard]] inline std::vector<bool> keep_best(std::span<double const> scores, sparsity s) {
  std::vector<bool> keep(scores.size(), true);
  auto const order = detail::removal_order(scores);
  auto const removed = static_cast<std::size_t>(s.removed_of(std::ssize(scores)));
  for (std::size_t i = 0; i < removed; ++i) keep[order[i]] = false;
  return keep;
}

/// Where a removal by cost ends: before the first unit that would exceed the budget, or with the unit whose cost is
/// nearest to it (of two as near, with the lesser), which may exceed it: FLAP's.
enum class budget_end { within, nearest };

/// Which units stay where units are removed in the order of their scores until what they cost together reaches the
/// fraction s of all cost. With equal whole costs, `within` is keep_best.
/// costs: one a unit, e.g. unit_costs or FLOPs. Pre: costs >= 0; no NaN. O(n log n).
[[nodiscard]] inline std::vector<bool> keep_by_cost(std::span<double const> scores, std::span<double const> costs,
                                                    sparsity s, budget_end end = budget_end::within) {
  PARE_EXPECTS(costs.size() == scores.size(), "keep_by_cost: every unit has one score and one cost");
  double all = 0.0;
  for (double const c : costs) {
    PARE_EXPECTS(c >= 0.0, "keep_by_cost: a cost must not be negative");
    all += c;
  }
  double const goal = s.value * all;
  std::vector<bool> keep(scores.size(), true);
  double gone = 0.0;
  for (std::size_t const u : detail::removal_order(scores)) {
    double const after = gone + costs[u];
    if (end == budget_end::within ? after > goal : after - goal >= goal - gone) break;
    gone = after;
    keep[u] = false;
  }
  return keep;
}

/// Drops the units that are not kept from the tensors' masks. keep: one entry a unit of this group.
inline void drop_units(coupled_units const& group, std::vector<bool> const& keep, std::span<mask> masks) {
  PARE_EXPECTS(keep.size() == group.units.size(), "drop_units: one decision a unit");
  for (std::size_t u = 0; u < keep.size(); ++u) {
    if (keep[u]) continue;
    for (unit_slice const& s : group.units[u]) {
      PARE_EXPECTS(s.tensor < masks.size(), "drop_units: a unit names a tensor without a mask");
      mask& m = masks[s.tensor];
      bool const rows = s.along == axis::row;
      PARE_EXPECTS(s.first >= 0 && s.count >= 0 && s.first + s.count <= (rows ? m.rows() : m.cols()),
                   "coupled units: a slice leaves its tensor");
      for (index_t i = s.first; i < s.first + s.count; ++i)
        for (index_t j = 0; j < (rows ? m.cols() : m.rows()); ++j) m.set(rows ? i : j, rows ? j : i, false);
    }
  }
}

/// The masks of all tensors, given their shapes, after the units that are not kept are gone.
[[nodiscard]] inline std::vector<mask> group_masks(coupled_units const& group, std::vector<bool> const& keep,
                                                   std::span<extents const> shapes) {
  std::vector<mask> masks;
  for (extents const shape : shapes) masks.emplace_back(shape, true);
  drop_units(group, keep, masks);
  return masks;
}

}  // namespace pare::inline PARE_ABI
