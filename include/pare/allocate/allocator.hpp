// SPDX-License-Identifier: Apache-2.0
// How the sparsity of a network is shared out over its layers.
#pragma once

#include <concepts>
#include <string>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// What an allocator may know of a layer.
struct layer_info {
  std::string name;
  std::vector<index_t> dims;        // of the weight tensor: (out, in) or (out, in, kh, kw)
  index_t units = 0;                // how many units of the pattern compete in it
  matrix_span<float const> scores;  // one score a unit; empty unless the allocator asks for scores
  index_t group = -1;               // the block of the network that it is part of; -1: it is a block of its own
  [[nodiscard]] index_t size() const noexcept {
    index_t n = 1;
    for (index_t d : dims) n *= d;
    return n;
  }
};

/// Shares a target sparsity out: `allocate(layers, target)` gives one sparsity a layer, or, where the allocator holds
/// data that may not fit the layers, a result with it.
///
/// Semantics: deterministic; layers count by their sizes, so that the units removed in all are target * units up to
/// rounding (one unit a layer). `needs_scores` says whether `layer_info::scores` must be filled; scores must then be
/// comparable between layers, or made so by the allocator.
template <class A>
concept budget_allocator = std::copyable<A> &&
    requires(A const& a, std::vector<layer_info> const& layers, sparsity target) {
  { A::needs_scores } -> std::convertible_to<bool>;
  { a.allocate(layers, target) } -> std::convertible_to<result<std::vector<sparsity>>>;
};

/// One sparsity a layer. Errors: the allocator's; most have none.
template <budget_allocator A>
[[nodiscard]] result<std::vector<sparsity>> allocate(A const& budget, std::vector<layer_info> const& layers,
                                                     sparsity target) {
  return budget.allocate(layers, target);
}

/// The same sparsity in every layer.
struct uniform {
  static constexpr bool needs_scores = false;
  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    return std::vector<sparsity>(layers.size(), target);
  }
};

}  // namespace pare::inline PARE_ABI
