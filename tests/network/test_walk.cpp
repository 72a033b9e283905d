// SPDX-License-Identifier: Apache-2.0
// Networks run stage by stage: taps see what a whole forward pass shows them, and pruning in stages gives the same.
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <pare/calibrate/gradient_mean.hpp>
#include <pare/calibrate/gram.hpp>
#include <pare/nn/feed.hpp>
#include <pare/nn/walk.hpp>
#include <pare/prune/level_database.hpp>
#include <pare/prune/sparse_gpt.hpp>
#include <pare/prune/stages.hpp>
#include <pare/score/wanda.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/samples.hpp"

using namespace pare;

namespace {

/// All that a tap is shown, by layer.
struct recorder {
  std::map<std::string, std::vector<matrix<float>>> seen;
  void operator()(linear const& layer, matrix_span<float const> x) { seen[layer.name()].emplace_back(x); }
};

bool same(recorder const& a, recorder const& b) {
  if (a.seen.size() != b.seen.size()) return false;
  for (auto const& [name, batches] : a.seen) {
    auto const other = b.seen.find(name);
    if (other == b.seen.end() || other->second.size() != batches.size()) return false;
    for (std::size_t i = 0; i < batches.size(); ++i)
      if (!test::same_bits(batches[i], other->second[i])) return false;
  }
  return true;
}

template <class N>
std::size_t stages_of(N const& net) {
  return stage_of<N>(net.layers().size() - 1) + 1;
}

template <class N, class Data>
void check_walk(N net, Data const& data) {
  recorder whole;
  REQUIRE(feed(std::as_const(net), data, whole));
  REQUIRE(whole.seen.size() == net.layers().size());
  recorder shown, passed;
  auto w = walk(net, data).value();
  for (std::size_t s = 0; s < stages_of(net); ++s) {
    CHECK(w.stage() == s);
    REQUIRE(w.show(shown));
    CHECK(w.stage() == s);
    REQUIRE(w.advance(passed));
  }
  CHECK(same(shown, whole));
  CHECK(same(passed, whole));
}

template <class N, layer_pruner P, class Data>
void check_pruning(N const& dense, P const& by, Data const& data, prune_settings settings = {}) {
  auto const shares = share_out(dense, unstructured{}, sparsity(0.5), uniform{}, settings).value();
  for (auto const stream : {calibration_stream::pruned, calibration_stream::dense}) {
    N whole = dense;
    auto const run = [&](N const& n, auto& tap) { return feed(n, data, tap); };
    auto const expected = prune_in_stages(whole, by, unstructured{}, shares, run, stream, settings).value();
    N net = dense;
    std::size_t runs = 0;
    auto count = [&](std::string_view, index_t done, index_t all) {
      if (done == all) ++runs;
      return true;
    };
    auto w = walk(net, data, progress(count)).value();
    auto const done = prune_in_stages(net, by, unstructured{}, shares, w, stream, settings).value();
    CHECK(runs <= (stream == calibration_stream::dense ? 1 : 2) * stages_of(net));
    REQUIRE(done.size() == expected.size());
    for (std::size_t l = 0; l < net.layers().size(); ++l)
      CHECK(test::same_bits(net.layers()[l]->weight(), whole.layers()[l]->weight()));
    for (std::size_t l = 0; l < done.size(); ++l) CHECK(done[l].kept == expected[l].kept);
  }
}

std::vector<std::vector<int>> texts(index_t vocabulary) {
  random_source random(5);
  std::vector<std::vector<int>> out(4);
  std::size_t const lengths[] = {12, 2, 1600, 1};  // also several windows of several pieces, and nothing to predict
  for (std::size_t i = 0; i < out.size(); ++i)
    for (std::size_t t = 0; t < lengths[i]; ++t) out[i].push_back(static_cast<int>(random.below(vocabulary)));
  return out;
}

llama some_llama() { return test::load<llama>(test::random_llama({.layers = 3})).value(); }
resnet some_resnet() { return test::load<resnet>(test::random_resnet()).value(); }

matrix<float> some_images(index_t count) {
  random_source random(8);
  matrix<float> images(count, resnet::input_size());
  for (index_t i = 0; i < images.size(); ++i) images.data()[i] = static_cast<float>(random.below(256));
  return images;
}

mlp some_mlp() {
  test::model_folder f;
  f.config = {{"model_type", "mlp"},  {"layer_sizes", {9, 16, 12, 5}},
              {"activation", "gelu"}, {"input_scale", 0.125},
              {"input_mean", 0.5},    {"input_std", 2.0}};
  index_t const sizes[] = {9, 16, 12, 5};
  for (int i = 1; i < 4; ++i) {
    f.add("fc" + std::to_string(i) + ".weight", {sizes[i], sizes[i - 1]});
    f.add("fc" + std::to_string(i) + ".bias", {sizes[i]});
  }
  return test::load<mlp>(f).value();
}

}  // namespace

TEST_CASE("walk: taps see of a Llama what a forward pass shows, and stages are pruned the same") {
  llama const net = some_llama();
  auto const sequences = texts(net.config().vocab_size);
  std::span<std::vector<int> const> const data(sequences);
  check_walk(net, data);
  check_pruning(net, select_by<wanda>{}, data);
  check_pruning(net, sparse_gpt{}, data, {.all_layers = true});
  // A block that is left out, and one in part.
  check_pruning(net, sparse_gpt{}, data, {.skip = {"model.layers.1.*", "model.layers.2.self_attn.q_proj.weight"}});

  std::vector<std::vector<int>> const silent(2, std::vector<int>{1});
  CHECK(walk(net, std::span<std::vector<int> const>(silent)).error().code == errc::missing);
  std::vector<std::vector<int>> const unknown{{1, 2, 3}, {1, 23, 3}};
  CHECK(walk(net, std::span<std::vector<int> const>(unknown)).error().code == errc::out_of_range);
  auto stop = [](std::string_view, index_t, index_t) { return false; };
  auto w = walk(net, data, progress(stop)).value();
  CHECK(w.advance(no_tap{}).error().code == errc::cancelled);
}

