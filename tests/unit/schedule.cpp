// SPDX-License-Identifier: Apache-2.0
// Schedules at hand-worked values, at their boundaries, and in one piece.
#include <cmath>
#include <vector>

#include <pare/prune/schedule.hpp>
#include <pare/prune/training_cost.hpp>

#include "support/catch.hpp"

using pare::decay;
using pare::drop_rate;
using pare::exponential;
using pare::gradual;
using pare::index_t;
using pare::iterative_pruning;
using pare::sparsity;

static_assert(pare::sparsity_schedule<gradual> && pare::sparsity_schedule<exponential> &&
              pare::sparsity_schedule<iterative_pruning>);
static_assert(!pare::sparsity_schedule<drop_rate>);  // a rate is not a sparsity

// Cubic from 0 to 0.8 over 4 steps from step 10: 0.8 - 0.8 (1 - k / 4)^3, exact in binary up to the factor 0.8.
static_assert(gradual{.begin = 10, .end = 14, .to = sparsity{0.8}}(9) == sparsity{0.0});
static_assert(gradual{.begin = 10, .end = 14, .to = sparsity{0.8}}(12) == sparsity{0.8 - 0.8 * 0.125});
static_assert(gradual{.begin = 10, .end = 14, .to = sparsity{0.8}}(14) == sparsity{0.8});

TEST_CASE("gradual: the cubic of Zhu and Gupta, worked by hand") {
  gradual const cubic{.begin = 10, .end = 14, .from = sparsity{0.2}, .to = sparsity{0.8}};
  CHECK(cubic(-5).value == 0.2);
  CHECK(cubic(10).value == 0.2);
  CHECK(cubic(11).value == Approx(0.8 - 0.6 * 27.0 / 64.0).epsilon(1e-15));  // 0.546875
  CHECK(cubic(12).value == Approx(0.725).epsilon(1e-15));                    // 0.8 - 0.6 / 8
  CHECK(cubic(13).value == Approx(0.790625).epsilon(1e-15));                 // 0.8 - 0.6 / 64
  CHECK(cubic(14).value == 0.8);
  CHECK(cubic(1000000).value == 0.8);
  gradual linear = cubic;
  linear.power = 1;
  for (index_t k = 0; k <= 4; ++k)
    CHECK(linear(10 + k).value == Approx(0.2 + 0.15 * static_cast<double>(k)).epsilon(1e-15));
}

TEST_CASE("gradual: changes every few steps only, exactly when a mask is due") {
  gradual const s{.begin = 100, .end = 1000, .to = sparsity{0.9}, .every = 200};  // 4 whole periods and a half
  std::vector<index_t> due;
  for (index_t t = 0; t <= 1200; ++t) {
    if (s.due(t)) due.push_back(t);
    if (t > 0 && s(t) != s(t - 1)) CHECK(s.due(t));
  }
  CHECK(due == std::vector<index_t>{100, 300, 500, 700, 900, 1000});
  CHECK(s(299) == s(100));
  CHECK(s(300).value == Approx(0.9 - 0.9 * std::pow(7.0 / 9.0, 3)).epsilon(1e-14));
  CHECK(s(999) == s(900));
  CHECK(s(1000).value == 0.9);
}

TEST_CASE("gradual: stays between its ends, and never turns round") {
  for (double const from : {0.0, 0.3, 0.95, 1.0})
    for (double const to : {0.0, 0.5, 0.7, 0.999, 1.0})
      for (index_t const power : {1, 2, 3, 7})
        for (index_t const length : {0, 1, 2, 3, 37}) {
          gradual const s{3, 3 + length, sparsity{from}, sparsity{to}, 2, power};
          CHECK(s(2).value == from);
          CHECK(s(3 + length).value == to);
          for (index_t t = 0; t < 50; ++t) {
            double const step = s(t + 1).value - s(t).value;
            CHECK((to >= from ? step >= 0.0 : step <= 0.0));
          }
        }
}

TEST_CASE("one_shot, densify: a single step") {
  CHECK(pare::one_shot(7, sparsity{0.5})(6).value == 0.0);
  CHECK(pare::one_shot(7, sparsity{0.5})(7).value == 0.5);
  CHECK(pare::one_shot(7, sparsity{0.5}).due(7));
  CHECK(pare::densify(7, sparsity{0.75})(0).value == 0.75);
  CHECK(pare::densify(7, sparsity{0.75})(6).value == 0.75);
  CHECK(pare::densify(7, sparsity{0.75})(7).value == 0.0);
}

