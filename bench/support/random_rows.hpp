// SPDX-License-Identifier: Apache-2.0
// Rows of random masks, and what they are to reach.
#pragma once

#include <array>
#include <string>
#include <utility>

#include "headline.hpp"

namespace pare::bench {

/// What a family is to reach at one sparsity.
struct target {
  double sparsity;
  double must;
  double aim;
};

inline constexpr std::array<extents, 3> shapes_of_table{extents{768, 768}, extents{3072, 768}, extents{4096, 4096}};

inline headline_row row_of(std::string family, double sparsity, goal ratio) {
  headline_row row;
  row.family = std::move(family);
  row.sparsity = sparsity;
  row.ratio_goal = ratio;
  return row;
}

/// Rows of one format with random masks.
template <class F, class Group, class Targets>
void add_random(Group& group, std::string const& family, Targets const& targets,
                goal::over over = goal::over::best_dense) {
  for (target const& t : targets)
    group.template add<F>(row_of(family, t.sparsity, {over, t.must, t.aim}),
                          [&] { return random_mask<typename format_traits<F>::pattern>(group.scores(), t.sparsity); });
}

}  // namespace pare::bench
