// SPDX-License-Identifier: Apache-2.0
// Whole heads and feed-forward channels of a Llama: FLAP's scores in double, its choice, and what is left.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include <pare/io/save_pruned.hpp>
#include <pare/nn/feed.hpp>
#include <pare/prune/structured_llama.hpp>
#include <pare/prune/tensors_to_save.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/samples.hpp"
#include "unit/io_scratch.hpp"

using namespace pare;

namespace {

using moments = calibration<flap_pruner::needs>;

llama some_llama(bool biases) { return test::load<llama>(test::random_llama({.layers = 3, .biases = biases})).value(); }

std::vector<std::vector<int>> texts() {
  random_source random(15);
  std::vector<std::vector<int>> out(6);
  for (auto& t : out)
    for (int i = 0; i < 30; ++i) t.push_back(static_cast<int>(random.below(23)));
  return out;
}

struct recorder {
  std::map<linear const*, std::vector<matrix<float>>> seen;
  void operator()(linear const& layer, matrix_span<float const> x) { seen[&layer].emplace_back(x); }
};

/// FLAP's scores from the inputs themselves: u is a unit's first channel of `layer`, `width` how many it has.
std::vector<double> slow_scores(linear const& layer, std::vector<matrix<float>> const& inputs, bool squared,
                                index_t width) {
  std::vector<double> z;
  for (index_t j = 0; j < layer.shape().cols; ++j) {
    double n = 0.0, mean = 0.0, variance = 0.0, weight = 0.0;
    for (auto const& x : inputs)
      for (index_t t = 0; t < x.cols(); ++t, ++n) mean += static_cast<double>(x(j, t));
    mean /= n;
    for (auto const& x : inputs)
      for (index_t t = 0; t < x.cols(); ++t) variance += std::pow(static_cast<double>(x(j, t)) - mean, 2.0) / n;
    for (index_t i = 0; i < layer.shape().rows; ++i) weight += std::pow(static_cast<double>(layer.weight()(i, j)), 2.0);
    z.push_back(std::pow(variance * weight, squared ? 2.0 : 1.0));
  }
  double const n = static_cast<double>(z.size());
  double mean = 0.0, squares = 0.0;
  for (double const v : z) mean += v / n;
  for (double const v : z) squares += (v - mean) * (v - mean);
  std::vector<double> out;
  for (std::size_t first = 0; first < z.size(); first += static_cast<std::size_t>(width)) {
    double sum = 0.0;
    for (std::size_t j = first; j < first + static_cast<std::size_t>(width); ++j)
      sum += (z[j] - mean) / std::sqrt(squares / (n - 1.0));
    out.push_back(sum / static_cast<double>(width));
  }
  return out;
}

matrix<float> logits_of(llama const& net) {
  std::vector<int> const tokens{1, 7, 3, 22, 0, 5, 9};
  matrix<float> out(7, net.config().vocab_size);
  net.forward(tokens, out.span());
  return out;
}

}  // namespace