TEST_CASE("cubic_window: phases of constant sparsity at both ends") {
  auto const pst = pare::cubic_window(1000, 0.1, 0.3, sparsity{0.9});
  CHECK(pst.begin == 100);
  CHECK(pst.end == 700);
  CHECK(pst(100).value == 0.0);
  CHECK(pst(101).value > 0.0);
  CHECK(pst(400).value == Approx(0.9 - 0.9 / 8.0).epsilon(1e-14));
  CHECK(pst(699).value < 0.9);
  CHECK(pst(700).value == 0.9);
  auto const journey = pare::cubic_window(80, 0.25, 0.25, sparsity{0.5}, 10);
  CHECK(journey.begin == 20);
  CHECK(journey.end == 60);
  CHECK(journey(40).value == Approx(0.5 - 0.5 / 8.0).epsilon(1e-14));
  CHECK(journey(49) == journey(40));
  // Shares that binary fractions only come close to: 0.29 * 100 = 28.999...
  CHECK(pare::cubic_window(100, 0.29, 0.0, sparsity{0.5}).begin == 29);
  auto const all_phases = pare::cubic_window(3, 0.5, 0.5, sparsity{0.5});  // both round up: still begin <= end
  CHECK(all_phases(0).value == 0.0);
  CHECK(all_phases(2).value == 0.5);
  CHECK(pare::cubic_window(0, 0.5, 0.5, sparsity{0.5})(0).value == 0.5);
  CHECK_THROWS_AS(pare::cubic_window(10, 0.6, 0.5, sparsity{0.5}), pare::contract_violation);
  CHECK_THROWS_AS(pare::cubic_window(10, -0.1, 0.5, sparsity{0.5}), pare::contract_violation);
}

TEST_CASE("exponential: each round leaves the same share of what was left") {
  exponential const s{4, sparsity{1.0 - 0.0625}};  // rho = 1/16: a half each round
  CHECK(s(-1).value == 0.0);
  CHECK(s(0).value == Approx(0.5).epsilon(1e-14));
  CHECK(s(1).value == Approx(0.75).epsilon(1e-14));
  CHECK(s(2).value == Approx(0.875).epsilon(1e-14));
  CHECK(s(3).value == 0.9375);
  CHECK(s(4).value == 0.9375);
  CHECK(exponential{1, sparsity{0.9}}(0).value == 0.9);
  exponential const all{100, sparsity{1.0}};
  CHECK(all(99).value == 1.0);
  exponential const slow{100, sparsity{0.99}};
  for (index_t k = 1; k < 100; ++k)
    CHECK((1.0 - slow(k).value) / (1.0 - slow(k - 1).value) == Approx(std::pow(0.01, 0.01)).epsilon(1e-12));
  CHECK_THROWS_AS((exponential{0, sparsity{0.5}}(0)), pare::contract_violation);
}

TEST_CASE("iterative_pruning: levels, and where a run of several levels stands") {
  constexpr iterative_pruning s{.share = 0.2, .train_steps = 100, .rewind_step = 10};
  static_assert(s.at_level(0) == sparsity{0.0});
  CHECK(s.at_level(1).value == 0.2);  // exactly: a fifth of 60 weights is 12
  CHECK(s.at_level(1).removed_of(60) == 12);
  CHECK(s.at_level(3).value == Approx(1.0 - 0.512).epsilon(1e-15));
  CHECK(s.at_level(10).value == Approx(1.0 - 0.1073741824).epsilon(1e-15));
  CHECK(s.levels_to(sparsity{0.0}) == 0);
  CHECK(s.levels_to(sparsity{0.2}) == 1);
  CHECK(s.levels_to(s.at_level(7)) == 7);
  CHECK(s.levels_to(sparsity{0.9}) == 11);  // 0.8^10 = 0.107, 0.8^11 = 0.086
  // Level 0 is steps 0..99; the others have 90 steps each, from step 10 of the training on.
  CHECK(s.level(0) == 0);
  CHECK(s.level(99) == 0);
  CHECK(s.level(100) == 1);
  CHECK(s.level(189) == 1);
  CHECK(s.level(190) == 2);
  CHECK(s.trained(99) == 99);
  CHECK(s.trained(100) == 10);
  CHECK(s.trained(189) == 99);
  CHECK(s.trained(190) == 10);
  CHECK(s(189) == s.at_level(1));
  CHECK(s(190) == s.at_level(2));
  constexpr iterative_pruning from_start{.share = 0.5, .train_steps = 1};
  CHECK(from_start.level(5) == 5);
  CHECK(from_start.trained(5) == 0);
  CHECK_THROWS_AS((iterative_pruning{.train_steps = 5, .rewind_step = 5}.level(0)), pare::contract_violation);
  CHECK_THROWS_AS((iterative_pruning{.share = 1.0}.at_level(1)), pare::contract_violation);
  CHECK_THROWS_AS(s.at_level(-1), pare::contract_violation);
  CHECK_THROWS_AS(s.levels_to(sparsity{1.0}), pare::contract_violation);
}

