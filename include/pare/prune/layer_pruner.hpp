// SPDX-License-Identifier: Apache-2.0
// What prunes one layer: a criterion that only selects, or a solver that updates the weights that stay.
#pragma once

#include <concepts>
#include <string>
#include <utility>

#include <pare/core/math.hpp>
#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/mask/mask.hpp>
#include <pare/pattern/pattern.hpp>
#include <pare/score/criterion.hpp>
#include <pare/select/select.hpp>

namespace pare::inline PARE_ABI {

/// A layer after pruning.
struct pruned_weights {
  matrix<float> weights;  // (M, K), +0 where `keep` is not set
  mask keep;
  std::string note{};  // what the user should know (a damping that had to be raised); mostly empty
};

/// Prunes one layer's weights.
///
/// Semantics: `prune(w, stats, pattern, target)` returns weights of w's shape and a mask that the pattern admits, with
/// exactly target.removed_of(n) of the n units removed (N:M: what the pattern says; `target` is ignored). It is
/// deterministic. `needs` lists the statistics that it reads. Pre: the pattern fits, w and stats are finite and of the
/// same number of inputs.
template <class P>
concept layer_pruner = std::copy_constructible<P> && requires {
  typename P::needs;
} && requires(P const& p, matrix_span<float const> w, typename P::needs const& stats, any_pattern const& pattern,
              sparsity target) {
  { p.prune(w, stats, pattern, target) } -> std::same_as<result<pruned_weights>>;
};

/// A criterion as a layer pruner: score, select in the criterion's pool, change nothing else.
template <criterion C>
struct select_by {
  C by{};
  using needs = typename C::needs;

  [[nodiscard]] result<pruned_weights> prune(matrix_span<float const> w, needs const& stats, any_pattern const& pattern,
                                             sparsity target) const {
    matrix<float> const scores = score(w, by, stats);
    for (index_t i = 0; i < scores.size(); ++i)
      if (!math::is_finite(scores.data()[i])) return error{errc::not_finite, "scores", "a score is NaN or infinite"};
    scope const pool = default_scope<C>() == scope::row ? scope::row : scope::matrix;
    pruned_weights out{matrix<float>(w),
                       pattern.of() > 0 ? select(scores, pattern) : select(scores, pattern, target, pool)};
    for (index_t r = 0; r < w.rows; ++r)
      for (index_t c = 0; c < w.cols; ++c)
        if (!out.keep(r, c)) out.weights(r, c) = 0.0f;
    return out;
  }
};

}  // namespace pare::inline PARE_ABI
