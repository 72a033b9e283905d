// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <pare/allocate/cfsp.hpp>
#include <pare/allocate/drop_blocks.hpp>
#include <pare/allocate/er.hpp>
#include <pare/allocate/erk.hpp>
#include <pare/allocate/flap.hpp>
#include <pare/allocate/global.hpp>
#include <pare/allocate/importance_order.hpp>
#include <pare/allocate/lamp.hpp>
#include <pare/allocate/owl.hpp>
#include <pare/allocate/position.hpp>
#include <pare/allocate/proportional.hpp>
#include <pare/allocate/table.hpp>
#include <pare/allocate/uniform_plus.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::index_t;
using pare::layer_info;
using pare::mask;
using pare::matrix;
using pare::sparsity;

namespace {

layer_info layer(std::vector<index_t> dims) {
  layer_info info{"layer", std::move(dims), 0, {}, -1};
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

namespace {

/// `n` layers of random shapes, in blocks of `per_block` (0: each on its own).
std::vector<layer_info> random_layers(pare::random_source& random, index_t n, index_t per_block = 0) {
  std::vector<layer_info> out;
  for (index_t l = 0; l < n; ++l) {
    out.push_back(layer({1 + random.below(40), 1 + random.below(40)}));
    if (per_block > 0) out.back().group = l / per_block;
  }
  return out;
}

double size_of_all(std::vector<layer_info> const& layers) {
  double all = 0.0;
  for (layer_info const& l : layers) all += static_cast<double>(l.size());
  return all;
}

/// The root t of sum clamp(line(t)) = budget by halving, for lines of any slope >= 0.
std::vector<double> bisected(std::vector<pare::detail::kept_line> const& lines, double budget) {
  double low = -1e9;
  double high = 1e9;
  auto const kept_at = [&](double t) {
    std::vector<double> kept;
    for (auto const& l : lines) kept.push_back(std::min(std::max(l.from + l.slope * t, l.least), l.most));
    return kept;
  };
  for (int i = 0; i < 200; ++i) {
    double const t = 0.5 * (low + high);
    double total = 0.0;
    for (double const k : kept_at(t)) total += k;
    (total < budget ? low : high) = t;
  }
  return kept_at(high);
}

}  // namespace

TEST_CASE("er: counts two dims of a convolution, and is erk for linear layers") {
  // (8, 4, 3, 3): 12/32; (16, 8, 1, 1): 24/128. For density 0.2: eps = 0.2 * 416 / (288 * 12/32 + 24).
  auto const shares = pare::er{}.allocate({layer({8, 4, 3, 3}), layer({16, 8, 1, 1})}, sparsity{0.8});
  double const eps = 0.2 * 416.0 / (288.0 * 12.0 / 32.0 + 24.0);
  CHECK(1.0 - shares[0].value == Approx(eps * 12.0 / 32.0).epsilon(1e-12));
  CHECK(1.0 - shares[1].value == Approx(eps * 24.0 / 128.0).epsilon(1e-12));
  pare::random_source random(33);
  auto const layers = random_layers(random, 6);
  CHECK(pare::er{}.allocate(layers, sparsity{0.7}) == pare::erk{}.allocate(layers, sparsity{0.7}));
}

TEST_CASE("erk, er: a convolution that both make dense takes its weights from the rest") {
  std::vector<layer_info> const layers{layer({4, 3, 3, 3}), layer({64, 64, 3, 3})};
  for (auto const& shares : {pare::erk{}.allocate(layers, sparsity{0.5}), pare::er{}.allocate(layers, sparsity{0.5})}) {
    CHECK(shares[0].value == 0.0);
    CHECK(kept(layers, shares) == Approx(0.5 * (108.0 + 36864.0)).epsilon(1e-12));
  }
}

TEST_CASE("meet_budget: finds the root that halving finds, for shifts and for scales") {
  pare::random_source random(34);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<pare::detail::kept_line> lines;
    double least = 0.0;
    double most = 0.0;
    for (index_t n = 1 + random.below(9); n > 0; --n) {
      double const size = static_cast<double>(1 + random.below(1000));
      double const low = random.uniform() < 0.3f ? 0.0 : 0.1 * size;
      bool const scale = trial % 2 == 0;
      double const wanted = random.uniform() < 0.2f ? 0.5 : static_cast<double>(random.uniform()) + 0.01;
      lines.push_back({scale ? 0.0 : wanted * size, scale ? wanted * size : size, low, size});
      least += low;
      most += size;
    }
    double const part = trial % 7 == 0 ? 0.0 : trial % 11 == 0 ? 1.0 : static_cast<double>(random.uniform());
    double const budget = least + part * (most - least);
    auto const fast = pare::detail::meet_budget(lines, budget);
    auto const slow = bisected(lines, budget);
    double total = 0.0;
    for (std::size_t l = 0; l < lines.size(); ++l) {
      INFO("trial " << trial << " line " << l);
      REQUIRE(fast[l] == Approx(slow[l]).margin(1e-5));
      REQUIRE(fast[l] >= lines[l].least);
      REQUIRE(fast[l] <= lines[l].most);
      total += fast[l];
    }
    REQUIRE(total == Approx(budget).margin(1e-9));
  }
}

TEST_CASE("uniform_plus: a dense first layer, a last one of density 0.2 in very sparse networks, the rest by hand") {
  std::vector<layer_info> const layers{layer({2, 5}), layer({10, 20}), layer({15, 20}), layer({10, 10})};  // 610
  auto const half = pare::uniform_plus{}.allocate(layers, sparsity{0.5});
  CHECK(half[0].value == 0.0);
  for (std::size_t l = 1; l < 4; ++l) CHECK(half[l].value == Approx(305.0 / 600.0).epsilon(1e-12));
  auto const sparse = pare::uniform_plus{}.allocate(layers, sparsity{0.9});  // 549 go: 80 of the last, 469 of the rest
  CHECK(sparse[0].value == 0.0);
  CHECK(sparse[1].value == Approx(469.0 / 500.0).epsilon(1e-12));
  CHECK(sparse[2] == sparse[1]);
  CHECK(sparse[3].value == Approx(0.8).epsilon(1e-12));
  CHECK(kept(layers, sparse) == Approx(61.0).epsilon(1e-12));
}

TEST_CASE("uniform_plus: uniform where the two layers alone keep too much, or there is no other") {
  // Density 0.04 of 310 is 12.4, but 10 of the first and 0.2 * 100 of the last are 30.
  std::vector<layer_info> const layers{layer({2, 5}), layer({10, 20}), layer({10, 10})};
  CHECK(pare::uniform_plus{}.allocate(layers, sparsity{0.96}) == std::vector<sparsity>(3, sparsity{0.96}));
  CHECK(pare::uniform_plus{}.allocate({layer({2, 5})}, sparsity{0.5}) == std::vector<sparsity>(1, sparsity{0.5}));
  CHECK(pare::uniform_plus{}.allocate({}, sparsity{0.5}).empty());
  for (sparsity const s : pare::uniform_plus{}.allocate(layers, sparsity{0.0})) CHECK(s.value == 0.0);
}

namespace {

std::vector<layer_info> named_layers() {
  std::vector<layer_info> layers{layer({10, 10}), layer({10, 20}), layer({10, 30})};
  layers[0].name = "text.q";
  layers[1].name = "unet.a";
  layers[2].name = "unet.b";
  return layers;
}

}  // namespace

TEST_CASE("table: entries by pattern, the first that matches; the rest makes the target, by hand") {
  // 0.5 * 600 = 300 go: 40 of the first, 180 of the last, so 80 of the 200 of the second.
  pare::table const by{{{"unet.b", sparsity{0.6}}, {"text.*", sparsity{0.4}}, {"*.b", sparsity{0.1}}}};
  auto const shares = by.allocate(named_layers(), sparsity{0.5}).value();
  CHECK(shares[0].value == 0.4);
  CHECK(shares[1].value == Approx(80.0 / 200.0).epsilon(1e-12));
  CHECK(shares[2].value == 0.6);
  CHECK(pare::table{}.allocate(named_layers(), sparsity{0.3}).value()[2].value == Approx(0.3).epsilon(1e-12));
}

TEST_CASE("table: entries that match no layer, or leave no room for the target, are errors that say so") {
  auto const layers = named_layers();
  auto const lost = pare::table{{{"vae.*", sparsity{0.4}}}}.allocate(layers, sparsity{0.5});
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code == pare::errc::missing);
  CHECK(lost.error().message().find("vae.*") != std::string::npos);

