// SPDX-License-Identifier: Apache-2.0
// Gradients of whole networks, against central differences of plain implementations in double, and of the real
// networks along a direction.
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <pare/io/cifar.hpp>
#include <pare/io/npy.hpp>
#include <pare/nn/backward.hpp>
#include <pare/nn/evaluate.hpp>

#include "network/finite_differences.hpp"
#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"
#include "support/samples.hpp"

using namespace pare;
using pare::test::gradient_error;
using pare::test::load;
using pare::test::model_folder;
using pare::test::parameters;
using pare::test::plain_llama;
using doubles = std::vector<double>;

namespace {

double nll(doubles const& logits, index_t target) {
  double total = 0;
  for (double const v : logits) total += std::exp(v);
  return std::log(total) - logits[static_cast<std::size_t>(target)];
}

/// Every second weight of every layer to zero, in the file: networks read them as pruned.
void prune_half(model_folder& f) {
  random_source random(12);
  for (auto& [name, t] : f.tensors)
    if (t.shape.size() > 1)
      for (float& v : t.values)
        if (random.uniform() < 0.5f) v = 0.0f;
}

/// Compares the gradients of all weights and biases with the derivatives of loss() by `p`; returns the largest error.
template <class Network, class Loss>
double worst_error(Network const& net, weight_gradients const& gradients, parameters& p, Loss&& loss,
                   index_t samples = 40, double step = 1e-5) {
  auto const layers = net.layers();
  double worst = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    std::string const& name = layers[l]->name();
    worst = std::max(worst, gradient_error(gradients[l].weight.span(), p.at(name), loss, samples, step));
    auto const& bias = gradients[l].bias;
    if (bias.empty()) continue;
    std::string const bias_name = name.substr(0, name.size() - 6) + "bias";
    matrix_span<float const> const row(bias.data(), 1, std::ssize(bias));
    worst = std::max(worst, gradient_error(row, p.at(bias_name), loss, samples, step));
  }
  return worst;
}

/// The slope of loss() along the gradient, by central differences with moved weights, divided by the gradient's norm:
/// 1 where the gradient is right.
template <class Network, class Loss>
double slope_along(Network& net, weight_gradients const& gradients, double step, Loss&& loss) {
  double square = 0;
  std::vector<matrix<float>> before;
  for (std::size_t l = 0; l < gradients.size(); ++l) {
    before.emplace_back(net.layers()[l]->weight());
    matrix<float> const& g = gradients[l].weight;
    square += sum_of<double>(g.size(), [&](index_t i) { return std::pow(static_cast<double>(g.data()[i]), 2); });
  }
  auto const loss_at = [&](double distance) {
    for (std::size_t l = 0; l < gradients.size(); ++l) {
      matrix<float> moved = before[l];
      for (index_t i = 0; i < moved.size(); ++i)
        moved.data()[i] += static_cast<float>(distance / std::sqrt(square)) * gradients[l].weight.data()[i];
      net.layers()[l]->assign(moved, nonzeros(moved.span()));
    }
    return loss();
  };
  return (loss_at(step) - loss_at(-step)) / (2 * step) / std::sqrt(square);
}

std::vector<int> some_tokens(index_t count, index_t vocabulary, std::uint64_t seed = 5) {
  random_source random(seed);
  std::vector<int> tokens(static_cast<std::size_t>(count));
  for (int& t : tokens) t = static_cast<int>(random.below(vocabulary));
  return tokens;
}

auto const ignore = [](linear const&, matrix_span<float const>, matrix_span<float const>) {};
static_assert(gradient_tap<weight_gradients> && gradient_tap<decltype(ignore)> && !gradient_tap<no_tap>);
static_assert(logit_loss<cross_entropy<int>> && logit_loss<cross_entropy<std::uint8_t>>);

}  // namespace

