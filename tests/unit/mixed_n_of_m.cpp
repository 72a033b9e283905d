// SPDX-License-Identifier: Apache-2.0
// Mixed N:M: an N for each block from the shares of another allocator, and layers pruned to it.
#include <cmath>
#include <vector>

#include <pare/allocate/n_of_m_shares.hpp>
#include <pare/allocate/owl.hpp>
#include <pare/prune/mixed_n_of_m.hpp>
#include <pare/prune/stages.hpp>
#include <pare/score/magnitude.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"
#include "support/toy_network.hpp"

using namespace pare;

namespace {

/// Shares as they are written down.
struct given {
  static constexpr bool needs_scores = false;
  std::vector<double> shares;
  [[nodiscard]] std::vector<sparsity> allocate(std::vector<layer_info> const&, sparsity) const {
    std::vector<sparsity> out;
    for (double const s : shares) out.push_back(sparsity(s));
    return out;
  }
};

std::vector<layer_info> layers_of(std::vector<std::vector<index_t>> const& dims, std::vector<index_t> const& groups) {
  std::vector<layer_info> out;
  for (std::size_t l = 0; l < dims.size(); ++l) out.push_back({"layer", dims[l], 0, {}, groups[l]});
  return out;
}

/// The N of each layer.
std::vector<int> n_of(std::vector<layer_info> const& layers, std::vector<double> const& shares, index_t m = 8) {
  auto const rounded = allocate(n_of_m_shares<given>{{shares}, m}, layers, sparsity(0.5)).value();
  std::vector<int> out;
  for (sparsity const s : rounded) {
    double const n = static_cast<double>(m) * (1.0 - s.value);
    CHECK(n == std::round(n));
    out.push_back(static_cast<int>(n));
  }
  return out;
}

}  // namespace

TEST_CASE("n_of_m_shares: rounds to N of 8 so that the budget holds, by hand") {
  auto const alone = layers_of({{10, 8}, {10, 8}, {10, 8}, {10, 8}}, {-1, -1, -1, -1});
  CHECK(n_of(alone, {0.5, 0.5, 0.5, 0.5}) == std::vector<int>{4, 4, 4, 4});
  // 8 d = 4.4, 4.3, 4.2, 3.1: 16 of 32. Rounded down 4 4 4 3; the largest remainder gets the one that is missing.
  CHECK(n_of(alone, {0.45, 0.4625, 0.475, 0.6125}) == std::vector<int>{5, 4, 4, 3});
  // 8 d = 4.9, 4.9, 4.1, 4.1: 18, rounded each on its own too.
  CHECK(n_of(alone, {0.3875, 0.3875, 0.4875, 0.4875}) == std::vector<int>{5, 5, 4, 4});
  // All 4.5: half of them go up, the earlier ones.
  CHECK(n_of(alone, {0.4375, 0.4375, 0.4375, 0.4375}) == std::vector<int>{5, 5, 4, 4});
  // Never nothing, never all.
  CHECK(n_of(alone, {1.0, 0.0, 0.5, 0.5}) == std::vector<int>{1, 7, 4, 4});
  CHECK(n_of(alone, {0.5, 0.5, 0.25, 0.75}, 4) == std::vector<int>{2, 2, 3, 1});
}

TEST_CASE("n_of_m_shares: a block keeps one N, large ones count for more") {
  auto const blocks = layers_of({{10, 8}, {30, 8}, {10, 8}, {10, 8}}, {0, 0, 1, -1});
  // 8 d = 4.5 (of 40 rows), 4.6 (of 10), 4.4 (of 10): 22.5 too few; 4.6's 10 and then the block's 40 rows overshoot by
  // more than is missing, but 4.4's 10 do not.
  CHECK(n_of(blocks, {0.4375, 0.4375, 0.425, 0.45}) == std::vector<int>{4, 4, 5, 5});
  // Equal up to rounding is equal; different shares within a block keep their own.
  CHECK(n_of(blocks, {0.55, 0.55 + 1e-13, 0.25, 0.25}) == std::vector<int>{4, 4, 6, 6});
  CHECK(n_of(blocks, {0.5, 0.25, 0.5, 0.5}) == std::vector<int>{4, 6, 4, 4});
}

TEST_CASE("mixed_n_of_m: stages with an N of their own, by OWL over single weights") {
  test::toy_network net;
  random_source random(3);
  for (int l = 0; l < 5; ++l) {
    auto w = test::random_matrix(random, {12, 16});
    if (l == 1)
      for (index_t i = 0; i < 12; ++i) w(i, 3) *= 40.0f;  // outliers
    net.parts.emplace_back("part." + std::to_string(l), std::move(w));
  }
  calibration<statistics<>> const nothing(net);
  n_of_m_shares<owl> const by{{.outlier = 6.0, .window = 2.0 / 8}, 8};
  auto const shares = share_out(net, magnitude{}, nothing, unstructured{}, sparsity(0.5), by).value();
  test::toy_network const dense = net;
  auto const data = [](test::toy_network const&, auto&) -> result<void> { return {}; };
  auto const done = prune_in_stages(net, mixed_n_of_m<select_by<magnitude>>{}, unstructured{}, shares, data).value();
  index_t kept_weights = 0;
  std::vector<index_t> n;
  for (std::size_t l = 0; l < 4; ++l) {
    n.push_back(std::lround(8 * (1.0 - shares[l].value)));
    mask const expected = select(score(dense.parts[l].weight(), magnitude{}), any_pattern({1, 1}, n.back(), 8));
    CHECK(kept(net.parts[l].weights()) == expected);
    kept_weights += done[l].kept;
  }
  // Densities a window of 4/8 apart: t, t + 4/8, t, t with a mean of 4/8.
  CHECK(n == std::vector<index_t>{3, 7, 3, 3});
  CHECK(kept_weights == 4 * 12 * 16 / 2);

  {
    test::toy_network odd;
    odd.parts.emplace_back("odd", test::random_matrix(random, {4, 12}));
    odd.parts.emplace_back("last", test::random_matrix(random, {4, 4}));
    std::vector<sparsity> const half{sparsity(0.5)};
    auto const e = prune_in_stages(odd, mixed_n_of_m<select_by<magnitude>>{}, unstructured{}, half, data).error();
    CHECK(e.code == errc::pattern_misfit);
    CHECK(e.where.find("odd") != std::string::npos);
  }
}