  // 0.9 * 600 = 540 cannot go where 300 of them lose nothing; 0.1 * 600 are fewer than 0.9 of the first.
  for (auto const& [share, target] : {std::pair{0.0, 0.9}, std::pair{0.9, 0.1}}) {
    auto const no = pare::table{{{"unet.b", sparsity{share}}}}.allocate(layers, sparsity{target});
    REQUIRE_FALSE(no);
    CHECK(no.error().code == pare::errc::out_of_range);
    CHECK(no.error().message().find("text.q, unet.a") != std::string::npos);
  }
  // All layers listed: the table must make the target itself.
  pare::table const all{{{"text.*", sparsity{0.475}}, {"unet.*", sparsity{0.35}}}};
  CHECK_FALSE(all.allocate(layers, sparsity{0.5}));
  CHECK(all.allocate(layers, sparsity{(47.5 + 175.0) / 600.0}));
}

TEST_CASE("position: later blocks lose more, by hand, in proportion to their place") {
  // Three blocks of 100, 100 and 200 with 0, 0.1, 0.2 more than t: 400 t + 10 + 40 = 200.
  std::vector<layer_info> layers{layer({10, 10}), layer({10, 10}), layer({10, 10}), layer({10, 10})};
  layers[0].group = 0, layers[1].group = 3, layers[2].group = 4, layers[3].group = 4;
  auto const shares = pare::position{.span = 0.2}.allocate(layers, sparsity{0.5});
  for (auto const& [l, s] : {std::pair{0, 0.375}, std::pair{1, 0.475}, std::pair{2, 0.575}, std::pair{3, 0.575}})
    CHECK(shares[static_cast<std::size_t>(l)].value == Approx(s).epsilon(1e-12));
  auto const reversed = pare::position{.span = -0.2}.allocate(layers, sparsity{0.5});
  CHECK(reversed[0].value > reversed[1].value);
  CHECK(kept(layers, reversed) == Approx(200.0).epsilon(1e-10));
}