TEST_CASE("mlp: gradients are the central differences, for every activation, with biases and without, pruned or not") {
  std::vector<index_t> const sizes{5, 9, 6, 3};
  std::vector<std::uint8_t> const labels{2, 0, 1, 2, 2, 0, 1};
  random_source random(1);
  auto const inputs = test::random_matrix(random, {7, 5});
  for (std::string const name : {"identity", "relu", "silu", "gelu", "tanh"})
    for (bool const pruned : {false, true}) {
      model_folder f;
      f.config = {{"model_type", "mlp"}, {"activation", name}, {"input_scale", 0.5}, {"input_std", 2.0}};
      for (std::size_t i = 1; i < sizes.size(); ++i) {
        f.add("fc" + std::to_string(i) + ".weight", {sizes[i], sizes[i - 1]}, -1.0f, 1.0f);
        if (i != 2) f.add("fc" + std::to_string(i) + ".bias", {sizes[i]});
      }
      if (pruned) prune_half(f);
      auto const net = load<mlp>(f).value();
      parameters p = test::in_double(f);
      auto const activate = [&](double v) {
        return name == "relu"   ? std::max(v, 0.0)
               : name == "silu" ? v / (1 + std::exp(-v))
               : name == "gelu" ? 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)))
               : name == "tanh" ? std::tanh(v)
                                : v;
      };
      auto const exact = [&] {
        double total = 0;
        for (index_t n = 0; n < 7; ++n) {
          doubles x;
          for (index_t k = 0; k < 5; ++k) x.push_back(static_cast<double>(inputs(n, k)) * 0.5 / 2.0);
          total += nll(test::plain_mlp(p, x, activate), labels[static_cast<std::size_t>(n)]);
        }
        return total / 7;
      };
      weight_gradients gradients(net);
      INFO(name << (pruned ? ", pruned" : ""));
      CHECK(backward(net, inputs.span(), cross_entropy(labels), gradients).value() == Approx(exact()).epsilon(1e-5));
      CHECK(worst_error(net, gradients, p, exact) < 1e-5);
    }
}

TEST_CASE("llama: gradients are the central differences, one to four queries a key, tied or not, pruned or not") {
  struct variant {
    test::llama_sizes sizes;
    index_t tokens;
    bool pruned;
  };
  for (variant const& v :
       {variant{{}, 9, false}, variant{{.query_heads = 4, .key_heads = 1, .tied = true, .biases = false}, 35, false},
        variant{{.hidden = 9, .intermediate = 5, .layers = 1, .query_heads = 3, .key_heads = 3}, 6, true},
        variant{{.layers = 1, .vocab = 300}, 2, true}}) {
    auto f = test::random_llama(v.sizes);
    if (v.pruned) prune_half(f);
    auto const net = load<llama>(f).value();
    auto const tokens = some_tokens(v.tokens, v.sizes.vocab);
    parameters p = test::in_double(f);
    auto const exact = [&] {
      auto const logits = plain_llama(p, f.config, tokens).logits;
      double total = 0;
      for (std::size_t t = 0; t + 1 < tokens.size(); ++t) total += nll(logits[t], tokens[t + 1]);
      return total / static_cast<double>(tokens.size() - 1);
    };
    weight_gradients gradients(net);
    INFO(v.tokens << " tokens, vocabulary " << v.sizes.vocab);
    CHECK(backward(net, tokens, next_token(tokens), gradients).value() == Approx(exact()).epsilon(1e-5));
    CHECK(worst_error(net, gradients, p, exact, 12) < 1e-5);
  }
}

TEST_CASE("llama: the embedding's gradient is offered where it has weights of its own") {
  auto const f = test::random_llama();
  auto const net = load<llama>(f).value();
  auto const tokens = some_tokens(9, 23);
  struct embedding_tap {
    matrix<float> gradient{23, 10};
    void operator()(linear const&, matrix_span<float const>, matrix_span<float const>) const {}
    void embedding(linear const* layer, std::span<int const> ids, matrix_span<float const> delta) {
      CHECK(layer == nullptr);
      for (index_t t = 0; t < delta.rows; ++t)
        for (index_t k = 0; k < delta.cols; ++k) gradient(ids[static_cast<std::size_t>(t)], k) += delta(t, k);
    }
  } tap;
  REQUIRE(backward(net, tokens, next_token(tokens, reduction::sum), tap));
  parameters p = test::in_double(f);
  auto const exact = [&] {
    auto const logits = plain_llama(p, f.config, tokens).logits;
    double total = 0;
    for (std::size_t t = 0; t + 1 < tokens.size(); ++t) total += nll(logits[t], tokens[t + 1]);
    return total;
  };
  CHECK(gradient_error(tap.gradient.span(), p.at("model.embed_tokens.weight"), exact, 230) < 1e-5);
}

