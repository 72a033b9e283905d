// SPDX-License-Identifier: Apache-2.0
// EvoPress: an evolutionary search for each matrix's sparsity (Sieberling et al. 2024, arXiv 2410.14649).
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <pare/core/progress.hpp>
#include <pare/core/random.hpp>
#include <pare/core/result.hpp>
#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// The levels that a matrix may take: one level up removes as many weights in every matrix of the same kind, so that
/// switches within a kind leave the network's sparsity as it is. prune/level_database.hpp makes them.
struct level_range {
  int lowest = 0;
  int highest = 0;
  int kind = 0;
};

/// Where a search stands: a plain value. Written down and given back, with the same settings, it goes on to exactly
/// what the search would have found without a break.
struct evo_press_state {
  std::vector<int> levels;        // of the best so far, one a matrix
  std::optional<double> fitness;  // its fitness in the last stage, once known
  int generation = 0;             // how many are done
  index_t evaluations = 0;        // of the fitness, in those
  friend bool operator==(evo_press_state const&, evo_press_state const&) = default;
};

/// `double fitness(std::span<int const> levels, int stage)`: how bad the network is with these levels, lower is better
/// (a divergence from the dense network's outputs, or a loss), measured on the more data the later the stage. It must
/// give the same value whenever it is asked the same; what is not finite is worse than everything else.
template <class F>
concept level_fitness = requires(F& f, std::span<int const> levels, int stage) {
  { f(levels, stage) } -> std::convertible_to<double>;
};

/// In each generation the parent gets `offspring` children, each by min(a, b) switches with a and b uniform in {1, 2,
/// 3}: a random matrix goes one level down, a random other one of its kind one up. No two are equal, none is the parent
/// or outside the ranges. Stage i keeps the survivors[i] of lowest fitness (of equal ones those made first); the parent
/// joins the last stage, and stays where no child is better.
///
/// Time: each generation evaluates the fitness offspring + survivors[0] + ... + survivors[stages - 2] times.
struct evo_press {
  int generations = 400;
  int offspring = 64;
  std::vector<int> survivors{8, 2, 1};  // one entry a stage, the last is 1
  std::uint64_t seed = 0;

  /// Goes on from `state` (empty: all levels 0) until `generations` are done.
  /// Pre: the state's levels are within `ranges`. Errors: cancelled by `report`, which is asked before every
  /// evaluation; `state` then is that of the last whole generation.
  template <level_fitness F>
  [[nodiscard]] result<void> search(evo_press_state& state, std::span<level_range const> ranges, F&& fitness,
                                    progress report = {}) const {
    check();
    if (state.levels.empty()) state.levels.assign(ranges.size(), 0);
    PARE_EXPECTS(state.levels.size() == ranges.size(), "evo_press: the state is of another number of matrices");
    for (std::size_t m = 0; m < ranges.size(); ++m)
      PARE_EXPECTS(ranges[m].lowest <= state.levels[m] && state.levels[m] <= ranges[m].highest,
                   "evo_press: a level of the state is outside its range");
    int const last = static_cast<int>(survivors.size()) - 1;
    while (state.generation < generations || !state.fitness) {
      evo_press_state next = state;
      auto const rate = rater(fitness, report, next);
      if (!state.fitness) {
        next.fitness = rate(state.levels, last);
        if (!next.fitness) return cancelled();
        state = std::move(next);
        continue;
      }
      random_source random = random_of(state.generation);
      PARE_TRY(auto best, select(children(state.levels, ranges, random), rate));
      if (best && best->fitness < *state.fitness) {
        next.levels = std::move(best->levels);
        next.fitness = best->fitness;
      }
      ++next.generation;
      state = std::move(next);
    }
    report("evolve", state.generation, generations);
    return {};
  }

  /// The depth variant: levels 0 (stays) and 1 (is dropped) for each of kinds.size() parts, of which the fraction
  /// `target` of each kind (attention, MLP; or whole blocks, of one kind) is dropped: floor(target * n) of n. The
  /// search starts from the best of `offspring` random choices. All else as above.
  template <level_fitness F>
  [[nodiscard]] result<void> search_drops(evo_press_state& state, std::span<int const> kinds, sparsity target,
                                          F&& fitness, progress report = {}) const {
    check();
    if (state.levels.empty()) {
      evo_press_state first;
      auto const rate = rater(fitness, report, first);
      random_source random = random_of(-1);
      std::vector<std::vector<int>> pool;
      for (int tries = 0; tries < most_tries * offspring && std::ssize(pool) < offspring; ++tries)
        if (auto drops = random_drops(kinds, target, random); std::find(pool.begin(), pool.end(), drops) == pool.end())
          pool.push_back(std::move(drops));
      PARE_TRY(auto const best, select(std::move(pool), rate));
      first.levels = best->levels;
      first.fitness = best->fitness;
      state = std::move(first);
    }
    std::vector<level_range> ranges;
    for (int const kind : kinds) ranges.push_back({0, 1, kind});
    return search(state, ranges, fitness, report);
  }