TEST_CASE("bounds: what a cut layer cannot take the others share; a target outside them is uniform") {
  std::vector<layer_info> const layers{layer({10, 10}), layer({10, 10}), layer({10, 10})};
  // 0.1, 0.5, 0.9 cut to [0.3, 0.7] sum to 1.5 as they are. With 0.6 as the highest the first two share what is
  // missing: 0.3 (cut) and 0.6 (cut) leave 0.6 for the second.
  pare::position const wide{.span = 0.8, .bounds = {0.3, 0.6}};
  auto const shares = wide.allocate(layers, sparsity{0.5});
  CHECK(shares[0].value == Approx(0.3).epsilon(1e-10));
  CHECK(shares[1].value == Approx(0.6).epsilon(1e-10));
  CHECK(shares[2].value == Approx(0.6).epsilon(1e-10));
  CHECK(wide.allocate(layers, sparsity{0.7}) == std::vector<sparsity>(3, sparsity{0.7}));
  CHECK(wide.allocate(layers, sparsity{0.2}) == std::vector<sparsity>(3, sparsity{0.2}));
  CHECK_THROWS_AS((pare::position{.bounds = {0.6, 0.3}}.allocate(layers, sparsity{0.5})), pare::contract_violation);
  CHECK_THROWS_AS(pare::position{.span = 1.5}.allocate(layers, sparsity{0.5}), pare::contract_violation);
}

TEST_CASE("importance_order: only the order counts; equal importances share a rank") {
  std::vector<layer_info> const layers{layer({10, 10}), layer({10, 10}), layer({10, 10}), layer({10, 10})};
  pare::importance_order by{.importances = {3.0, 1e9, 3.0, -5.0}, .span = 0.2};
  // Ranks 1/2, 1, 1/2, 0: sparsities t - 0.1, t - 0.2, t - 0.1, t with 4 t - 0.4 = 2.
  auto const shares = by.allocate(layers, sparsity{0.5});
  CHECK(shares[0].value == Approx(0.5).epsilon(1e-10));
  CHECK(shares[1].value == Approx(0.4).epsilon(1e-10));
  CHECK(shares[2] == shares[0]);
  CHECK(shares[3].value == Approx(0.6).epsilon(1e-10));
  by.importances = {0.2, 0.3, 0.2, 0.1};
  CHECK(by.allocate(layers, sparsity{0.5}) == shares);
  by.importances = {0.2, 0.3, 0.2};
  CHECK_THROWS_AS(by.allocate(layers, sparsity{0.5}), pare::contract_violation);
  by.importances = {0.2, std::nan(""), 0.2, 0.1};
  CHECK_THROWS_AS(by.allocate(layers, sparsity{0.5}), pare::contract_violation);
}