TEST_CASE("llama: gradients of InfoNCE over pooled states are the central differences") {
  auto const f = test::random_llama();
  auto const net = load<llama>(f).value();
  std::vector<std::vector<int>> const queries{some_tokens(4, 23, 1), some_tokens(7, 23, 2)};
  std::vector<std::vector<int>> const positives{some_tokens(3, 23, 3), some_tokens(1, 23, 4)};
  std::vector<std::vector<int>> const negatives{some_tokens(5, 23, 6), some_tokens(2, 23, 7), some_tokens(6, 23, 8)};
  for (auto const how : {pooling::last, pooling::mean}) {
    parameters p = test::in_double(f);
    auto const embed = [&](std::vector<int> const& text) {
      auto const states = plain_llama(p, f.config, text).states;
      doubles e(10, 0.0);
      double square = 0;
      for (std::size_t k = 0; k < 10; ++k) {
        for (std::size_t t = how == pooling::last ? states.size() - 1 : 0; t < states.size(); ++t) e[k] += states[t][k];
        square += e[k] * e[k];
      }
      for (double& v : e) v /= std::sqrt(square);
      return e;
    };
    auto const exact = [&] {
      std::vector<doubles> candidates;
      for (auto const& group : {positives, negatives})
        for (auto const& text : group) candidates.push_back(embed(text));
      double total = 0;
      for (std::size_t i = 0; i < 2; ++i) {
        auto const q = embed(queries[i]);
        doubles similarity;
        for (auto const& c : candidates) {
          double dot = 0;
          for (std::size_t k = 0; k < 10; ++k) dot += q[k] * c[k];
          similarity.push_back(5 * dot);
        }
        total += nll(similarity, static_cast<index_t>(i)) / 2;
      }
      return total;
    };
    weight_gradients gradients(net);
    auto const loss =
        backward(net, text_triplets{queries, positives, negatives}, {.scale = 5.0f, .pooling = how}, gradients);
    CHECK(loss.value() == Approx(exact()).epsilon(1e-5));
    CHECK(worst_error(net, gradients, p, exact, 8) < 1e-5);
  }
  CHECK(backward(net, text_triplets{queries, negatives, negatives}, {}, ignore).error().code == errc::mismatch);
}

TEST_CASE("resnet: gradients are the central differences, through strides, padding and shortcuts, pruned or not") {
  random_source random(2);
  std::vector<std::uint8_t> images(2 * 3072);
  for (auto& v : images) v = static_cast<std::uint8_t>(random.below(256));
  std::vector<int> const labels{4, 0};
  for (auto const& [widths, blocks, pruned] : {std::tuple{std::vector<index_t>{3, 5, 7}, index_t{2}, false},
                                               std::tuple{std::vector<index_t>{4, 8, 16}, index_t{1}, true}}) {
    auto f = test::random_resnet(widths, blocks);
    if (pruned) prune_half(f);
    auto const net = load<resnet>(f).value();
    parameters p = test::in_double(f);
    auto const exact = [&] {
      double total = 0;
      for (std::size_t i = 0; i < 2; ++i) {
        auto const first = images.begin() + static_cast<std::ptrdiff_t>(i * 3072);
        total += nll(test::plain_resnet(p, std::vector<std::uint8_t>(first, first + 3072)), labels[i]) / 2;
      }
      return total;
    };
    weight_gradients gradients(net);
    matrix_span<std::uint8_t const> const pixels(images.data(), 2, 3072);
    CHECK(backward(net, pixels, cross_entropy(labels), gradients).value() == Approx(exact()).epsilon(1e-4));
    CHECK(worst_error(net, gradients, p, exact, 6, 1e-7) < 1e-5);
  }
}

TEST_CASE("backward: the tap sees every layer, from the last to the first, with its input and its output's gradient") {
  auto const net = load<llama>(test::random_llama()).value();
  auto const tokens = some_tokens(7, 23);
  std::vector<linear const*> forward;
  matrix<float> logits(7, 23);
  std::vector<matrix<float>> inputs;
  net.forward(tokens, logits.span(), [&](linear const& layer, matrix_span<float const> x) {
    forward.push_back(&layer);
    inputs.emplace_back(x);
  });
  std::size_t seen = 0;
  REQUIRE(backward(net, tokens, next_token(tokens),
                   [&](linear const& layer, matrix_span<float const> x, matrix_span<float const> delta) {
                     auto const at =
                         static_cast<std::size_t>(std::find(forward.begin(), forward.end(), &layer) - forward.begin());
                     REQUIRE(at < forward.size());
                     CHECK(delta.shape() == extents{layer.shape().rows, 7});
                     REQUIRE(x.shape() == inputs[at].shape());
                     float worst = 0;
                     for (index_t k = 0; k < x.rows; ++k)
                       for (index_t n = 0; n < x.cols; ++n)
                         worst = std::max(worst, std::abs(x(k, n) - inputs[at](k, n)));
                     CHECK(worst < 1e-5f);
                     ++seen;
                   }));
  CHECK(seen == forward.size());
}