TEST_CASE("walk: states are a Llama's residual stream at the boundaries of its blocks") {
  auto folder = test::random_llama({.layers = 3});
  auto& gains = folder.tensors.at("model.norm.weight").values;
  gains.assign(gains.size(), 1.0f);  // so that the plain network's last norm can be computed of any states
  auto const parameters = test::in_double(folder);
  llama const net = test::load<llama>(folder).value();
  std::vector<std::vector<int>> const sequences{{3, 1, 4, 1, 5}, {9, 2, 6}};
  auto w = walk(net, std::span<std::vector<int> const>(sequences)).value();
  for (int blocks = 0; blocks <= 3; ++blocks) {
    folder.config["num_hidden_layers"] = blocks;  // the plain network stops where the walk stands
    auto const states = w.states();
    index_t position = 0;
    for (std::vector<int> const& s : sequences) {
      // The last token is predicted, not read.
      auto const expected = test::plain_llama(parameters, folder.config, {s.begin(), s.end() - 1}).states;
      for (auto const& state : expected) {
        double square = 0;
        for (index_t i = 0; i < states.cols; ++i)
          square += static_cast<double>(states(position, i)) * static_cast<double>(states(position, i));
        double const rms =
            std::sqrt(square / static_cast<double>(states.cols) + folder.config.at("rms_norm_eps").get<double>());
        for (index_t i = 0; i < states.cols; ++i)
          CHECK(std::abs(static_cast<double>(states(position, i)) / rms - state[static_cast<std::size_t>(i)]) < 1e-5);
        ++position;
      }
    }
    CHECK(position == states.rows);
    if (blocks < 3) REQUIRE(w.advance(no_tap{}));
  }
}

TEST_CASE("walk: the same of a ResNet and of a perceptron") {
  auto const images = some_images(3);
  check_walk(some_resnet(), images.span());
  check_pruning(some_resnet(), sparse_gpt{}, images.span(), {.all_layers = true});
  CHECK(walk(some_resnet(), matrix<float>(2, 7).span()).error().code == errc::mismatch);

  random_source random(9);
  auto const inputs = test::random_matrix(random, {150, 9});
  check_walk(some_mlp(), inputs.span());
  check_pruning(some_mlp(), select_by<wanda>{}, inputs.span(), {.all_layers = true});
  CHECK(walk(some_mlp(), matrix<float>(0, 9).span()).error().code == errc::mismatch);
}

TEST_CASE("solve_levels: a walk gives the levels that whole runs give") {
  mlp const net = some_mlp();
  random_source random(9);
  auto const inputs = test::random_matrix(random, {150, 9});
  level_options const options{.levels = 2, .step = 8};
  auto const by_runs = [&](mlp const& n, auto& tap) { return feed(n, inputs.span(), tap); };
  auto const expected =
      solve_levels(net, sparse_gpt{}, unstructured{}, sparsity(0.5), options, by_runs, {.all_layers = true}).value();
  auto const found = solve_levels(net, sparse_gpt{}, unstructured{}, sparsity(0.5), options,
                                  walk(net, inputs.span()).value(), {.all_layers = true})
                         .value();
  REQUIRE(found.matrices().size() == 3);
  for (std::size_t m = 0; m < 3; ++m)
    for (std::size_t l = 0; l < found.matrices()[m].solved.size(); ++l)
      CHECK(test::same_bits(decompress(found.matrices()[m].solved[l]), decompress(expected.matrices()[m].solved[l])));
}

TEST_CASE("calibration: layers of one input collect once what is of inputs, and gradients each") {
  llama const net = some_llama();
  auto const sequences = texts(net.config().vocab_size);
  std::span<std::vector<int> const> const data(sequences);
  calibration<statistics<gram>> shared(net);
  std::map<linear const*, gram> alone;
  for (linear const* l : net.layers()) alone.emplace(l, l->shape().cols);
  REQUIRE(feed(net, data, shared));
  REQUIRE(feed(net, data, [&](linear const& l, matrix_span<float const> x) { alone.at(&l).add(x); }));
  auto const layers = net.layers();
  for (std::size_t l = 0; l < layers.size(); ++l) {
    gram const& expected = alone.at(layers[l]);
    gram const& found = shared[l].get<gram>();
    REQUIRE(found.samples() == expected.samples());
    for (index_t i = 0; i < found.features(); ++i)
      for (index_t j = 0; j < found.features(); ++j) CHECK(found(i, j) == expected(i, j));
  }
  // q k v | o | gate up | down, and the next block's apart from it.
  for (std::size_t const l : {1u, 2u, 5u}) CHECK(&shared[l] == &shared[l - 1]);
  for (std::size_t const l : {3u, 4u, 6u, 7u, 21u}) CHECK(&shared[l] != &shared[l - 1]);

  std::vector<std::size_t> const some{1, 2, 5};  // without the first of those that share
  calibration<statistics<gram>> part(net, some);
  REQUIRE(feed(net, data, part));
  CHECK(&part[1] == &part[2]);
  CHECK(part[2].get<gram>()(0, 1) == shared[0].get<gram>()(0, 1));
  CHECK(part[5].get<gram>()(0, 1) == shared[4].get<gram>()(0, 1));
  CHECK(part[0].get<gram>().samples() == 0);

  calibration<statistics<gradient_mean>> const own(net);
  CHECK(&own[0] != &own[1]);
}