TEST_CASE("flap_pruner: its scores and its choice are the published ones, in double") {
  llama const dense = some_llama(true);
  auto const data = texts();
  moments stats(dense);
  recorder record;
  REQUIRE(feed(dense, std::span<std::vector<int> const>(data), stats));
  REQUIRE(feed(dense, std::span<std::vector<int> const>(data), record));
  auto const layers = dense.layers();
  auto const scores = flap_pruner{}.scores(dense, stats);
  REQUIRE(scores.size() == 6);
  struct unit {
    double score, cost;
    std::size_t group, number;
  };
  std::vector<unit> pool;
  for (std::size_t g = 0; g < 6; ++g) {
    std::size_t const l = g / 2 * 7 + (g % 2 == 0 ? 3 : 6);
    // 4 query heads of 6 channels, two for each key head; 14 channels; the hidden size is 10.
    auto const expected = slow_scores(*layers[l], record.seen[layers[l]], g % 2 == 0, g % 2 == 0 ? 12 : 1);
    REQUIRE(scores[g].size() == expected.size());
    REQUIRE(scores[g].size() == (g % 2 == 0 ? 2 : 14));
    for (std::size_t u = 0; u < expected.size(); ++u) {
      CHECK(scores[g][u] == Approx(expected[u]).margin(1e-5));
      pool.push_back({expected[u], g % 2 == 0 ? 12.0 * 10 * 2 + 6.0 * 10 * 2 : 3.0 * 10, g, u});
    }
  }
  std::stable_sort(pool.begin(), pool.end(), [](unit const& a, unit const& b) { return a.score < b.score; });

  for (double const target : {0.0, 0.12, 0.3, 0.5}) {
    llama net = dense;
    auto const done = flap_pruner{}.prune(net, sparsity(target), stats).value();
    REQUIRE(done.size() == 21);
    double all = 0.0, best = 1e9;
    for (unit const& u : pool) all += u.cost;
    CHECK(all == 3.0 * 7 * 10 * (24 + 24 + 12 + 12 + 14 + 14 + 14) / 7);
    std::size_t count = 0;  // the number of removed units that comes nearest
    double gone = 0.0;
    for (std::size_t n = 0; n <= pool.size(); gone += n < pool.size() ? pool[n].cost : 0.0, ++n)
      if (std::abs(gone - target * all) < best) best = std::abs(gone - target * all), count = n;
    std::vector<mask> expected;
    for (linear const* l : layers) expected.emplace_back(l->shape(), true);
    for (std::size_t n = 0; n < count; ++n) {
      std::size_t const q = pool[n].group / 2 * 7;
      auto const u = static_cast<index_t>(pool[n].number);
      auto const rows = [&](std::size_t l, index_t width) {
        for (index_t i = u * width; i < (u + 1) * width; ++i)
          for (index_t j = 0; j < expected[l].cols(); ++j) expected[l].set(i, j, false);
      };
      auto const columns = [&](std::size_t l, index_t width) {
        for (index_t j = u * width; j < (u + 1) * width; ++j)
          for (index_t i = 0; i < expected[l].rows(); ++i) expected[l].set(i, j, false);
      };
      if (pool[n].group % 2 == 0) {
        rows(q, 12), rows(q + 1, 6), rows(q + 2, 6), columns(q + 3, 12);
      } else {
        rows(q + 4, 1), rows(q + 5, 1), columns(q + 6, 1);
      }
    }
    for (std::size_t l = 0; l < 22; ++l) CHECK(kept(net.layers()[l]->weights()) == expected[l]);
    for (std::size_t l = 0; l < done.size(); ++l) CHECK(done[l].kept == expected[l].count());
    CHECK((target == 0.0) == (count == 0));
  }
}

