// SPDX-License-Identifier: Apache-2.0
// What a schedule costs: means over its steps, as scaling laws and comparisons at equal FLOPs need them.
#pragma once

#include <pare/prune/schedule.hpp>

namespace pare::inline PARE_ABI {

/// The mean over steps [0, steps) of cost(sparsity at the step): 1 / steps * sum_t cost(s(t)). `cost` is any function
/// of a sparsity: parameters, FLOPs of a network whose layers share the sparsity out, ... Pre: steps > 0. O(steps).
template <sparsity_schedule S, class Cost>
  requires requires(Cost& cost, sparsity s) {
    { cost(s) } -> std::convertible_to<double>;
  }
[[nodiscard]] constexpr double mean_over(S const& schedule, index_t steps, Cost cost) {
  PARE_EXPECTS(steps > 0, "mean_over: a mean needs at least one step");
  double sum = 0.0;
  for (index_t t = 0; t < steps; ++t) sum += static_cast<double>(cost(schedule(t)));
  return sum / static_cast<double>(steps);
}

/// N-bar of "The Journey Matters" (arXiv 2501.12486): the parameters that are active on average over the training,
/// 1 / D * integral of N(t) dt, of `prunable` ones that follow the schedule and `others` that stay dense. Takes the
/// place of N in Chinchilla's L = E + A / N^alpha + B / D^beta. Every step sees as many tokens.
template <sparsity_schedule S>
[[nodiscard]] constexpr double mean_parameters(S const& schedule, index_t steps, index_t prunable, index_t others = 0) {
  PARE_EXPECTS(prunable >= 0 && others >= 0, "mean_parameters: numbers of parameters must not be negative");
  auto const active = [&](sparsity s) { return (1.0 - s.value) * static_cast<double>(prunable); };
  return mean_over(schedule, steps, active) + static_cast<double>(others);
}

/// FLOPs of training N parameters (on average) on D tokens: 6 N D, a multiply-add being two.
[[nodiscard]] constexpr double training_flops(double parameters, double tokens) noexcept {
  return 6.0 * parameters * tokens;
}

/// FLOPs of one step, on average, where every `every`-th one computes the gradients of all weights, as RigL does:
/// (3 f_S every + 2 f_S + f_D) / (every + 1) with f_S, f_D the FLOPs of a sparse and a dense forward pass
/// (arXiv 1911.11134, appendix H). A static mask or SET costs 3 f_S, a dense network 3 f_D. Pre: every > 0.
[[nodiscard]] constexpr double rigl_step_flops(double sparse_forward, double dense_forward, index_t every) {
  PARE_EXPECTS(every > 0, "rigl_step_flops: gradients of all weights are due every few steps, at least one");
  auto const n = static_cast<double>(every);
  return (3.0 * sparse_forward * n + 2.0 * sparse_forward + dense_forward) / (n + 1.0);
}

}  // namespace pare::inline PARE_ABI
