// SPDX-License-Identifier: Apache-2.0
// Sampling: ranges, ties, the frequencies that temperature gives, and what top-k and top-p leave.
#include <cmath>
#include <limits>
#include <vector>

#include <pare/nn/sample.hpp>

#include "support/catch.hpp"

using namespace pare;

namespace {
std::vector<double> frequencies(sampling how, std::vector<float> const& logits, int draws = 20000) {
  auto draw = sampler::make(how, random_source{11}).value();
  std::vector<double> count(logits.size());
  for (int i = 0; i < draws; ++i) count[static_cast<std::size_t>(draw(logits).value())] += 1.0 / draws;
  return count;
}
}  // namespace

TEST_CASE("sampler: greedy takes the most likely token, the first of equal ones") {
  auto greedy = sampler::make({}).value();
  CHECK(greedy(std::vector<float>{0.0f, 2.0f, 2.0f, 1.0f}).value() == 1);
}

TEST_CASE("sampler: frequencies follow softmax of the logits over the temperature") {
  std::vector<float> const logits{0.0f, std::log(3.0f)};
  CHECK(frequencies({.temperature = 1.0f}, logits)[1] == Approx(0.75).margin(0.015));
  CHECK(frequencies({.temperature = 0.5f}, logits)[1] == Approx(0.9).margin(0.015));
}

TEST_CASE("sampler: top-k keeps the k most likely, top-p the fewest that reach p") {
  std::vector<float> const logits{std::log(0.1f), std::log(0.5f), std::log(0.25f), std::log(0.15f)};
  auto const two = frequencies({.temperature = 1.0f, .top_k = 2}, logits);
  CHECK(two[0] == 0.0);
  CHECK(two[3] == 0.0);
  CHECK(two[1] == Approx(2.0 / 3.0).margin(0.015));
  auto const nucleus = frequencies({.temperature = 1.0f, .top_p = 0.7f}, logits);
  CHECK(nucleus[0] == 0.0);
  CHECK(nucleus[3] == 0.0);
  CHECK(nucleus[2] == Approx(1.0 / 3.0).margin(0.015));
  auto const one = frequencies({.temperature = 1.0f, .top_k = 100, .top_p = 0.01f}, logits, 50);
  CHECK(one[1] == Approx(1.0));
}

TEST_CASE("sampler: the same seed draws the same tokens") {
  std::vector<float> const logits(50, 0.0f);
  auto a = sampler::make({.temperature = 1.0f}, random_source{3}).value();
  auto b = sampler::make({.temperature = 1.0f}, random_source{3}).value();
  for (int i = 0; i < 100; ++i) CHECK(a(logits).value() == b(logits).value());
}

TEST_CASE("sampler: values outside their range and logits that are not finite are refused") {
  float const nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(sampler::make({.temperature = -1.0f}).error().where == "temperature");
  CHECK(sampler::make({.temperature = nan}).error().code == errc::out_of_range);
  CHECK(sampler::make({.top_k = -1}).error().where == "top_k");
  CHECK(sampler::make({.top_p = 0.0f}).error().where == "top_p");
  CHECK(sampler::make({.top_p = 1.5f}).error().where == "top_p");
  auto greedy = sampler::make({}).value();
  CHECK(greedy(std::vector<float>{0.0f, nan}).error().code == errc::not_finite);
}
