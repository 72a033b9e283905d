// SPDX-License-Identifier: Apache-2.0
// The divergence of a network's outputs from another's, against the formula in double.
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include <pare/core/random.hpp>
#include <pare/nn/mlp.hpp>
#include <pare/nn/network.hpp>
#include <pare/nn/output_divergence.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"

using namespace pare;

namespace {

/// KL(softmax(a) || softmax(b)).
double divergence(matrix_span<float const> a, matrix_span<float const> b, index_t row) {
  double sum_a = 0.0;
  double sum_b = 0.0;
  for (index_t c = 0; c < a.cols; ++c) {
    sum_a += std::exp(static_cast<double>(a(row, c)));
    sum_b += std::exp(static_cast<double>(b(row, c)));
  }
  double total = 0.0;
  for (index_t c = 0; c < a.cols; ++c) {
    double const log_p = static_cast<double>(a(row, c)) - std::log(sum_a);
    double const log_q = static_cast<double>(b(row, c)) - std::log(sum_b);
    total += std::exp(log_p) * (log_p - log_q);
  }
  return total;
}

template <network Net>
Net without_half_of_a_layer(Net net, std::size_t which) {
  linear* const l = net.layers()[which];
  mask keep(l->shape());
  for (index_t r = 0; r < keep.rows(); ++r)
    for (index_t c = r % 2; c < keep.cols(); c += 2) keep.set(r, c);
  l->keep(keep);
  return net;
}

}  // namespace

TEST_CASE("output_divergence: of a classifier, on as many images as are asked for") {
  test::model_folder f;
  f.config = {{"model_type", "mlp"}, {"layer_sizes", {5, 9, 4}}, {"activation", "relu"}};
  f.add("fc1.weight", {9, 5}, -2.0f, 2.0f);
  f.add("fc1.bias", {9});
  f.add("fc2.weight", {4, 9}, -2.0f, 2.0f);
  f.add("fc2.bias", {4});
  auto const net = test::load<mlp>(f).value();
  auto const other = without_half_of_a_layer(net, 0);
  random_source random(1);
  matrix<float> images(100, 5);
  for (index_t i = 0; i < images.size(); ++i) images.data()[i] = random.uniform(-1.0f, 1.0f);
  auto const from = output_divergence<mlp>::from(net, images.span()).value();
  REQUIRE(from.samples() == 100);
  CHECK(std::abs(from(net, 100).value()) < 1e-6);
  matrix<float> a(100, 4);
  matrix<float> b(100, 4);
  net.forward(images.span(), a.span());
  other.forward(images.span(), b.span());
  for (index_t const count : {1, 70, 100}) {
    double expected = 0.0;
    for (index_t i = 0; i < count; ++i) expected += divergence(a.span(), b.span(), i);
    CHECK(from(other, count).value() == Approx(expected / static_cast<double>(count)).epsilon(1e-5));
  }
  CHECK(from(other, 100).value() > 0.01);

  auto broken = net;
  matrix<float> weight(broken.layers()[0]->weight());
  weight(3, 2) = HUGE_VALF;
  broken.layers()[0]->assign(weight, mask(weight.shape(), true));
  CHECK(from(broken, 100).error().code == errc::not_finite);
  CHECK(output_divergence<mlp>::from(broken, images.span()).error().code == errc::not_finite);
  CHECK(output_divergence<mlp>::from(net, matrix<float>(3, 4).span()).error().code == errc::mismatch);
  auto stop = [](std::string_view, index_t, index_t) { return false; };
  CHECK(output_divergence<mlp>::from(net, images.span(), progress(stop)).error().code == errc::cancelled);
}

TEST_CASE("output_divergence: of a language model, on all positions that predict a token, windows of long texts too") {
  auto const net = test::load<llama>(test::random_llama({.layers = 1})).value();
  auto const other = without_half_of_a_layer(net, 6);
  random_source random(2);
  std::vector<std::vector<int>> texts(2);
  for (int i = 0; i < 12; ++i) texts[0].push_back(static_cast<int>(random.below(23)));
  for (int i = 0; i < 800; ++i) texts[1].push_back(static_cast<int>(random.below(23)));  // 699 and 100 to predict
  auto const from = output_divergence<llama>::from(net, texts).value();
  REQUIRE(from.samples() == 3);
  std::vector<std::vector<int>> windows{
      {texts[0].begin(), texts[0].end() - 1}, {texts[1].begin(), texts[1].begin() + 699}, {texts[1].front()}};
  windows[2].insert(windows[2].end(), texts[1].begin() + 700, texts[1].end() - 1);
  double expected = 0.0;
  double rows = 0.0;
  for (index_t w = 0; w < 3; ++w) {
    auto const& window = windows[static_cast<std::size_t>(w)];
    matrix<float> a(std::ssize(window), 23);
    matrix<float> b(std::ssize(window), 23);
    net.forward(window, a.span());
    other.forward(window, b.span());
    for (index_t i = 0; i < a.rows(); ++i) expected += divergence(a.span(), b.span(), i);
    rows += static_cast<double>(a.rows());
    CHECK(from(other, w + 1).value() == Approx(expected / rows).epsilon(1e-5));
  }
  CHECK(std::abs(from(net, 3).value()) < 1e-6);
  CHECK(from(other, 3).value() > 0.001);
  CHECK(output_divergence<llama>::from(net, std::vector<std::vector<int>>{{1}}).error().code == errc::missing);
}