TEST_CASE("importances: one a block stands for all of its layers") {
  pare::random_source random(35);
  auto const layers = random_layers(random, 6, 3);
  auto const two = pare::importance_order{.importances = {2.0, 1.0}}.allocate(layers, sparsity{0.6});
  CHECK(two == pare::importance_order{.importances = {2.0, 2.0, 2.0, 1.0, 1.0, 1.0}}.allocate(layers, sparsity{0.6}));
  CHECK(two[3].value > two[2].value);
}

TEST_CASE("proportional: kept weights follow the importances, by hand, and a full layer's surplus goes to the others") {
  std::vector<layer_info> const layers{layer({10, 10}), layer({10, 20}), layer({10, 30})};
  // 150 kept as 1 : 2 : 3.
  auto const free = pare::proportional{.importances = {1.0, 2.0, 3.0}}.allocate(layers, sparsity{0.75});
  for (sparsity const s : free) CHECK(s.value == Approx(0.75).epsilon(1e-10));
  // 300 kept as 8 : 1 : 1: the first has 100 only, the others 100 each.
  auto const capped = pare::proportional{.importances = {8.0, 1.0, 1.0}}.allocate(layers, sparsity{0.5});
  CHECK(capped[0].value == 0.0);
  CHECK(capped[1].value == Approx(0.5).epsilon(1e-10));
  CHECK(capped[2].value == Approx(2.0 / 3.0).epsilon(1e-10));
  // Importance 0: nothing, as long as the others have room (150 of 300); then what is left of 450, by size.
  pare::proportional const two{.importances = {1.0, 0.0, 0.0}};
  CHECK(two.allocate(layers, sparsity{1.0 - 60.0 / 600.0})[1].value == 1.0);
  auto const rest = two.allocate(layers, sparsity{0.25});
  CHECK(rest[0].value == 0.0);
  CHECK(rest[1].value == Approx(0.3).epsilon(1e-10));
  CHECK(rest[2].value == Approx(0.3).epsilon(1e-10));
  CHECK_THROWS_AS((pare::proportional{.importances = {1.0, -1.0, 1.0}}.allocate(layers, sparsity{0.5})),
                  pare::contract_violation);
}

TEST_CASE("proportional: a block's importance is that of all its layers together, which have one sparsity") {
  std::vector<layer_info> layers{layer({10, 10}), layer({10, 30}), layer({10, 20})};
  layers[0].group = 7, layers[1].group = 7, layers[2].group = 2;
  // 120 kept as 3 : 1: 90 of the 400 of the first block, 30 of the 200 of the other.
  auto const shares = pare::proportional{.importances = {3.0, 1.0}}.allocate(layers, sparsity{0.8});
  CHECK(shares[0].value == Approx(1.0 - 90.0 / 400.0).epsilon(1e-10));
  CHECK(shares[1].value == Approx(1.0 - 90.0 / 400.0).epsilon(1e-10));
  CHECK(shares[2].value == Approx(1.0 - 30.0 / 200.0).epsilon(1e-10));
}

namespace {

/// Layers with scores that they own.
struct scored {
  std::vector<matrix<float>> scores;
  std::vector<layer_info> layers;

  void add(matrix<float> s, index_t group = -1) {
    scores.push_back(std::move(s));
    layers.push_back(layer({scores.back().rows(), scores.back().cols()}));
    layers.back().group = group;
    for (std::size_t l = 0; l < layers.size(); ++l) layers[l].scores = scores[l].span();
  }
};

matrix<float> row_of(std::vector<float> const& values) {
  matrix<float> m(1, static_cast<index_t>(values.size()));
  for (std::size_t i = 0; i < values.size(); ++i) m.data()[i] = values[i];
  return m;
}

/// Magnitudes, with ties and zeros, and tiny or huge ones.
matrix<float> magnitudes(pare::random_source& random, pare::extents shape, float scale) {
  auto m = pare::test::random_matrix(random, shape);
  for (index_t i = 0; i < m.size(); ++i) {
    float const u = random.uniform();
    m.data()[i] = u < 0.1f ? 0.0f : u < 0.3f ? scale : scale * std::abs(m.data()[i]);
  }
  return m;
}

scored random_scored(pare::random_source& random, index_t per_block) {
  scored net;
  float const scales[] = {1.0f, 1e-10f, 1e6f};
  for (index_t l = 0; l < 6; ++l) {
    pare::extents const shape{1 + random.below(l == 1 ? 1 : 12), 1 + random.below(l == 2 ? 1 : 20)};
    net.add(magnitudes(random, shape, scales[random.below(3)]), per_block > 0 ? l / per_block : -1);
  }
  net.add(matrix<float>(3, 4), per_block > 0 ? 6 / per_block : -1);  // all zero
  return net;
}

}  // namespace

