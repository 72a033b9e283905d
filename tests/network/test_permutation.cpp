// SPDX-License-Identifier: Apache-2.0
// Channel permutation of a whole network: the same function, of which N:M keeps more.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <pare/nn/feed.hpp>
#include <pare/prune/permute_llama.hpp>
#include <pare/prune/tensors_to_save.hpp>
#include <pare/score/magnitude.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/samples.hpp"
#include "unit/io_scratch.hpp"

using namespace pare;

namespace {

std::vector<std::vector<int>> some_texts(index_t vocabulary) {
  random_source random(5);
  std::vector<std::vector<int>> texts(6);
  for (auto& t : texts)
    for (int i = 0; i < 12; ++i) t.push_back(static_cast<int>(random.below(vocabulary)));
  return texts;
}

matrix<float> logits_of(llama const& net, std::vector<int> const& tokens) {
  llama_session session(net, std::ssize(tokens));
  matrix<float> out(std::ssize(tokens), net.config().vocab_size);
  session.forward(tokens, out.span()).value();
  return out;
}

/// Of a shape that N:M tiles everywhere; untied, it has biases.
test::model_folder random_network(bool tied) {
  return test::random_llama({.hidden = 16,
                             .intermediate = 24,
                             .layers = 2,
                             .query_heads = 4,
                             .key_heads = 2,
                             .head_size = 8,
                             .tied = tied,
                             .biases = !tied});
}

}  // namespace

TEST_CASE("permute_channels: the network computes what it did, biases, masks and tied weights included") {
  for (bool const tied : {false, true}) {
    auto f = random_network(tied);
    auto net = test::load<llama>(f).value();
    REQUIRE(net.config().heads.size % 4 == 0);
    auto const texts = some_texts(net.config().vocab_size);
    linear* const gate = net.layers()[4];
    mask keep(gate->shape(), true);
    keep.set(3, 5, false);
    keep.set(7, 1, false);
    gate->keep(keep);
    calibration<statistics<gram>> stats(net);
    REQUIRE(feed(net, std::span<std::vector<int> const>(texts), stats));
    auto const before = logits_of(net, texts[0]);
    auto const weight = matrix<float>(net.layers()[6]->weight());
    auto const gain = permute_channels(net, n_of_m<2, 4>{}, stats);
    REQUIRE(gain);
    CHECK(*gain > 1.0);
    CHECK_FALSE(test::same_bits(weight, matrix<float>(net.layers()[6]->weight())));
    CHECK(kept(net.layers()[4]->weights()).count() == keep.count());
    auto const after = logits_of(net, texts[0]);
    double worst = 0.0;
    for (index_t i = 0; i < before.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(before.data()[i]) - static_cast<double>(after.data()[i])));
    CHECK(worst < 1e-4);
  }
}

TEST_CASE("permute_channels: patterns that do not depend on the order, or do not fit, change nothing") {
  auto net = test::load<llama>(test::random_llama({.hidden = 16, .intermediate = 24})).value();
  auto const texts = some_texts(net.config().vocab_size);
  calibration<statistics<gram>> stats(net);
  auto const weight = matrix<float>(net.layers()[6]->weight());
  CHECK(permute_channels(net, any_pattern(unstructured{}), stats).error().code == errc::unsupported);
  CHECK(permute_channels(net, n_of_m<4, 32>{}, stats).error().code == errc::pattern_misfit);
  CHECK(permute_channels(net, n_of_m<1, 2>{}, stats).error().code == errc::missing);  // no samples
  CHECK(test::same_bits(weight, matrix<float>(net.layers()[6]->weight())));
}

TEST_CASE("a permuted and pruned network comes back from its file, whatever it holds besides its layers") {
  for (bool const tied : {false, true}) {
    auto f = random_network(tied);
    if (tied) f.tensors["lm_head.weight"] = f.tensors["model.embed_tokens.weight"];  // as some files have it
    f.add("of.another.program", {3});
    test::scratch_folder const folder;
    auto const source = folder / "model";
    f.write_to(source);
    auto const file = checkpoint::open(source).value();
    auto net = llama::load(file).value();
    auto const dense = net;
    auto const texts = some_texts(net.config().vocab_size);
    calibration<statistics<gram>> stats(net);
    REQUIRE(feed(net, std::span<std::vector<int> const>(texts), stats));
    REQUIRE(permute_channels(net, n_of_m<2, 4>{}, stats));
    calibration<statistics<>> const none(net);
    prune_settings settings;
    settings.skip = {"*q_proj*"};
    auto const done = prune(net, magnitude{}, n_of_m<2, 4>{}, sparsity(0.5), none, uniform{}, settings).value();
    REQUIRE(done.size() == 12);
    for (save_form const form : {save_form::sparse_bitmask, save_form::dense}) {
      tensors_to_save changed(net, done);
      REQUIRE(changed.weights().size() == (tied ? 12 : 24));  // with their biases
      changed.add_others(net, file);
      auto const out = folder / (form == save_form::dense ? "dense" : "sparse");
      REQUIRE(save_pruned(source, out, changed.weights(), form, nullptr, {.structure = "2:4"}));
      auto const written = checkpoint::open(out).value();
      CHECK(written.names() == file.names());
      CHECK(test::same_bits(logits_of(llama::load(written).value(), texts[0]), logits_of(net, texts[0])));
      CHECK(written.is_compressed("model.layers.1.mlp.down_proj.weight") == (form == save_form::sparse_bitmask));
      CHECK_FALSE(written.is_compressed("model.layers.1.self_attn.q_proj.weight"));
      // Only the order changed of what was not pruned; every tensor of the residual stream did change.
      for (auto const& [name, t] : f.tensors) {
        if (written.is_compressed(name)) continue;
        INFO(name);
        auto const at = t.shape.size() == 2 ? extents{t.shape[0], t.shape[1]} : extents{t.shape[0], 1};
        auto values = written.read_weight(name, at).value().values;
        bool const moved = !std::equal(t.values.begin(), t.values.end(), values.data());
        bool const of_stream = name.ends_with("norm.weight") || name.ends_with("embed_tokens.weight") ||
                               name == "lm_head.weight" || name.ends_with("q_proj.weight");
        CHECK((!of_stream || moved));
        if (name == "of.another.program" || name.ends_with("q_proj.bias")) CHECK_FALSE(moved);
        if (form == save_form::dense && !of_stream) continue;
        auto sorted = t.values;
        std::sort(sorted.begin(), sorted.end());
        std::sort(values.data(), values.data() + values.size());
        CHECK(std::equal(sorted.begin(), sorted.end(), values.data()));
      }
      if (form == save_form::sparse_bitmask)
        CHECK(written.config()["quantization_config"]["sparsity_config"]["global_sparsity"] == 0.5);

      // A source that is pruned already: what is not pruned again stays compressed.
      auto again = llama::load(written).value();
      tensors_to_save others(again, {});
      others.add_others(again, written);
      REQUIRE(
          save_pruned(out, folder / "again", others.weights(), form, nullptr, {.structure = "2:4", .replace = true}));
      auto const twice = checkpoint::open(folder / "again").value();
      CHECK(twice.is_compressed("model.layers.1.mlp.down_proj.weight") == (form == save_form::sparse_bitmask));
      CHECK(test::same_bits(logits_of(llama::load(twice).value(), texts[0]), logits_of(net, texts[0])));
    }
  }
}
