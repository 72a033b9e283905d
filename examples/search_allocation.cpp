// SPDX-License-Identifier: Apache-2.0
// How sparse should each layer be? EvoPress tries: SparseGPT solves every layer at several sparsities once, and the
// search puts networks together from these, all of the same size, and keeps what has the lowest loss.
#include <cstdio>
#include <span>
#include <string>

#include <pare/allocate/evo_press.hpp>
#include <pare/nn/backward.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/mlp_walk.hpp>
#include <pare/prune/level_database.hpp>
#include <pare/prune/sparse_gpt.hpp>

#include "support/data_set.hpp"
#include "support/model.hpp"

int main() {
  auto const model = pare::program::load_model(std::string(PARE_EXAMPLE_DATA_DIR) + "/glyphs");
  auto const train = pare::program::read_images("glyphs", pare::program::split::train, 2000);
  auto const test = pare::program::read_images("glyphs", pare::program::split::test, 3000);
  if (!model || !train || !test) return std::puts("cannot read the network or draw the images"), 1;
  auto net = std::get<pare::mlp>(model->network);

  auto data = pare::walk(net, train->images.span()).value();
  pare::sparse_gpt const solver{.compares = pare::sparse_gpt::pool::row};
  auto const levels = pare::solve_levels(net, solver, pare::unstructured{}, pare::sparsity(0.85), {.levels = 6}, data);
  if (!levels) return std::puts(levels.error().message().c_str()), 1;

  auto const ignore = [](pare::linear const&, auto const&, auto const&) {};
  auto const loss = [&](std::span<int const> choice, int /*stage*/) {
    levels->apply(net, choice);
    return *pare::backward(net, train->images.span(), pare::cross_entropy(train->labels), ignore);
  };
  auto const right = [&] { return pare::accuracy(net, test->images.span(), test->labels, 100)->accuracy; };
  pare::evo_press_state state;
  (void)loss(std::vector<int>(levels->ranges().size(), 0), 0);
  double const uniform = right();
  pare::evo_press const search{.generations = 8, .offspring = 4, .survivors = {1}};
  auto const done = search.search(state, levels->ranges(), loss);
  if (!done) return std::puts(done.error().message().c_str()), 1;
  levels->apply(net, state.levels);
  std::printf("85 %% sparse: accuracy %.3f with the same sparsity in every layer, %.3f after %td tries at", uniform,
              right(), state.evaluations);
  for (pare::sparsity const s : levels->shares(state.levels)) std::printf(" %.1f %%", 100.0 * s.value);
  std::printf("\n");
  return state.fitness ? 0 : 1;
}
