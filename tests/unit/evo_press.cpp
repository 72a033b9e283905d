// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <pare/allocate/evo_press.hpp>

#include "support/catch.hpp"

using pare::evo_press;
using pare::evo_press_state;
using pare::index_t;
using pare::level_range;
using pare::sparsity;

namespace {

/// Ranges of several widths around 0.
std::vector<level_range> some_ranges() { return {{-3, 3}, {-1, 2}, {0, 3}, {-3, 0}, {-2, 2}, {0, 0}}; }

/// The squared distance from the best levels, which sum to 0 and lie within some_ranges().
double distance(std::span<int const> levels) {
  int const best[] = {3, -1, 2, -3, -1, 0};
  double sum = 0.0;
  for (std::size_t m = 0; m < levels.size(); ++m) sum += std::pow(levels[m] - best[m], 2);
  return sum;
}

}  // namespace

TEST_CASE("evo_press: finds the best levels of a bowl, and proposes only levels that sum to 0 within their ranges") {
  auto const ranges = some_ranges();
  evo_press_state state;
  bool fair = true;
  auto const fitness = [&](std::span<int const> levels, int stage) {
    fair = fair && (stage == 0 || stage == 1) && std::accumulate(levels.begin(), levels.end(), 0) == 0;
    for (std::size_t m = 0; m < levels.size(); ++m)
      fair = fair && ranges[m].lowest <= levels[m] && levels[m] <= ranges[m].highest;
    return distance(levels);
  };
  evo_press const by{.generations = 30, .offspring = 8, .survivors = {2, 1}};
  REQUIRE(by.search(state, ranges, fitness));
  CHECK(fair);
  CHECK(state.levels == std::vector<int>{3, -1, 2, -3, -1, 0});
  CHECK(state.fitness == 0.0);
  CHECK(state.generation == 30);
  CHECK(state.evaluations == 1 + 30 * (8 + 2));
}

TEST_CASE("evo_press: each generation proposes other levels than the parent, no two equal, by at most three switches") {
  auto const ranges = some_ranges();
  evo_press_state state;
  std::vector<std::vector<int>> seen;
  double rated = 0.0;
  auto const fitness = [&](std::span<int const> levels, int) {
    seen.emplace_back(levels.begin(), levels.end());
    return rated -= 1.0;  // each is better than all before
  };
  std::vector<int> moved(4, 0);
  for (int g = 1; g <= 40; ++g) {
    auto const parent = state.levels.empty() ? std::vector<int>(6, 0) : state.levels;
    seen.clear();
    evo_press const by{.generations = g, .offspring = 10, .survivors = {1}, .seed = 3};
    REQUIRE(by.search(state, ranges, fitness));
    if (g == 1) seen.erase(seen.begin());  // the first of all is the parent's own
    REQUIRE(seen.size() == 10);
    REQUIRE(std::set<std::vector<int>>(seen.begin(), seen.end()).size() == 10);
    for (auto const& child : seen) {
      int up = 0;
      for (std::size_t m = 0; m < child.size(); ++m) up += std::max(child[m] - parent[m], 0);
      REQUIRE(up >= 1);
      REQUIRE(up <= 3);
      ++moved[static_cast<std::size_t>(up)];
    }
    REQUIRE(state.levels == seen.back());
  }
  // min(a, b) of two uniform in {1, 2, 3} is 1, 2, 3 with 5, 3, 1 in 9; switches may undo each other.
  CHECK(moved[1] > moved[2]);
  CHECK(moved[2] > moved[3]);
  CHECK(moved[3] > 0);
}

