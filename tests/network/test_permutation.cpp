// SPDX-License-Identifier: Apache-2.0
// Channel permutation of a whole network: the same function, of which N:M keeps more.
#include <cmath>
#include <string>
#include <vector>

#include <pare/nn/feed.hpp>
#include <pare/prune/permute_llama.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/samples.hpp"

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

}  // namespace

TEST_CASE("permute_channels: the network computes what it did, biases, masks and tied weights included") {
  for (bool const tied : {false, true}) {
    auto f = test::random_llama({.hidden = 16,
                                 .intermediate = 24,
                                 .layers = 2,
                                 .query_heads = 4,
                                 .key_heads = 2,
                                 .head_size = 8,
                                 .tied = tied,
                                 .biases = !tied});
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