TEST_CASE("owl: the more outliers, the denser, by hand") {
  scored net;
  net.add(row_of({1, 1, 1, 9}));              // mean 3: one above 2 * 3
  net.add(row_of({1, 1, 1, 1}));              // none
  net.add(row_of({1, 1, 1, 1, 1, 1, 1, 9}));  // mean 2: one of eight
  // Ratios 1/4, 0, 1/8 in a window of 0.2: densities t + 0.2, t, t + 0.1 with 4 (t + 0.2) + 4 t + 8 (t + 0.1) = 8.
  auto const shares = pare::owl{.outlier = 2.0, .window = 0.1}.allocate(net.layers, sparsity{0.5});
  CHECK(shares[0].value == Approx(0.4).epsilon(1e-10));
  CHECK(shares[1].value == Approx(0.6).epsilon(1e-10));
  CHECK(shares[2].value == Approx(0.5).epsilon(1e-10));
  // As one block, the first two pool: 17 / 8 is the mean, of which 4.25 is the double: one of eight, as the third.
  net.layers[0].group = net.layers[1].group = 0;
  net.layers[2].group = 1;
  for (sparsity const s : pare::owl{.outlier = 2.0, .window = 0.1}.allocate(net.layers, sparsity{0.5}))
    CHECK(s.value == Approx(0.5).epsilon(1e-10));
}

TEST_CASE("owl: is its formula, in blocks or not, where no bound cuts, and meets its target where they do") {
  pare::random_source random(36);
  for (int trial = 0; trial < 60; ++trial) {
    auto const net = random_scored(random, trial % 3);
    pare::owl const by{.outlier = 1.5, .window = trial % 2 == 0 ? 0.08 : 0.7};
    auto const shares = by.allocate(net.layers, sparsity{0.6});
    std::vector<double> ratios;  // a layer's, of its block
    for (layer_info const& mine : net.layers) {
      double sum = 0.0, count = 0.0, above = 0.0;
      for (int pass = 0; pass < 2; ++pass)
        for (layer_info const& other : net.layers)
          if (&other == &mine || (mine.group >= 0 && mine.group == other.group))
            for (index_t r = 0; r < other.scores.rows; ++r)
              for (index_t c = 0; c < other.scores.cols; ++c) {
                double const s = static_cast<double>(other.scores(r, c));
                if (pass == 0) sum += s, count += 1.0;
                if (pass == 1 && s > 1.5 * sum / count) above += 1.0;
              }
      ratios.push_back(above / count);
    }
    double const low = *std::min_element(ratios.begin(), ratios.end());
    double const high = *std::max_element(ratios.begin(), ratios.end());
    REQUIRE(high > low);
    double mean = 0.0;
    for (std::size_t l = 0; l < ratios.size(); ++l) {
      ratios[l] = (ratios[l] - low) / (high - low) * 2.0 * by.window;
      mean += ratios[l] * static_cast<double>(net.layers[l].size()) / size_of_all(net.layers);
    }
    REQUIRE(kept(net.layers, shares) == Approx(0.4 * size_of_all(net.layers)).epsilon(1e-9));
    for (std::size_t l = 0; l < ratios.size(); ++l) {
      INFO("trial " << trial << " layer " << l);
      if (trial % 2 == 0) REQUIRE(1.0 - shares[l].value == Approx(ratios[l] - mean + 0.4).margin(1e-9));
      for (std::size_t k = 0; k < l; ++k)  // never against the order
        if (ratios[k] > ratios[l]) REQUIRE(shares[k].value <= shares[l].value + 1e-9);
    }
  }
}