TEST_CASE("evo_press: stages narrow the field, the parent joins the last one and stays where no child is better") {
  std::vector<level_range> const ranges(5, level_range{-4, 4});
  std::vector<int> stages(3, 0);
  auto const same = [&](std::span<int const>, int stage) {
    ++stages[static_cast<std::size_t>(stage)];
    return 1.0;
  };
  evo_press_state state;
  REQUIRE(evo_press{.generations = 5, .offspring = 20}.search(state, ranges, same));
  CHECK(stages == std::vector<int>{100, 40, 11});
  CHECK(state.levels == std::vector<int>(5, 0));

  // The first stage misleads: what survives it is worse in the last one, so the parent stays.
  auto const misled = [&](std::span<int const> levels, int stage) {
    double const far = std::abs(levels[0]) + std::abs(levels[1]);
    return stage == 0 ? -far : far;
  };
  evo_press_state other;
  REQUIRE(evo_press{.generations = 5, .offspring = 20, .survivors = {1, 1}}.search(other, ranges, misled));
  CHECK(other.levels[0] == 0);
  CHECK(other.levels[1] == 0);
}

TEST_CASE("evo_press: stopped and gone on with, it finds exactly what it finds in one go; the seed decides") {
  auto const ranges = some_ranges();
  auto const rough = [](std::span<int const> levels, int stage) {
    double sum = stage == 0 ? 0.3 : 0.0;
    for (std::size_t m = 0; m < levels.size(); ++m) sum += std::sin(7.0 * levels[m] + static_cast<double>(m));
    return sum + 0.1 * distance(levels);
  };
  evo_press const by{.generations = 12, .offspring = 6, .survivors = {2, 1}, .seed = 5};
  evo_press_state whole;
  REQUIRE(by.search(whole, ranges, rough));
  for (int stop_after = 0; stop_after < 90; stop_after += 7) {
    int asked = 0;
    auto stop = [&](std::string_view, index_t, index_t total) { return total == 12 && asked++ < stop_after; };
    evo_press_state state;
    auto const broken = by.search(state, ranges, rough, pare::progress(stop));
    REQUIRE_FALSE(broken);
    CHECK(broken.error().code == pare::errc::cancelled);
    CHECK(state.generation < 12);
    // As it would be written down and read again.
    evo_press_state again{state.levels, state.fitness, state.generation, state.evaluations};
    REQUIRE(by.search(again, ranges, rough));
    CHECK(again == whole);
  }
  evo_press_state in_parts;
  for (int const g : {1, 5, 6, 12}) {
    evo_press part = by;
    part.generations = g;
    REQUIRE(part.search(in_parts, ranges, rough));
  }
  CHECK(in_parts == whole);

  std::set<std::vector<int>> first;
  double rated = 0.0;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    evo_press_state state;
    evo_press const one{.generations = 1, .offspring = 1, .survivors = {1}, .seed = seed};
    REQUIRE(one.search(state, ranges, [&](std::span<int const>, int) { return rated -= 1.0; }));
    first.insert(state.levels);
  }
  CHECK(first.size() > 2);
}

TEST_CASE("evo_press: fitness that is no number is the worst of all") {
  std::vector<level_range> const ranges(3, level_range{-2, 2});
  auto const nan_but_best = [](std::span<int const> levels, int) {
    return levels[0] == 2 ? -1.0 : std::numeric_limits<double>::quiet_NaN();
  };
  evo_press_state state;
  REQUIRE(evo_press{.generations = 10, .offspring = 8, .survivors = {3, 1}}.search(state, ranges, nan_but_best));
  CHECK(state.levels[0] == 2);
  CHECK(state.fitness == -1.0);
}

TEST_CASE("evo_press: small spaces do with fewer children, and with none it ends") {
  auto const flat = [](std::span<int const>, int) { return 0.0; };
  evo_press_state two;
  REQUIRE(evo_press{.generations = 3, .offspring = 9, .survivors = {1}}.search(
      two, std::vector<level_range>(2, level_range{-1, 1}), flat));
  CHECK(two.evaluations == 1 + 3 * 2);
  evo_press_state one;
  REQUIRE(evo_press{.generations = 3}.search(one, std::vector<level_range>{{-5, 5}}, flat));
  CHECK(one.evaluations == 1);
  CHECK(one.generation == 3);
  evo_press_state none;
  REQUIRE(evo_press{.generations = 3}.search(none, std::vector<level_range>{}, flat));
  CHECK(none.levels.empty());
}

