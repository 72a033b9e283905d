// SPDX-License-Identifier: Apache-2.0
// Schedules of training with pruning: how much is removed, or exchanged, at which step.
//
// Pure functions of the step and nothing else: a loop of one's own asks them, and a run can be resumed at any step.
#pragma once

#include <cmath>
#include <concepts>
#include <numbers>

#include <pare/pattern/pattern.hpp>

namespace pare::inline PARE_ABI {

/// A sparsity for every step of the training.
///
/// Semantics: pure and defined for every step: before it begins its first value, after it ends its last one.
template <class S>
concept sparsity_schedule = std::copy_constructible<S> && requires(S const& s, index_t step) {
  { s(step) } -> std::same_as<sparsity>;
};

namespace detail {
/// x^n by n multiplications, which a compiler may do. Pre: n >= 0.
[[nodiscard]] constexpr double power_of(double x, index_t n) noexcept {
  double product = 1.0;
  for (index_t i = 0; i < n; ++i) product *= x;
  return product;
}
}  // namespace detail

/// Gradual pruning (Zhu and Gupta 2017, arXiv 1710.01878): s(t) = to + (from - to) (1 - (t - begin) / (end - begin))^p,
/// cubic with p = 3, linear with p = 1; `from` before `begin`, `to` from `end` on. The value changes every `every`
/// steps only, which is when masks have to be made. A window of no length is a single step at `begin`, and `to` may lie
/// below `from`: a network that becomes dense again.
struct gradual {
  index_t begin = 0;  // t0
  index_t end = 0;    // t0 + n every
  sparsity from{0.0};
  sparsity to{0.0};
  index_t every = 1;
  index_t power = 3;

  /// Pre: begin <= end, every > 0, power > 0.
  [[nodiscard]] constexpr sparsity operator()(index_t step) const {
    PARE_EXPECTS(begin <= end && every > 0 && power > 0, "gradual: needs begin <= end, every > 0 and power > 0");
    if (step >= end) return to;
    if (step < begin + every) return from;  // exactly: below it would be rounded
    index_t const done = (step - begin) / every * every;
    double const left = 1.0 - static_cast<double>(done) / static_cast<double>(end - begin);
    return sparsity(to.value + (from.value - to.value) * detail::power_of(left, power));
  }
  /// True at the steps at which a mask is due: begin, begin + every, ..., and end.
  [[nodiscard]] constexpr bool due(index_t step) const noexcept {
    return step >= begin && step <= end && ((step - begin) % every == 0 || step == end);
  }
};

/// Dense until `at`, then `to` at once.
[[nodiscard]] constexpr gradual one_shot(index_t at, sparsity to) { return {.begin = at, .end = at, .to = to}; }

/// SPDF (Thangarasa et al. 2023, arXiv 2303.10464): sparse from the first step on, dense again from `at` on.
[[nodiscard]] constexpr gradual densify(index_t at, sparsity from) { return {.begin = at, .end = at, .from = from}; }

/// A cubic schedule between two phases of constant sparsity, given as shares of all steps and rounded to whole ones:
/// dense for the first `warm_up`, `to` for the last `cool_down`. PST: 0.1, 0.3. LoRAPrune: 0.1, 0.1. "The Journey
/// Matters" (arXiv 2501.12486), from a quarter to three quarters of the compute: 0.25, 0.25. Pre: shares >= 0, with a
/// sum <= 1.
[[nodiscard]] constexpr gradual cubic_window(index_t steps, double warm_up, double cool_down, sparsity to,
                                             index_t every = 1) {
  PARE_EXPECTS(steps >= 0 && warm_up >= 0.0 && cool_down >= 0.0 && warm_up + cool_down <= 1.0,
               "cubic_window: the shares of warm-up and cool-down must be >= 0, with a sum <= 1");
  auto const whole = [&](double share) { return static_cast<index_t>(share * static_cast<double>(steps) + 0.5); };
  index_t const begin = whole(warm_up);
  index_t const end = steps - whole(cool_down);
  return {.begin = begin, .end = end < begin ? begin : end, .to = to, .every = every};
}

/// SynFlow (Tanaka et al. 2020, arXiv 2006.05467): the density after round k of n is rho^((k + 1) / n), so that each
/// round removes the same share of what is left. The step is the round, from 0.
struct exponential {
  index_t rounds = 100;
  sparsity to{0.0};  // 1 - rho

