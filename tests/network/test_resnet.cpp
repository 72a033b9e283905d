// SPDX-License-Identifier: Apache-2.0
// CIFAR ResNets: reference logits, a plain implementation for other depths and widths, and wrong files.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <pare/io/cifar.hpp>
#include <pare/io/npy.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/resnet.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using namespace pare;
using pare::test::load;
using pare::test::random_resnet;

TEST_CASE("resnet: logits of ResNet-20 and ResNet-32 are the reference's, and so is the accuracy") {
  auto const folder = test::data("cifar");
  if (!folder) return;
  auto const images = read_cifar(*folder / "cifar10_train_0000-0999.bin").value();
  for (auto const& [name, accurate] :
       {std::pair{std::string("resnet20"), 0.999}, std::pair{std::string("resnet32"), 1.0}}) {
    auto const net = resnet::load(checkpoint::open(*folder / (name + ".safetensors")).value()).value();
    CHECK(net.depth() == std::stoi(name.substr(6)));
    auto const expected = read_npy_matrix(*folder / (name + "_ref_logits_first100.npy")).value();
    matrix<float> logits(100, 10);
    matrix_span<std::uint8_t const> const pixels(images.pixels.data(), images.count, 3072);
    net.forward(pixels.row_range(0, 100), logits.span());
    float worst = 0;
    for (index_t i = 0; i < logits.size(); ++i)
      worst = std::max(worst, std::abs(logits.data()[i] - expected.data()[i]));
    CHECK(worst < 1e-3f);
    index_t reported = 0;
    auto heard = [&](std::string_view, index_t done, index_t) { return reported = done, true; };
    auto const found = accuracy(net, pixels, images.labels, 64, progress(heard)).value();
    CHECK(found.accuracy == Approx(accurate).margin(1e-9));
    CHECK(found.count == 1000);
    CHECK(reported == 1000);
  }
}

TEST_CASE("resnet: equals the definition for another depth, other widths and inner widths of their own") {
  random_source random(2);
  std::vector<std::uint8_t> image(3072);
  for (auto& v : image) v = static_cast<std::uint8_t>(random.below(256));
  for (auto const& folder : {random_resnet(), random_resnet({4, 8, 16}, 1)}) {
    auto const net = load<resnet>(folder);
    INFO((net ? "" : net.error().message()));
    REQUIRE(net);
    auto const expected = test::plain_resnet(test::in_double(folder), image);
    matrix<float> logits(1, 7);
    net->forward(matrix_span<std::uint8_t const>(image.data(), 1, 3072), logits.span());
    for (index_t c = 0; c < 7; ++c)
      CHECK(static_cast<double>(logits(0, c)) ==
            Approx(expected[static_cast<std::size_t>(c)]).epsilon(1e-4).margin(1e-4));
    std::vector<float> const values(image.begin(), image.end());
    matrix<float> again(1, 7);
    net->forward(matrix_span<float const>(values.data(), 1, 3072), again.span());
    for (index_t c = 0; c < 7; ++c) CHECK(again(0, c) == logits(0, c));
  }
}

TEST_CASE("resnet: the tap sees the input of every layer in the order of layers(); the ends stay dense") {
  auto net = load<resnet>(random_resnet()).value();
  std::vector<linear const*> seen;
  std::vector<std::uint8_t> const image(3072, 100);
  matrix<float> logits(1, 7);
  net.forward(matrix_span<std::uint8_t const>(image.data(), 1, 3072), logits.span(),
              [&](linear const& layer, matrix_span<float const> x) {
                CHECK(x.rows == layer.shape().cols);
                seen.push_back(&layer);
              });
  CHECK(seen == std::as_const(net).layers());
  REQUIRE(seen.size() == 14);
  CHECK(net.depth() == 14);
  CHECK(seen[5]->name() == "layer2.0.conv1.weight");
  CHECK(net.keeps_dense_by_default(*seen.front()));
  CHECK(net.keeps_dense_by_default(*seen.back()));
  CHECK_FALSE(net.keeps_dense_by_default(*seen[1]));
}

TEST_CASE("resnet: a missing tensor is named, whichever it is") {
  for (auto const& item : random_resnet().tensors) {
    auto folder = random_resnet();
    folder.tensors.erase(item.first);
    auto const net = load<resnet>(folder);
    INFO(item.first);
    bool const counter = item.first.ends_with("num_batches_tracked");
    CHECK(net.has_value() == counter);
    if (!net) CHECK(net.error().message().find(item.first) != std::string::npos);
  }
}

TEST_CASE("resnet: relatives, gaps, wrong shapes and negative variances are refused with a reason") {
  auto const message = [](auto change) {
    auto folder = random_resnet();
    change(folder);
    auto const net = load<resnet>(folder);
    return net ? std::string("loaded") : net.error().message();
  };
  CHECK_THAT(message([](auto& f) {
               f.add("layer2.0.shortcut.0.weight", {5, 3, 1, 1});
             }),
             ContainsSubstring("layer2.0.shortcut"));
  CHECK_THAT(message([](auto& f) { f.add("layer4.0.conv1.weight", {7, 7, 3, 3}); }), ContainsSubstring("layer4.0"));
  CHECK_THAT(message([](auto& f) {
               f.add("layer1.3.conv1.weight", {3, 3, 3, 3});
             }),
             ContainsSubstring("layer1.2.conv1.weight"));
  CHECK_THAT(message([](auto& f) {
               f.add("conv1.weight", {3, 4, 3, 3});
             }),
             ContainsSubstring("3 input channels, found 4"));
  CHECK_THAT(message([](auto& f) { f.add("conv1.weight", {3, 3, 5, 5}); }), ContainsSubstring("[3, 3, 5, 5]"));
  CHECK_THAT(message([](auto& f) {
               f.add("layer3.1.conv2.weight", {12, 9, 3, 3});
             }),
             ContainsSubstring("layer3.1.conv2.weight"));
  CHECK_THAT(message([](auto& f) { f.tensors["layer1.0.bn1.running_var"].values[1] = -1.0f; }),
             ContainsSubstring("layer1.0.bn1.running_var") && ContainsSubstring("channel 1"));
  auto const net = load<resnet>(random_resnet({3, 7, 12}));
  REQUIRE_FALSE(net);
  CHECK_THAT(net.error().message(), ContainsSubstring("layer2.0.conv2.weight") && ContainsSubstring("shortcut"));
}