TEST_CASE("evo_press: switches stay within a kind") {
  std::vector<level_range> const ranges{{-2, 2, 0}, {-2, 2, 1}, {-2, 2, 0}, {-2, 2, 1}, {-2, 2, 0}};
  evo_press_state state;
  bool apart = true;
  auto const fitness = [&](std::span<int const> levels, int) {
    apart = apart && levels[0] + levels[2] + levels[4] == 0 && levels[1] + levels[3] == 0;
    return -static_cast<double>(std::abs(levels[0]) + std::abs(levels[1]));
  };
  REQUIRE(evo_press{.generations = 20, .offspring = 8, .survivors = {1}}.search(state, ranges, fitness));
  CHECK(apart);
  CHECK(state.fitness == -4.0);
}

TEST_CASE("evo_press: levels outside their ranges and impossible settings are contract violations") {
  auto const flat = [](std::span<int const>, int) { return 0.0; };
  std::vector<level_range> const ranges(2, level_range{-1, 1});
  evo_press_state outside{{2, -2}, {}, 0, 0};
  CHECK_THROWS_AS((void)evo_press{}.search(outside, ranges, flat), pare::contract_violation);
  evo_press_state other{{0, 0, 0}, {}, 0, 0};
  CHECK_THROWS_AS((void)evo_press{}.search(other, ranges, flat), pare::contract_violation);
  evo_press_state fresh;
  evo_press const two_left{.survivors = {8, 2}};
  CHECK_THROWS_AS((void)two_left.search(fresh, ranges, flat), pare::contract_violation);
  evo_press const no_stage{.survivors = {}};
  CHECK_THROWS_AS((void)no_stage.search(fresh, ranges, flat), pare::contract_violation);
  CHECK_THROWS_AS((void)evo_press{.offspring = 0}.search(fresh, ranges, flat), pare::contract_violation);
}

TEST_CASE("evo_press: drops as many parts of each kind as asked, the best ones, and goes on after a break") {
  // Attention (kind 0) and MLP (kind 1) of six blocks; two thirds of each stay.
  std::vector<int> const kinds{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
  double const cost[] = {5, 5, 1, 4, 3, 0, 2, 6, 9, 8, 7, 1};
  bool fair = true;
  auto const fitness = [&](std::span<int const> drops, int) {
    int dropped[2] = {0, 0};
    double sum = 0.0;
    for (std::size_t p = 0; p < drops.size(); ++p) {
      dropped[kinds[p]] += drops[p];
      sum += drops[p] * cost[p];
    }
    fair = fair && dropped[0] == 2 && dropped[1] == 2;
    return sum;
  };
  evo_press const by{.generations = 25, .offspring = 8, .survivors = {2, 1}, .seed = 2};
  evo_press_state whole;
  REQUIRE(by.search_drops(whole, kinds, sparsity{2.0 / 6.0 + 0.01}, fitness));
  CHECK(fair);
  CHECK(whole.levels == std::vector<int>{0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1});
  CHECK(whole.fitness == 4.0);
  for (int const stop_after : {0, 3, 9, 30}) {
    int asked = 0;
    auto stop = [&](std::string_view, index_t, index_t) { return asked++ < stop_after; };
    evo_press_state state;
    REQUIRE_FALSE(by.search_drops(state, kinds, sparsity{2.0 / 6.0 + 0.01}, fitness, pare::progress(stop)));
    REQUIRE(by.search_drops(state, kinds, sparsity{2.0 / 6.0 + 0.01}, fitness));
    CHECK(state == whole);
  }
  evo_press_state nothing;
  REQUIRE(by.search_drops(nothing, kinds, sparsity{0.1}, [](std::span<int const>, int) { return 0.0; }));
  CHECK(nothing.levels == std::vector<int>(12, 0));
}
