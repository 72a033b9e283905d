// SPDX-License-Identifier: Apache-2.0
// Perceptrons: the formula, loading with and without a configuration; and the choice of a network for a file.
#include <cmath>
#include <string>
#include <vector>

#include <pare/nn/any_network.hpp>
#include <pare/nn/evaluate.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using namespace pare;
using pare::test::load;
using pare::test::model_folder;

namespace {

model_folder small_mlp() {
  model_folder f;
  f.config = {{"model_type", "mlp"},       {"layer_sizes", {5, 7, 4, 3}}, {"activation", "tanh"},
              {"input_scale", 0.5},        {"input_mean", 0.25},          {"input_std", 2.0},
              {"classes", {"a", "b", "c"}}};
  std::vector<index_t> const sizes{5, 7, 4, 3};
  for (std::size_t i = 1; i < sizes.size(); ++i) {
    f.add("fc" + std::to_string(i) + ".weight", {sizes[i], sizes[i - 1]}, -1.0f, 1.0f);
    f.add("fc" + std::to_string(i) + ".bias", {sizes[i]});
  }
  return f;
}

}  // namespace

TEST_CASE("mlp: equals the formula, for bytes and floats, several inputs at once") {
  auto const folder = small_mlp();
  auto const net = load<mlp>(folder).value();
  std::vector<std::uint8_t> const bytes{0, 1, 2, 3, 4, 9, 8, 7, 6, 5};
  std::vector<float> const floats(bytes.begin(), bytes.end());
  matrix<float> logits(2, 3);
  matrix<float> same(2, 3);
  net.forward(matrix_span<std::uint8_t const>(bytes.data(), 2, 5), logits.span());
  net.forward(matrix_span<float const>(floats.data(), 2, 5), same.span());
  for (index_t n = 0; n < 2; ++n) {
    std::vector<double> x;
    for (index_t k = 0; k < 5; ++k) x.push_back((bytes[static_cast<std::size_t>(n * 5 + k)] * 0.5 - 0.25) / 2.0);
    auto const expected = test::plain_mlp(test::in_double(folder), x, [](double v) { return std::tanh(v); });
    for (index_t c = 0; c < 3; ++c) {
      CHECK(static_cast<double>(logits(n, c)) == Approx(expected[static_cast<std::size_t>(c)]).margin(1e-5));
      CHECK(same(n, c) == logits(n, c));
    }
  }
}

TEST_CASE("mlp: the tap sees the input of every layer; the output layer stays dense") {
  auto net = load<mlp>(small_mlp()).value();
  std::vector<linear const*> seen;
  std::vector<float> const x(20, 1.0f);
  matrix<float> logits(4, 3);
  net.forward(matrix_span<float const>(x.data(), 4, 5), logits.span(),
              [&](linear const& l, matrix_span<float const> in) {
                CHECK(in.shape() == extents{l.shape().cols, 4});
                seen.push_back(&l);
              });
  CHECK(seen == std::as_const(net).layers());
  CHECK(seen.size() == 3);
  CHECK(net.keeps_dense_by_default(*seen[2]));
  CHECK_FALSE(net.keeps_dense_by_default(*seen[0]));
}

TEST_CASE("mlp: without a configuration the weights chain in natural name order, with ReLU and without scaling") {
  auto folder = small_mlp();
  folder.config = nullptr;
  auto const expected =
      test::plain_mlp(test::in_double(folder), {1, -2, 3, 0.5, 2}, [](double v) { return std::max(v, 0.0); });
  auto const rename = [&](std::string const& from, std::string const& to) {
    for (std::string const end : {".weight", ".bias"}) {
      folder.tensors[to + end] = folder.tensors[from + end];
      folder.tensors.erase(from + end);
    }
  };
  rename("fc3", "net.10");
  rename("fc2", "net.9");
  rename("fc1", "net.2");
  auto const net = load<mlp>(folder).value();
  CHECK(std::as_const(net).layers()[1]->name() == "net.9.weight");
  std::vector<float> const x{1.0f, -2.0f, 3.0f, 0.5f, 2.0f};
  matrix<float> logits(1, 3);
  net.forward(matrix_span<float const>(x.data(), 1, 5), logits.span());
  for (index_t c = 0; c < 3; ++c)
    CHECK(static_cast<double>(logits(0, c)) == Approx(expected[static_cast<std::size_t>(c)]).margin(1e-5));
  rename("net.9", "net.11");
  CHECK_THAT(load<mlp>(folder).error().message(),
             ContainsSubstring("net.10.weight") && ContainsSubstring("net.2.weight"));
}