TEST_CASE("owl: without outliers anywhere, and without layers, it is uniform; wrong scores break its contract") {
  scored net;
  net.add(row_of({1, 1, 1, 1}));
  net.add(row_of({0, 0}));
  for (sparsity const s : pare::owl{}.allocate(net.layers, sparsity{0.5})) CHECK(s.value == Approx(0.5).epsilon(1e-10));
  CHECK(pare::owl{}.allocate({}, sparsity{0.5}).empty());
  net.layers[0].units = 5;
  CHECK_THROWS_AS(pare::owl{}.allocate(net.layers, sparsity{0.5}), pare::contract_violation);
  CHECK_THROWS_AS(pare::lamp{}.allocate(net.layers, sparsity{0.5}), pare::contract_violation);
  CHECK_THROWS_AS(pare::flap{}.allocate(net.layers, sparsity{0.5}), pare::contract_violation);
}

TEST_CASE("lamp: by hand") {
  scored net;
  net.add(row_of({2, 1, 3}));     // squares 1, 4, 9: 1/14, 4/13, 1
  net.add(row_of({10, 10}));      // 1/2, 1
  net.add(row_of({0, 0, 0.5f}));  // 0, 0, 1
  // In order: 0, 0 (third), 1/14, 4/13 (first), 1/2 (second), 1 (first), 1 (second), 1 (third).
  std::vector<std::vector<index_t>> const removed{{0, 0, 0}, {0, 0, 1}, {0, 0, 2}, {1, 0, 2}, {2, 0, 2},
                                                  {2, 1, 2}, {3, 1, 2}, {3, 2, 2}, {3, 2, 3}};
  for (std::size_t n = 0; n < removed.size(); ++n) {
    auto const shares = pare::lamp{}.allocate(net.layers, pare::exactly(static_cast<index_t>(n), 8));
    for (std::size_t l = 0; l < 3; ++l) {
      INFO(n << " of the units, layer " << l);
      CHECK(shares[l].removed_of(net.layers[l].units) == removed[n][l]);
    }
  }
  // With power 1 the first layer's are 1/6, 2/5, 1.
  auto const plain = pare::lamp{.power = 1.0}.allocate(net.layers, pare::exactly(4, 8));
  CHECK(plain[0].removed_of(3) == 2);
  net.scores[0](0, 0) = -1.0f;
  CHECK_THROWS_AS(pare::lamp{}.allocate(net.layers, sparsity{0.5}), pare::contract_violation);
}

TEST_CASE("lamp: is its definition, and removes exactly floor(s n)") {
  pare::random_source random(37);
  for (int trial = 0; trial < 60; ++trial) {
    auto const net = random_scored(random, 0);
    double const s = trial == 0 ? 0.0 : trial == 1 ? 1.0 : static_cast<double>(random.uniform());
    struct unit {
      double score;
      std::size_t layer;
    };
    std::vector<unit> pool;
    for (std::size_t l = 0; l < net.scores.size(); ++l) {
      std::vector<double> squares;
      for (index_t i = 0; i < net.scores[l].size(); ++i)
        squares.push_back(std::pow(static_cast<double>(net.scores[l].data()[i]), 2));
      std::sort(squares.begin(), squares.end());
      for (std::size_t i = 0; i < squares.size(); ++i) {
        double sum = 0.0;
        for (std::size_t j = squares.size(); j-- > i;) sum += squares[j];
        pool.push_back({sum > 0.0 ? squares[i] / sum : 0.0, l});
      }
    }
    std::stable_sort(pool.begin(), pool.end(), [](unit const& a, unit const& b) { return a.score < b.score; });
    auto const n = static_cast<index_t>(s * static_cast<double>(pool.size()));
    std::vector<index_t> expected(net.layers.size(), 0);
    for (index_t i = 0; i < n; ++i) ++expected[pool[static_cast<std::size_t>(i)].layer];
    auto const shares = pare::lamp{}.allocate(net.layers, sparsity{s});
    for (std::size_t l = 0; l < expected.size(); ++l) {
      INFO("trial " << trial << " layer " << l);
      REQUIRE(shares[l].removed_of(net.layers[l].units) == expected[l]);
    }
  }
}

