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

#include "network/model_folder.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using namespace pare;
using pare::test::load;
using pare::test::model_folder;

namespace {

void add_unit(model_folder& f, std::string const& conv, std::string const& norm, index_t out, index_t in) {
  f.add(conv + ".weight", {out, in, 3, 3});
  f.add(norm + ".weight", {out}, 0.5f, 1.5f);
  f.add(norm + ".bias", {out});
  f.add(norm + ".running_mean", {out});
  f.add(norm + ".running_var", {out}, 0.5f, 2.0f);
  f.add(norm + ".num_batches_tracked", {1});
}

/// A network of a depth and widths of no released model; the inner width of a block is its own.
model_folder small_resnet(std::vector<index_t> const& widths = {3, 5, 7}, index_t blocks = 2) {
  model_folder f;
  add_unit(f, "conv1", "bn1", widths[0], 3);
  index_t in = widths[0];
  for (std::size_t s = 0; s < 3; ++s)
    for (index_t b = 0; b < blocks; ++b) {
      std::string const prefix = "layer" + std::to_string(s + 1) + "." + std::to_string(b) + ".";
      index_t const inner = widths[s] + (b == 1 ? 1 : 0);
      add_unit(f, prefix + "conv1", prefix + "bn1", inner, in);
      add_unit(f, prefix + "conv2", prefix + "bn2", widths[s], inner);
      in = widths[s];
    }
  f.add("linear.weight", {7, in});
  f.add("linear.bias", {7});
  return f;
}

struct plain_map {
  index_t channels, side;
  std::vector<double> values;
  double at(index_t c, index_t y, index_t x) const {
    bool const inside = y >= 0 && x >= 0 && y < side && x < side;
    return inside ? values[static_cast<std::size_t>((c * side + y) * side + x)] : 0.0;
  }
};

/// The logits of one image, straight from the definition.
std::vector<double> plain_resnet(model_folder const& f, std::vector<std::uint8_t> const& image) {
  auto const at = [&](std::string const& name, index_t i) {
    return static_cast<double>(f.tensors.at(name).values[static_cast<std::size_t>(i)]);
  };
  auto const unit = [&](plain_map const& x, std::string const& conv, std::string const& norm, index_t stride) {
    index_t const out = f.tensors.at(conv + ".weight").shape[0];
    plain_map y{out, x.side / stride, {}};
    for (index_t o = 0; o < out; ++o)
      for (index_t i = 0; i < y.side; ++i)
        for (index_t j = 0; j < y.side; ++j) {
          double v = 0;
          for (index_t c = 0; c < x.channels; ++c)
            for (index_t t = 0; t < 9; ++t)
              v += at(conv + ".weight", (o * x.channels + c) * 9 + t) *
                   x.at(c, i * stride + t / 3 - 1, j * stride + t % 3 - 1);
          v = (v - at(norm + ".running_mean", o)) / std::sqrt(at(norm + ".running_var", o) + 1e-5);
          y.values.push_back(v * at(norm + ".weight", o) + at(norm + ".bias", o));
        }
    return y;
  };
  auto const relu = [](plain_map x) {
    for (double& v : x.values) v = std::max(v, 0.0);
    return x;
  };
  double const mean[] = {0.485, 0.456, 0.406};
  double const deviation[] = {0.229, 0.224, 0.225};
  plain_map x{3, 32, {}};
  for (std::size_t i = 0; i < 3072; ++i) x.values.push_back((image[i] / 255.0 - mean[i / 1024]) / deviation[i / 1024]);
  x = relu(unit(x, "conv1", "bn1", 1));
  for (std::string const stage : {"layer1.", "layer2.", "layer3."})
    for (index_t b = 0; f.tensors.count(stage + std::to_string(b) + ".conv1.weight") > 0; ++b) {
      std::string const prefix = stage + std::to_string(b) + ".";
      index_t const stride = b == 0 && stage != "layer1." ? 2 : 1;
      auto y = unit(relu(unit(x, prefix + "conv1", prefix + "bn1", stride)), prefix + "conv2", prefix + "bn2", 1);
      index_t const pad = stride == 1 ? 0 : y.channels / 4;
      for (index_t c = 0; c < x.channels; ++c)
        for (index_t i = 0; i < y.side; ++i)
          for (index_t j = 0; j < y.side; ++j)
            y.values[static_cast<std::size_t>(((c + pad) * y.side + i) * y.side + j)] +=
                x.at(c, i * stride, j * stride);
      x = relu(y);
    }
  std::vector<double> logits;
  for (index_t o = 0; o < f.tensors.at("linear.weight").shape[0]; ++o) {
    double v = at("linear.bias", o);
    for (index_t c = 0; c < x.channels; ++c) {
      double total = 0;
      for (index_t i = 0; i < x.side * x.side; ++i) total += x.at(c, i / x.side, i % x.side);
      v += at("linear.weight", o * x.channels + c) * total / static_cast<double>(x.side * x.side);
    }
    logits.push_back(v);
  }
  return logits;
}

}  // namespace

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
  for (auto const& folder : {small_resnet(), small_resnet({4, 8, 16}, 1)}) {
    auto const net = load<resnet>(folder);
    INFO((net ? "" : net.error().message()));
    REQUIRE(net);
    auto const expected = plain_resnet(folder, image);
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
  auto net = load<resnet>(small_resnet()).value();
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
  for (auto const& item : small_resnet().tensors) {
    auto folder = small_resnet();
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
    auto folder = small_resnet();
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
  auto const net = load<resnet>(small_resnet({3, 7, 12}));
  REQUIRE_FALSE(net);
  CHECK_THAT(net.error().message(), ContainsSubstring("layer2.0.conv2.weight") && ContainsSubstring("shortcut"));
}