TEST_CASE("mlp: a configuration without sizes still sets the activation and the input's scaling") {
  auto folder = small_mlp();
  std::vector<float> const x{1.0f, -2.0f, 3.0f, 0.5f, 2.0f};
  matrix<float> expected(1, 3);
  matrix<float> logits(1, 3);
  load<mlp>(folder).value().forward(matrix_span<float const>(x.data(), 1, 5), expected.span());
  folder.config.erase("layer_sizes");
  load<mlp>(folder).value().forward(matrix_span<float const>(x.data(), 1, 5), logits.span());
  for (index_t c = 0; c < 3; ++c) CHECK(logits(0, c) == expected(0, c));
  folder.config["activation"] = "swish";
  CHECK_THAT(load<mlp>(folder).error().message(), ContainsSubstring("activation"));
}

TEST_CASE("natural_less: numbers in names count as numbers") {
  CHECK(natural_less("fc2.weight", "fc10.weight"));
  CHECK_FALSE(natural_less("fc10.weight", "fc2.weight"));
  CHECK(natural_less("a1.b2", "a1.b11"));
  CHECK(natural_less("fc", "fc1"));
  CHECK(natural_less("fc9", "fd1"));
  CHECK_FALSE(natural_less("x3", "x3"));
  CHECK(natural_less("x03", "x3") != natural_less("x3", "x03"));
}

TEST_CASE("mlp: wrong configurations name the key, wrong tensors the tensor") {
  auto const message = [](auto change) {
    auto folder = small_mlp();
    change(folder);
    auto const net = load<mlp>(folder);
    return net ? std::string("loaded") : net.error().message();
  };
  CHECK_THAT(message([](auto& f) { f.config["layer_sizes"] = nullptr; }), ContainsSubstring("layer_sizes"));
  CHECK_THAT(message([](auto& f) { f.config["layer_sizes"] = {5}; }), ContainsSubstring("at least two"));
  CHECK_THAT(message([](auto& f) { f.config["layer_sizes"] = {5, 0, 3}; }), ContainsSubstring("found 0"));
  CHECK_THAT(message([](auto& f) {
               f.config["layer_sizes"] = {5, 7, 4, 2, 3};
               f.config["classes"] = nullptr;
             }),
             ContainsSubstring("fc3.weight") && ContainsSubstring("[3, 4]"));
  CHECK_THAT(message([](auto& f) { f.config["activation"] = "swish"; }),
             ContainsSubstring("activation") && ContainsSubstring("swish"));
  CHECK_THAT(message([](auto& f) { f.config["input_std"] = 0; }),
             ContainsSubstring("input_std") && ContainsSubstring("above 0"));
  CHECK_THAT(message([](auto& f) { f.config["input_scale"] = 1e200; }), ContainsSubstring("input_scale"));
  CHECK_THAT(message([](auto& f) { f.config["classes"] = {"a"}; }),
             ContainsSubstring("classes") && ContainsSubstring("3 names"));
  CHECK_THAT(message([](auto& f) { f.tensors.erase("fc2.bias"); }), ContainsSubstring("fc2.bias"));
}

TEST_CASE("load_network: chooses by model_type, without a configuration by the tensors") {
  auto const folder = small_mlp();
  auto const net = load_network(folder.open().value()).value();
  CHECK(kind(net) == "mlp");
  CHECK(layers(net).size() == 3);
  CHECK(keeps_dense_by_default(net, *layers(net).back()));
  if (auto const path = test::data("stories260K")) CHECK(kind(load_network(*path).value()) == "llama");
  if (auto const path = test::data("cifar/resnet20.safetensors")) CHECK(kind(load_network(*path).value()) == "resnet");
}

TEST_CASE("load_network: other networks are refused with what is supported") {
  auto folder = small_mlp();
  folder.config["model_type"] = "bert";
  auto net = load_network(folder.open().value());
  REQUIRE_FALSE(net);
  CHECK(net.error().code == errc::unsupported);
  CHECK_THAT(net.error().message(),
             ContainsSubstring("model_type") && ContainsSubstring("\"llama\"") && ContainsSubstring("\"bert\""));
  folder.config.erase("model_type");
  CHECK_THAT(load_network(folder.open().value()).error().message(), ContainsSubstring("model_type"));
  folder.config = nullptr;
  folder.add("model.embed_tokens.weight", {4, 4});
  CHECK_THAT(load_network(folder.open().value()).error().message(), ContainsSubstring("config.json"));
  model_folder const empty;
  CHECK_THAT(load_network(empty.open().value()).error().message(), ContainsSubstring("\"resnet\""));
  CHECK_THAT(load_network(std::filesystem::path("no/such/folder")).error().message(),
             ContainsSubstring("no/such/folder"));
  if (auto const path = test::data("mnist-8"))
    CHECK_THAT(load_network(*path).error().message(),
               ContainsSubstring("conv1.weight") && ContainsSubstring("\"mlp\""));
}