  /// Pre: rounds > 0.
  [[nodiscard]] sparsity operator()(index_t round) const {
    PARE_EXPECTS(rounds > 0, "exponential: needs at least one round");
    if (round < 0) return sparsity(0.0);
    if (round + 1 >= rounds) return to;
    return sparsity(1.0 - std::pow(1.0 - to.value, static_cast<double>(round + 1) / static_cast<double>(rounds)));
  }
};

/// Iterative magnitude pruning with rewinding (Frankle and Carbin 2019, arXiv 1803.03635; Frankle et al. 2020, arXiv
/// 1912.05671): at each level, train, remove `share` of what is left, and set the survivors back to what they were at
/// `rewind_step`. The density at level l is (1 - share)^l. The first level trains `train_steps` steps, every other one
/// the train_steps - rewind_step that follow the point it goes back to.
struct iterative_pruning {
  double share = 0.2;
  index_t train_steps = 0;
  index_t rewind_step = 0;

  /// 1 - (1 - share)^level. Pre: level >= 0, share in (0, 1). O(level).
  [[nodiscard]] constexpr sparsity at_level(index_t level) const {
    PARE_EXPECTS(share > 0.0 && share < 1.0, "iterative_pruning: the share removed at a level must lie in (0, 1)");
    PARE_EXPECTS(level >= 0, "iterative_pruning: levels count from 0");
    double removed = 0.0;  // level by level: 1 - 0.8 is less than 0.2, and one weight less would be removed
    for (index_t l = 0; l < level; ++l) removed += share * (1.0 - removed);
    return sparsity(removed);
  }
  /// The first level that is at least as sparse as `target`, up to rounding. Pre: target < 1.
  [[nodiscard]] constexpr index_t levels_to(sparsity target) const {
    PARE_EXPECTS(target.value < 1.0, "iterative_pruning: no level removes everything");
    index_t l = 0;
    while (1.0 - at_level(l).value > (1.0 - target.value) * (1.0 + 1e-12)) ++l;
    return l;
  }
  /// The level that step `step` of the whole run belongs to. Pre: 0 <= rewind_step < train_steps.
  [[nodiscard]] constexpr index_t level(index_t step) const {
    PARE_EXPECTS(rewind_step >= 0 && rewind_step < train_steps,
                 "iterative_pruning: the step to go back to must lie before the end of the training");
    return step < train_steps ? 0 : 1 + (step - train_steps) / (train_steps - rewind_step);
  }
  /// How many steps of training the weights have behind them at step `step` of the run: what the learning rate follows.
  [[nodiscard]] constexpr index_t trained(index_t step) const {
    if (level(step) == 0) return step;
    return rewind_step + (step - train_steps) % (train_steps - rewind_step);
  }
  [[nodiscard]] constexpr sparsity operator()(index_t step) const { return at_level(level(step)); }
};

/// How a rate goes down: not at all, as half a cosine, or as a power of what is left.
enum class decay { constant, cosine, polynomial };

/// The share of the kept weights that dynamic sparse training exchanges for others at a step (RigL: Evci et al. 2020,
/// arXiv 1911.11134; GraNet: Liu et al. 2021, arXiv 2106.10404). With x = (t - begin) / (end - begin):
///   cosine      to + (from - to) (1 + cos(pi x)) / 2
///   polynomial  to + (from - to) (1 - x)^power
/// RigL's paper: 0.3 by a cosine to 0, every 100 steps until 3/4 of the training; its code has 0.1, constant, and its
/// cosine counts from step 0 even where updates begin later. GraNet: a cosine from 0.5 to 0.005.
struct drop_rate {
  index_t begin = 0;
  index_t end = 0;  // no exchange from here on
  double from = 0.3;
  double to = 0.0;
  index_t every = 100;
  decay shape = decay::cosine;
  double power = 3.0;  // of the polynomial

  /// The rate; 0 outside [begin, end). Pre: rates in [0, 1], begin <= end, every > 0, power > 0.
  [[nodiscard]] double operator()(index_t step) const {
    PARE_EXPECTS(from >= 0.0 && from <= 1.0 && to >= 0.0 && to <= 1.0, "drop_rate: the rates must lie in [0, 1]");
    PARE_EXPECTS(begin <= end && every > 0 && power > 0.0, "drop_rate: needs begin <= end, every > 0 and power > 0");
    if (step < begin || step >= end) return 0.0;
    double const x = static_cast<double>(step - begin) / static_cast<double>(end - begin);
    switch (shape) {
      case decay::cosine:
        return to + (from - to) * 0.5 * (1.0 + std::cos(std::numbers::pi * x));
      case decay::polynomial:
        return to + (from - to) * std::pow(1.0 - x, power);
      case decay::constant:
        break;
    }
    return from;
  }
  /// True at the steps at which weights are exchanged: begin, begin + every, ... below end.
  [[nodiscard]] constexpr bool due(index_t step) const noexcept {
    return step >= begin && step < end && (step - begin) % every == 0;
  }
};

}  // namespace pare::inline PARE_ABI