TEST_CASE("drop_rate: RigL's cosine, its other shapes, and GraNet's cosine to 0.005") {
  drop_rate const rigl{.end = 600};
  CHECK(rigl(0) == Approx(0.3).epsilon(1e-15));
  CHECK(rigl(200) == Approx(0.225).epsilon(1e-14));  // cos 60 degrees
  CHECK(rigl(300) == Approx(0.15).epsilon(1e-14));
  CHECK(rigl(400) == Approx(0.075).epsilon(1e-14));
  CHECK(rigl(599) > 0.0);
  CHECK(rigl(600) == 0.0);
  CHECK(rigl(-1) == 0.0);
  CHECK(rigl.due(0));
  CHECK(rigl.due(500));
  CHECK(!rigl.due(550));
  CHECK(!rigl.due(600));
  for (index_t t = 1; t < 600; ++t) CHECK(rigl(t) < rigl(t - 1));

  drop_rate const constant{.begin = 50, .end = 100, .from = 0.1, .shape = decay::constant};
  CHECK(constant(49) == 0.0);
  CHECK(constant(50) == 0.1);
  CHECK(constant(99) == 0.1);
  CHECK(constant(100) == 0.0);
  CHECK(constant.due(50));
  CHECK(!constant.due(0));

  drop_rate const cube{.begin = 50, .end = 100, .from = 0.8, .shape = decay::polynomial};
  CHECK(cube(50) == Approx(0.8).epsilon(1e-15));
  CHECK(cube(75) == Approx(0.1).epsilon(1e-14));
  drop_rate const granet{.end = 90, .from = 0.5, .to = 0.005};
  CHECK(granet(0) == Approx(0.5).epsilon(1e-15));
  CHECK(granet(45) == Approx(0.2525).epsilon(1e-14));
  CHECK(granet(60) == Approx(0.005 + 0.495 / 4.0).epsilon(1e-14));
  CHECK(granet(89) > 0.005);
  CHECK((drop_rate{}(0)) == 0.0);  // an empty window exchanges nothing
  CHECK(!drop_rate{}.due(0));
  CHECK_THROWS_AS((drop_rate{.end = 10, .from = 1.5}(0)), pare::contract_violation);
  CHECK_THROWS_AS((drop_rate{.begin = 11, .end = 10}(0)), pare::contract_violation);
  CHECK_THROWS_AS((gradual{.begin = 11, .end = 10}(0)), pare::contract_violation);
  CHECK_THROWS_AS((gradual{.begin = 1, .end = 10, .every = 0}(3)), pare::contract_violation);
}

TEST_CASE("mean_parameters: the average over the steps, by hand and in the limit") {
  // SPDF: 3 of 4 steps at 75 % of 1000, then dense; 50 more never pruned.
  CHECK(pare::mean_parameters(pare::densify(3, sparsity{0.75}), 4, 1000, 50) == Approx(487.5).epsilon(1e-15));
  static_assert(pare::mean_parameters(pare::one_shot(1, sparsity{0.5}), 2, 8) == 6.0);
  // A cubic from 0 to s over all steps removes 3/4 s on average; within [1/4, 3/4] it is 3/8 s, and s in the last 1/4.
  index_t const steps = 100000;
  CHECK(pare::mean_parameters(pare::cubic_window(steps, 0.0, 0.0, sparsity{0.8}), steps, 1) ==
        Approx(0.4).margin(1e-4));
  CHECK(pare::mean_parameters(pare::cubic_window(steps, 0.25, 0.25, sparsity{0.8}), steps, 1) ==
        Approx(1.0 - 0.8 * (0.375 + 0.25)).margin(1e-4));
  gradual const line{.begin = 0, .end = steps, .to = sparsity{0.8}, .power = 1};
  CHECK(pare::mean_parameters(line, steps, 1) == Approx(0.6).margin(1e-4));
  // A cost of one's own: FLOPs of two layers of which one stays dense.
  auto const flops = [](sparsity s) { return 10.0 + 100.0 * (1.0 - s.value); };
  CHECK(pare::mean_over(pare::one_shot(1, sparsity{0.5}), 4, flops) == Approx((110.0 + 3 * 60.0) / 4).epsilon(1e-15));
  CHECK_THROWS_AS(pare::mean_over(line, 0, flops), pare::contract_violation);
  CHECK_THROWS_AS(pare::mean_parameters(line, 1, -1), pare::contract_violation);
}

TEST_CASE("training_flops, rigl_step_flops: as published") {
  CHECK(pare::training_flops(1e9, 2e10) == 1.2e20);
  CHECK(pare::rigl_step_flops(1.0, 10.0, 1) == 7.5);    // (3 + 2 + 10) / 2
  CHECK(pare::rigl_step_flops(1.0, 10.0, 99) == 3.09);  // (297 + 12) / 100
  CHECK(pare::rigl_step_flops(10.0, 10.0, 7) == 30.0);  // a dense network's
  CHECK_THROWS_AS(pare::rigl_step_flops(1.0, 1.0, 0), pare::contract_violation);
}
