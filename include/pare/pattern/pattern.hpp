// SPDX-License-Identifier: Apache-2.0
// Sparsity patterns: which masks are legal. A pattern says nothing about which weights matter.
#pragma once

#include <concepts>
#include <string_view>

#include <pare/core/index.hpp>
#include <pare/mask/mask.hpp>

namespace pare::inline PARE_ABI {

/// The fraction of units that is removed, in [0, 1]. A type of its own, so that it cannot be taken for a density.
struct sparsity {
  double value = 0.0;
  constexpr explicit sparsity(double removed) : value(removed) {
    PARE_EXPECTS(removed >= 0.0 && removed <= 1.0, "sparsity: the fraction removed must lie in [0, 1]");
  }
  /// How many of n units are removed: floor(value * n). The one rounding rule of the library.
  [[nodiscard]] constexpr index_t removed_of(index_t n) const noexcept {
    return static_cast<index_t>(value * static_cast<double>(n));
  }
  friend constexpr bool operator==(sparsity, sparsity) = default;
};

/// The pool in which units compete: one row (of units) of a matrix, one matrix, or all matrices of a network.
enum class scope { row, matrix, network };

/// A pattern is a value with
///  - `unit()`: what is kept or dropped together, as rows x columns (1x1, or a block);
///  - `keep()`, `of()`: exactly keep() of each of() consecutive units of a row stay; of() = 0 where the pattern
///    leaves the number free and a budget decides it.
template <class P>
concept sparsity_pattern = requires(P const& p) {
  { p.unit() } -> std::same_as<extents>;
  { p.keep() } -> std::same_as<index_t>;
  { p.of() } -> std::same_as<index_t>;
}
&&std::regular<P>;  // last: asked of any type first, it would ask any_pattern's conversion, which asks this

/// Any element on its own.
struct unstructured {
  static constexpr extents unit() noexcept { return {1, 1}; }
  static constexpr index_t keep() noexcept { return 0; }
  static constexpr index_t of() noexcept { return 0; }
  friend constexpr bool operator==(unstructured, unstructured) = default;
};

/// N of each M consecutive inputs stay (NVIDIA's reading: 2:4 keeps two of four). With V > 1 the choice is shared by V
/// outputs that follow each other: kernels then run as fast as dense ones for each weight that stays.
template <index_t N, index_t M, index_t V = 1>
struct n_of_m {
  static_assert(0 < N && N < M && M <= 32, "pare::n_of_m<N, M> keeps N of M consecutive inputs: 0 < N < M <= 32");
  static_assert(V > 0, "pare::n_of_m<N, M, V>: the choice is shared by V >= 1 outputs");
  static constexpr extents unit() noexcept { return {V, 1}; }
  static constexpr index_t keep() noexcept { return N; }
  static constexpr index_t of() noexcept { return M; }
  friend constexpr bool operator==(n_of_m, n_of_m) = default;
};

/// Blocks of R outputs x C inputs stay or go as one.
template <index_t R, index_t C>
struct block {
  static_assert(R > 0 && C > 0 && R * C > 1, "pare::block<R, C> needs at least two elements; use unstructured for one");
  static constexpr extents unit() noexcept { return {R, C}; }
  static constexpr index_t keep() noexcept { return 0; }
  static constexpr index_t of() noexcept { return 0; }
  friend constexpr bool operator==(block, block) = default;
};

/// Any of the above with its numbers known at run time only (a program's option, a file's entry).
struct any_pattern {
  extents unit_{1, 1};
  index_t keep_ = 0;
  index_t of_ = 0;

  constexpr any_pattern() = default;
  template <class P>
    requires(!std::same_as<P, any_pattern> && sparsity_pattern<P>)
  constexpr any_pattern(P const& p) noexcept : unit_(p.unit()), keep_(p.keep()), of_(p.of()) {}  // NOLINT: implicit
  /// Pre: unit extents >= 1; of = keep = 0, or 0 < keep < of.
  constexpr any_pattern(extents unit, index_t keep, index_t of) : unit_(unit), keep_(keep), of_(of) {
    PARE_EXPECTS(unit.rows > 0 && unit.cols > 0, "any_pattern: a unit has at least one row and one column");
    PARE_EXPECTS(of == 0 ? keep == 0 : 0 < keep && keep < of, "any_pattern: N:M keeps N of M with 0 < N < M");
  }

  [[nodiscard]] constexpr extents unit() const noexcept { return unit_; }
  [[nodiscard]] constexpr index_t keep() const noexcept { return keep_; }
  [[nodiscard]] constexpr index_t of() const noexcept { return of_; }
  friend constexpr bool operator==(any_pattern const&, any_pattern const&) = default;
};

/// A pattern whose sparsity is part of it (N:M): it takes no budget.
template <sparsity_pattern P>
[[nodiscard]] constexpr bool has_fixed_ratio(P const& p) noexcept {
  return p.of() > 0;
}
template <class P>
concept fixed_ratio_pattern = sparsity_pattern<P> && requires {
  requires P::of()
  > 0;
};

/// Whether whole units (and whole groups of N:M) tile a matrix of this shape.
template <sparsity_pattern P>
[[nodiscard]] constexpr bool fits(P const& p, extents shape) noexcept {
  return shape.rows % p.unit().rows == 0 && shape.cols % p.unit().cols == 0 &&
         (p.of() == 0 || shape.cols % p.of() == 0);
}

/// Whether a mask obeys the pattern: units whole, and at most keep() kept of each of(). O(rows * cols).
template <sparsity_pattern P>
[[nodiscard]] constexpr bool admits(P const& p, mask const& m) noexcept {
  if (!fits(p, m.shape())) return false;
  auto const [ur, uc] = p.unit();
  for (index_t r = 0; r < m.rows(); ++r) {
    index_t kept = 0;
    for (index_t c = 0; c < m.cols(); ++c) {
      if (m(r, c) != m(r - r % ur, c - c % uc)) return false;
      if (p.of() == 0) continue;
      if (c % p.of() == 0) kept = 0;
      kept += m(r, c) ? 1 : 0;
      if (kept > p.keep()) return false;
    }
  }
  return true;
}

}  // namespace pare::inline PARE_ABI
