// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include <pare/allocate/erk.hpp>
#include <pare/allocate/global.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::index_t;
using pare::layer_info;
using pare::mask;
using pare::matrix;
using pare::sparsity;

namespace {

layer_info layer(std::vector<index_t> dims) {
  layer_info info{"layer", std::move(dims), 0, {}};
  info.units = info.size();
  return info;
}

double kept(std::vector<layer_info> const& layers, std::vector<sparsity> const& shares) {
  double sum = 0.0;
  for (std::size_t l = 0; l < layers.size(); ++l)
    sum += (1.0 - shares[l].value) * static_cast<double>(layers[l].size());
  return sum;
}

}  // namespace

TEST_CASE("uniform: gives every layer the target") {
  auto const shares = pare::uniform{}.allocate({layer({3, 4}), layer({5, 6})}, sparsity{0.3});
  CHECK(shares == std::vector<sparsity>{sparsity{0.3}, sparsity{0.3}});
}

TEST_CASE("erk: solves the formula, two linear layers worked by hand") {
  // (out + in) / (out * in): 30/200 and 70/1200. For density 0.4: eps = 0.4 * 1400 / (30 + 70) = 5.6.
  auto const shares = pare::erk{}.allocate({layer({10, 20}), layer({30, 40})}, sparsity{0.6});
  CHECK(1.0 - shares[0].value == Approx(5.6 * 30.0 / 200.0).epsilon(1e-12));
  CHECK(1.0 - shares[1].value == Approx(5.6 * 70.0 / 1200.0).epsilon(1e-12));
}

TEST_CASE("erk: a layer whose density would pass 1 stays dense, and the others pay for it") {
  // For density 0.5: eps = 7 would give the first 1.05. Dense it takes 200 of the 700; the second gets 500 of its 1200.
  auto const shares = pare::erk{}.allocate({layer({10, 20}), layer({30, 40})}, sparsity{0.5});
  CHECK(shares[0].value == 0.0);
  CHECK(1.0 - shares[1].value == Approx(500.0 / 1200.0).epsilon(1e-12));
}

TEST_CASE("erk: counts the kernel's extents of a convolution") {
  // (8, 4, 3, 3): 18/288; (16, 8, 1, 1): 26/128. For density 0.2: eps = 0.2 * 416 / (18 + 26).
  auto const shares = pare::erk{}.allocate({layer({8, 4, 3, 3}), layer({16, 8, 1, 1})}, sparsity{0.8});
  double const eps = 0.2 * 416.0 / 44.0;
  CHECK(1.0 - shares[0].value == Approx(eps * 18.0 / 288.0).epsilon(1e-12));
  CHECK(1.0 - shares[1].value == Approx(eps * 26.0 / 128.0).epsilon(1e-12));
}

TEST_CASE("erk: meets its budget for any network and any target") {
  pare::random_source random(31);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<layer_info> layers;
    double all = 0.0;
    for (index_t n = 1 + random.below(8); n > 0; --n) {
      layers.push_back(layer({1 + random.below(random.uniform() < 0.3f ? 4 : 300), 1 + random.below(300)}));
      all += static_cast<double>(layers.back().size());
    }
    double const s = trial == 0 ? 0.0 : trial == 1 ? 1.0 : static_cast<double>(random.uniform());
    auto const shares = pare::erk{}.allocate(layers, sparsity{s});
    INFO("trial " << trial << " sparsity " << s);
    REQUIRE(shares.size() == layers.size());
    REQUIRE(kept(layers, shares) == Approx((1.0 - s) * all).epsilon(1e-9).margin(1e-9));
  }
}

TEST_CASE("erk: no layers and layers without weights are no harm") {
  CHECK(pare::erk{}.allocate({}, sparsity{0.5}).empty());
  auto const shares = pare::erk{}.allocate({layer({0, 5}), layer({4, 5})}, sparsity{0.5});
  CHECK(shares[1].value == Approx(0.5));
}

TEST_CASE("global: each layer's share selects the very masks of select_network") {
  pare::random_source random(32);
  for (double const s : {0.0, 0.1, 0.37, 0.5, 0.93, 1.0}) {
    std::vector<matrix<float>> scores;
    std::vector<pare::matrix_span<float const>> views;
    std::vector<layer_info> layers;
    for (pare::extents const shape : {pare::extents{6, 8}, pare::extents{12, 4}, pare::extents{2, 64}}) {
      scores.push_back(pare::test::random_matrix(random, shape));
      for (index_t i = 0; i < scores.back().size(); ++i)  // ties as well
        if (random.uniform() < 0.3f) scores.back().data()[i] = 0.0f;
    }
    for (auto const& m : scores) {
      views.push_back(m.span());
      layers.push_back(layer({m.rows(), m.cols()}));
      layers.back().scores = m.span();
    }
    auto const shares = pare::global{}.allocate(layers, sparsity{s});
    std::vector<mask> masks;
    for (std::size_t l = 0; l < scores.size(); ++l)
      masks.push_back(pare::select(scores[l], pare::unstructured{}, shares[l]));
    CHECK(masks == pare::select_network(views, pare::unstructured{}, sparsity{s}));
  }
}

TEST_CASE("global: scores of another number of units are a contract violation") {
  matrix<float> const scores(2, 3);
  auto wrong = layer({4, 4});
  wrong.scores = scores.span();
  CHECK_THROWS_AS(pare::global{}.allocate({wrong}, sparsity{0.5}), pare::contract_violation);
}