 private:
  struct rated {
    std::vector<int> levels;
    double fitness;
  };
  static constexpr int most_tries = 32;  // a child, on average, before a generation does with fewer

  void check() const {
    PARE_EXPECTS(generations >= 0 && offspring > 0, "evo_press: generations must not be negative, offspring positive");
    PARE_EXPECTS(!survivors.empty() && survivors.back() == 1, "evo_press: exactly one survives the last stage");
    for (int const s : survivors) PARE_EXPECTS(s > 0, "evo_press: every stage has survivors");
  }
  static error cancelled() { return {errc::cancelled, "evo_press", "cancelled"}; }

  /// Evaluates the fitness and counts that in `state`; nothing where `report` asks to stop.
  template <class F>
  [[nodiscard]] auto rater(F& fitness, progress const& report, evo_press_state& state) const {
    return [this, &fitness, &report, &state](std::vector<int> const& levels, int stage) -> std::optional<double> {
      if (!report("evolve", state.generation, generations)) return std::nullopt;
      ++state.evaluations;
      auto const f = static_cast<double>(fitness(std::span<int const>(levels), stage));
      return f - f == 0.0 ? f : std::numeric_limits<double>::infinity();
    };
  }

  /// Every generation draws numbers of its own, so that a search can go on from its number alone.
  [[nodiscard]] random_source random_of(int generation) const noexcept {
    return random_source(random_source(seed).bits() + static_cast<std::uint64_t>(generation + 1));
  }

  /// The best of the pool by all stages; nothing where the pool is empty. Error: cancelled.
  template <class Rate>
  [[nodiscard]] result<std::optional<rated>> select(std::vector<std::vector<int>> pool, Rate const& rate) const {
    std::vector<rated> left;
    for (auto& levels : pool) left.push_back({std::move(levels), 0.0});
    for (std::size_t stage = 0; stage < survivors.size(); ++stage) {
      for (rated& r : left) {
        std::optional<double> const f = rate(r.levels, static_cast<int>(stage));
        if (!f) return cancelled();
        r.fitness = *f;
      }
      std::stable_sort(left.begin(), left.end(), [](rated const& a, rated const& b) { return a.fitness < b.fitness; });
      if (std::ssize(left) > survivors[stage]) left.resize(static_cast<std::size_t>(survivors[stage]));
    }
    if (left.empty()) return std::optional<rated>();
    return std::optional<rated>(std::move(left.front()));
  }

  [[nodiscard]] std::vector<std::vector<int>> children(std::vector<int> const& parent,
                                                       std::span<level_range const> ranges,
                                                       random_source& random) const {
    std::vector<std::vector<int>> out;
    for (int tries = 0; tries < most_tries * offspring && std::ssize(out) < offspring; ++tries) {
      std::vector<int> child = parent;
      index_t const a = 1 + random.below(3);
      index_t const b = 1 + random.below(3);
      for (index_t i = 0; i < std::min(a, b); ++i) switch_levels(child, ranges, random);
      if (child != parent && std::find(out.begin(), out.end(), child) == out.end()) out.push_back(std::move(child));
    }
    return out;
  }

  /// One matrix a level down, another of its kind a level up; nothing where the one drawn has no partner.
  static void switch_levels(std::vector<int>& levels, std::span<level_range const> ranges, random_source& random) {
    auto const draw = [&](auto may) -> std::optional<std::size_t> {
      std::vector<std::size_t> those;
      for (std::size_t m = 0; m < levels.size(); ++m)
        if (may(m)) those.push_back(m);
      if (those.empty()) return std::nullopt;
      return those[static_cast<std::size_t>(random.below(std::ssize(those)))];
    };
    auto const down = draw([&](std::size_t m) { return levels[m] > ranges[m].lowest; });
    if (!down) return;
    auto const up = draw([&](std::size_t m) {
      return m != *down && ranges[m].kind == ranges[*down].kind && levels[m] < ranges[m].highest;
    });
    if (!up) return;
    --levels[*down];
    ++levels[*up];
  }

  [[nodiscard]] static std::vector<int> random_drops(std::span<int const> kinds, sparsity target,
                                                     random_source& random) {
    std::vector<int> drops(kinds.size(), 0);
    for (std::size_t first = 0; first < kinds.size(); ++first) {
      std::vector<std::size_t> same;
      for (std::size_t p = 0; p < kinds.size(); ++p)
        if (kinds[p] == kinds[first]) same.push_back(p);
      if (same.front() != first) continue;  // this kind is done
      for (index_t n = target.removed_of(std::ssize(same)); n > 0; --n) {
        auto const drawn = same.begin() + random.below(std::ssize(same));
        drops[*drawn] = 1;
        same.erase(drawn);
      }
    }
    return drops;
  }
};

}  // namespace pare::inline PARE_ABI