TEST_CASE("backward: gradients add up over calls, and a tape can be used again") {
  auto const net = load<llama>(test::random_llama()).value();
  auto const one = some_tokens(11, 23, 1);
  auto const two = some_tokens(4, 23, 2);
  weight_gradients both(net);
  weight_gradients first(net);
  weight_gradients second(net);
  REQUIRE(backward(net, one, next_token(one), both));
  REQUIRE(backward(net, two, next_token(two), both));
  REQUIRE(backward(net, one, next_token(one), first));
  REQUIRE(backward(net, two, next_token(two), second));
  llama_tape tape(net, 20);
  weight_gradients again(net);
  for (auto const& tokens : {one, two}) {
    again.clear();
    REQUIRE(tape.forward(tokens));
    matrix<float> logits(std::ssize(tokens), 23);
    tape.logits(logits.span());
    REQUIRE(next_token(tokens)(logits.span(), 0));
    tape.backward_logits(logits.span(), again);
  }
  for (std::size_t l = 0; l < both.size(); ++l) {
    CHECK(test::same_bits(again[l].weight, second[l].weight));
    float worst = 0;
    for (index_t i = 0; i < both[l].weight.size(); ++i)
      worst =
          std::max(worst, std::abs(both[l].weight.data()[i] - first[l].weight.data()[i] - second[l].weight.data()[i]));
    CHECK(worst < 1e-6f);
  }
}

TEST_CASE("backward: wrong tokens and labels, and losses that are not finite, are errors and never reach the tap") {
  auto f = test::random_llama();
  auto const net = load<llama>(f).value();
  auto const never = [](linear const&, matrix_span<float const>, matrix_span<float const>) { FAIL("called"); };
  for (std::vector<int> const& tokens :
       {std::vector<int>{}, std::vector<int>{1, 23}, std::vector<int>{-1, 2}, std::vector<int>(701, 1)}) {
    auto const loss = backward(net, tokens, next_token(tokens), never);
    REQUIRE_FALSE(loss);
    CHECK(loss.error().where == "tokens");
  }
  std::vector<int> const tokens{1, 2, 3};
  std::vector<int> const targets{1, 2, 99};
  auto const four = some_tokens(4, 23);
  CHECK(backward(net, tokens, cross_entropy(targets), never).error().code == errc::out_of_range);
  CHECK(backward(net, tokens, cross_entropy(tokens, reduction::sum), ignore).has_value());
  CHECK(backward(net, tokens, next_token(four), never).error().code == errc::mismatch);
  f.tensors["model.norm.weight"].values[3] = std::numeric_limits<float>::max();
  for (float& v : f.tensors["lm_head.weight"].values) v = 1e30f;
  auto const broken = load<llama>(f).value();
  CHECK(backward(broken, tokens, next_token(tokens), never).error().code == errc::not_finite);
  CHECK_THROWS_AS(llama_tape(net, 701), contract_violation);
  CHECK_THROWS_AS(llama_tape(net, 0), contract_violation);
}

TEST_CASE("stories260K: the loss is perplexity's, and falls along its gradient as the gradient says") {
  auto const folder = test::data("stories260K");
  if (!folder) return;
  auto net = llama::load(checkpoint::open(*folder).value()).value();
  auto const all = read_npy_ints(*folder / "ref_tokens_tinystories_20000.npy").value();
  std::vector<int> const tokens(all.begin(), std::find(all.begin() + 1, all.end(), 1));
  weight_gradients gradients(net);
  double const loss = backward(net, tokens, next_token(tokens), gradients).value();
  std::vector<std::vector<int>> const one{tokens};
  CHECK(loss == Approx(perplexity(net, one).value().mean_nll).epsilon(1e-6));
  CHECK(slope_along(net, gradients, 1e-3, [&] { return perplexity(net, one).value().mean_nll; }) ==
        Approx(1.0).epsilon(1e-3));
}

TEST_CASE("ResNet-20: the loss moves along its gradient as the gradient says") {
  auto const folder = test::data("cifar");
  if (!folder) return;
  auto const images = read_cifar(*folder / "cifar10_train_0000-0999.bin").value();
  auto net = resnet::load(checkpoint::open(*folder / "resnet20.safetensors").value()).value();
  matrix_span<std::uint8_t const> const pixels(images.pixels.data(), 20, 3072);
  std::vector<std::uint8_t> const labels(20, 3);  // mostly wrong ones, so that there is something to descend
  weight_gradients gradients(net);
  REQUIRE(backward(net, pixels, cross_entropy(labels), gradients));
  auto const loss = [&] {
    matrix<float> logits(20, 10);
    net.forward(pixels, logits.span());
    return cross_entropy(labels)(logits.span(), 0).value();
  };
  CHECK(slope_along(net, gradients, 1e-3, loss) == Approx(1.0).epsilon(1e-3));
}