TEST_CASE("flap: standardised scores in one pool, by hand, with costs") {
  scored net;
  net.add(row_of({100, 200, 300}));  // z = -1, 0, 1
  net.add(row_of({0, 0, 0, 0, 5}));  // mean 1, std sqrt(5): z = -0.447 four times, 1.789
  net.add(row_of({7, 7}));           // z = 0, 0
  // In order: -1 (first), -0.447 x 4 (second), 0 (first), 0, 0 (third), 1 (first), 1.789 (second).
  std::vector<std::vector<index_t>> const removed{{0, 0, 0}, {1, 0, 0}, {1, 1, 0}, {1, 2, 0}, {1, 3, 0}, {1, 4, 0},
                                                  {2, 4, 0}, {2, 4, 1}, {2, 4, 2}, {3, 4, 2}, {3, 5, 2}};
  for (std::size_t n = 0; n < removed.size(); ++n) {
    auto const shares = pare::flap{}.allocate(net.layers, sparsity{static_cast<double>(n) / 10.0});
    for (std::size_t l = 0; l < 3; ++l) {
      INFO(n << " of the units, layer " << l);
      CHECK(shares[l].removed_of(net.layers[l].units) == removed[n][l]);
    }
  }
  // Costs 4, 1, 1 make 12 + 5 + 2 = 19 in all, cumulative 4, 5, 6, 7, 8, 12, ...: 4.5 is as near to 4 as to 5.
  pare::flap const heavy{.unit_costs = {4.0, 1.0, 1.0}};
  CHECK(heavy.allocate(net.layers, sparsity{4.5 / 19.0})[1].removed_of(5) == 0);
  CHECK(heavy.allocate(net.layers, sparsity{4.6 / 19.0})[1].removed_of(5) == 1);
  CHECK(heavy.allocate(net.layers, sparsity{1.9 / 19.0})[0].removed_of(3) == 0);
  auto const more = heavy.allocate(net.layers, sparsity{10.5 / 19.0});
  CHECK(more[0].removed_of(3) == 2);
  CHECK_THROWS_AS(pare::flap{.unit_costs = {1.0}}.allocate(net.layers, sparsity{0.5}), pare::contract_violation);
  net.scores[1](0, 0) = std::nanf("");
  CHECK_THROWS_AS(pare::flap{}.allocate(net.layers, sparsity{0.5}), pare::contract_violation);
}

TEST_CASE("flap: is its definition for random scores, and the scale of a layer does not matter") {
  pare::random_source random(38);
  for (int trial = 0; trial < 60; ++trial) {
    auto net = random_scored(random, 0);
    double const target = static_cast<double>(random.uniform());
    struct unit {
      double z;
      std::size_t layer;
    };
    std::vector<unit> pool;
    for (std::size_t l = 0; l < net.scores.size(); ++l) {
      auto const n = net.scores[l].size();
      double mean = 0.0, squares = 0.0;
      for (index_t i = 0; i < n; ++i) mean += static_cast<double>(net.scores[l].data()[i]) / static_cast<double>(n);
      for (index_t i = 0; i < n; ++i) squares += std::pow(static_cast<double>(net.scores[l].data()[i]) - mean, 2);
      double const std_ = n > 1 ? std::sqrt(squares / static_cast<double>(n - 1)) : 0.0;
      for (index_t i = 0; i < n; ++i)
        pool.push_back({std_ > 1e-12 * mean ? (static_cast<double>(net.scores[l].data()[i]) - mean) / std_ : 0.0, l});
    }
    std::stable_sort(pool.begin(), pool.end(), [](unit const& a, unit const& b) { return a.z < b.z; });
    std::size_t best = 0;
    auto const distance = [&](std::size_t k) {
      return std::abs(static_cast<double>(k) - target * static_cast<double>(pool.size()));
    };
    for (std::size_t k = 0; k <= pool.size(); ++k)
      if (distance(k) < distance(best)) best = k;
    std::vector<index_t> expected(net.layers.size(), 0);
    for (std::size_t k = 0; k < best; ++k) ++expected[pool[k].layer];
    auto const shares = pare::flap{}.allocate(net.layers, sparsity{target});
    for (std::size_t l = 0; l < expected.size(); ++l) {
      INFO("trial " << trial << " layer " << l);
      REQUIRE(shares[l].removed_of(net.layers[l].units) == expected[l]);
    }
    for (index_t i = 0; i < net.scores[0].size(); ++i) net.scores[0].data()[i] *= 1024.0f;
    CHECK(pare::flap{}.allocate(net.layers, sparsity{target}) == shares);
  }
}