TEST_CASE("flap_pruner: outputs keep their mean over the data, with biases and without") {
  for (bool const biases : {false, true}) {
    llama const dense = some_llama(biases);
    auto const data = texts();
    moments stats(dense);
    recorder record;
    REQUIRE(feed(dense, std::span<std::vector<int> const>(data), stats));
    REQUIRE(feed(dense, std::span<std::vector<int> const>(data), record));
    llama net = dense;
    REQUIRE(flap_pruner{}.prune(net, sparsity(0.3), stats));
    index_t removed = 0;
    for (std::size_t const l : {3u, 6u, 10u, 13u}) {
      linear const& was = *dense.layers()[l];
      linear const& is = *net.layers()[l];
      removed += is.shape().size() - is.weights().nnz();
      std::vector<double> difference(static_cast<std::size_t>(was.shape().rows), 0.0);
      double n = 0.0;
      for (auto const& x : record.seen[&was]) {
        matrix<float> before(was.shape().rows, x.cols()), after(was.shape().rows, x.cols());
        was.forward(x.span(), before.span());
        is.forward(x.span(), after.span());
        n += static_cast<double>(x.cols());
        for (index_t i = 0; i < before.rows(); ++i)
          for (index_t t = 0; t < x.cols(); ++t)
            difference[static_cast<std::size_t>(i)] +=
                static_cast<double>(after(i, t)) - static_cast<double>(before(i, t));
      }
      for (double const d : difference) CHECK(std::abs(d / n) < 1e-5);
    }
    CHECK(removed > 0);

    llama plain = dense;
    REQUIRE(flap_pruner{.compensate = false}.prune(plain, sparsity(0.3), stats));
    for (std::size_t l = 0; l < 22; ++l) {
      CHECK(plain.layers()[l]->bias() == dense.layers()[l]->bias());
      CHECK(kept(plain.layers()[l]->weights()) == kept(net.layers()[l]->weights()));
    }
    // What is gone is read by nobody: with the columns of o and down alone the network computes the same.
    llama columns = dense;
    for (std::size_t l = 0; l < 21; ++l)
      if (l % 7 == 3 || l % 7 == 6) columns.layers()[l]->keep(kept(plain.layers()[l]->weights()));
    CHECK(test::same_bits(logits_of(plain), logits_of(columns)));
    CHECK_FALSE(test::same_bits(logits_of(plain), logits_of(dense)));
  }
}

TEST_CASE("prune_units: errors leave the network as it was") {
  llama net = some_llama(false);
  auto const before = logits_of(net);
  moments const nothing(net);
  auto scores = flap_pruner{}.scores(net, nothing);
  CHECK(flap_pruner{}.prune(net, sparsity(0.3), nothing).error().code == errc::missing);
  scores[1][2] = std::nan("");
  CHECK(prune_units(net, scores, sparsity(0.3)).error().code == errc::not_finite);
  CHECK(test::same_bits(logits_of(net), before));
  scores.pop_back();
  CHECK_THROWS_AS(prune_units(net, scores, sparsity(0.3)), contract_violation);
}

TEST_CASE("tensors_to_save: a network whose biases make up for what is gone is read back as it is") {
  for (bool const biases : {false, true}) {
    auto const f = test::random_llama({.layers = 3, .biases = biases});
    test::scratch_folder const folder;
    f.write_to(folder / "model");
    auto const file = checkpoint::open(folder / "model").value();
    auto net = llama::load(file).value();
    moments stats(net);
    auto const data = texts();
    REQUIRE(feed(net, std::span<std::vector<int> const>(data), stats));
    auto const done = flap_pruner{}.prune(net, sparsity(0.3), stats).value();
    for (save_form const form : {save_form::sparse_bitmask, save_form::dense}) {
      INFO("biases " << biases);
      tensors_to_save const changed(net, done);
      auto const out = folder / (form == save_form::dense ? "dense" : "sparse");
      REQUIRE(save_pruned(folder / "model", out, changed.weights(), form, changed.config(file)));
      auto const written = checkpoint::open(out).value();
      CHECK(written.config()["attention_bias"] == true);
      CHECK(written.config()["mlp_bias"] == true);
      CHECK(test::same_bits(logits_of(llama::load(written).value()), logits_of(net)));
      CHECK(written.read_vector("model.layers.2.mlp.down_proj.bias", net.config().hidden_size).value() ==
            net.layers()[20]->bias());
    }
  }
  // Only what has a weight beside it is added.
  auto const f = test::random_llama({.biases = false});
  test::scratch_folder const folder;
  f.write_to(folder / "model");
  matrix<float> const values(f.tensors.at("model.norm.weight").shape[0], 1);
  for (char const* name : {"model.layers.0.mlp.up_proj.bias", "model.other.bias", "model.norm.other"}) {
    pruned_weight const one{name, values.span()};
    auto const saved = save_pruned(folder / "model", folder / "out", std::span(&one, 1), save_form::dense);
    REQUIRE_FALSE(saved);
    CHECK(saved.error().code == errc::missing);
  }
}