TEST_CASE("cfsp: densities follow the sigmoid of the importance, by hand") {
  std::vector<layer_info> const layers{layer({10, 10}), layer({10, 10})};
  // Sigmoids of -1 and 1: 0.26894 and 0.73106, of mean 1/2; kept 0.25 in all.
  pare::cfsp const by{.importances = {2.0, 4.0}, .sharpness = 1.0};
  auto const shares = by.allocate(layers, sparsity{0.75});
  CHECK(1.0 - shares[0].value == Approx(0.268941421 / 0.5 * 0.25).epsilon(1e-8));
  CHECK(1.0 - shares[1].value == Approx(0.731058579 / 0.5 * 0.25).epsilon(1e-8));
  // At density 0.8 the larger would pass 1: it becomes 0.8 + 0.2 / 1.05.
  auto const dense = by.allocate(layers, sparsity{0.2});
  CHECK(1.0 - dense[1].value == Approx(0.8 + 0.2 / 1.05).epsilon(1e-8));
  CHECK(1.0 - dense[0].value == Approx(0.8 - 0.2 / 1.05).epsilon(1e-8));
  for (double const s : {0.0, 1.0})
    for (sparsity const share : by.allocate(layers, sparsity{s})) CHECK(share.value == Approx(s).margin(1e-10));
  pare::cfsp const wrong{.importances = {1.0, 2.0, 3.0}};
  CHECK_THROWS_AS(wrong.allocate(layers, sparsity{0.5}), pare::contract_violation);
}

TEST_CASE("cfsp: meets its target for layers of any size and importances of any spread") {
  pare::random_source random(39);
  for (int trial = 0; trial < 60; ++trial) {
    auto const layers = random_layers(random, 6, trial % 2 == 0 ? 2 : 0);
    pare::cfsp by;
    for (std::size_t l = 0; l < (trial % 2 == 0 ? 3u : 6u); ++l)
      by.importances.push_back(static_cast<double>(random.normal()) * (trial % 3 == 0 ? 100.0 : 0.1));
    double const s = static_cast<double>(random.uniform());
    auto const shares = by.allocate(layers, sparsity{s});
    INFO("trial " << trial);
    REQUIRE(kept(layers, shares) == Approx((1.0 - s) * size_of_all(layers)).epsilon(1e-9).margin(1e-9));
  }
}

TEST_CASE("drop_blocks: the least important blocks go as a whole, the lower of equal ones first") {
  pare::random_source random(40);
  auto const layers = random_layers(random, 8, 2);
  pare::drop_blocks const by{{0.5, 0.2, 0.2, 0.9}};
  std::vector<std::vector<int>> const gone{{0, 0, 0, 0}, {0, 1, 0, 0}, {0, 1, 1, 0}, {1, 1, 1, 0}, {1, 1, 1, 1}};
  for (int n = 0; n <= 4; ++n) {
    auto const shares = by.allocate(layers, sparsity{n / 4.0});
    for (std::size_t l = 0; l < 8; ++l) CHECK(shares[l].value == gone[static_cast<std::size_t>(n)][l / 2]);
  }
  CHECK(by.allocate(layers, sparsity{0.49}) == by.allocate(layers, sparsity{0.25}));
  CHECK_THROWS_AS(pare::drop_blocks{{1.0}}.allocate(layers, sparsity{0.5}), pare::contract_violation);
}

TEST_CASE("shares that are whole numbers of units stay whole under the count rule") {
  pare::random_source random(41);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<layer_info> layers;
    for (index_t n = 1 + random.below(6); n > 0; --n) layers.push_back(layer({10 * (1 + random.below(50)), 7}));
    double const s = static_cast<double>(random.below(10)) / 10.0;
    for (auto const& shares :
         {pare::position{.span = 0.0}.allocate(layers, sparsity{s}),
          pare::cfsp{.importances = std::vector<double>(layers.size(), 1.0)}.allocate(layers, sparsity{s})})
      for (std::size_t l = 0; l < layers.size(); ++l) {
        INFO("trial " << trial << " s " << s << " layer " << l);
        REQUIRE(shares[l].removed_of(layers[l].units) == std::llround(s * static_cast<double>(layers[l].units)));
      }
  }
}
