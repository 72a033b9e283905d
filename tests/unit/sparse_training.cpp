// SPDX-License-Identifier: Apache-2.0
// The examples' trainer: its gradients against differences of the loss in double, and what masks do to a training.
#include <cmath>
#include <vector>

#include "sparse_training/methods.hpp"
#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::sparsity;
namespace demo = pare::demo;

namespace {

/// The mean cross-entropy of a network of two layers, in double.
double slow_loss(demo::mlp_weights const& net, matrix<float> const& x, std::vector<int> const& labels) {
  double total = 0;
  for (index_t n = 0; n < x.rows(); ++n) {
    std::vector<double> a(x.row(n), x.row(n) + x.cols());
    for (std::size_t l = 0; l < net.weights.size(); ++l) {
      auto const& w = net.weights[l];
      std::vector<double> z(static_cast<std::size_t>(w.rows()));
      for (index_t i = 0; i < w.rows(); ++i) {
        double& sum = z[std::size_t(i)] = static_cast<double>(net.biases[l][std::size_t(i)]);
        for (index_t k = 0; k < w.cols(); ++k) sum += static_cast<double>(w(i, k)) * a[std::size_t(k)];
        if (l + 1 < net.weights.size() && sum < 0) sum = 0;
      }
      a = z;
    }
    double sum = 0;
    for (double const z : a) sum += std::exp(z);
    total += std::log(sum) - a[std::size_t(labels[std::size_t(n)])];
  }
  return total / static_cast<double>(x.rows());
}

/// Two classes that a hyperplane nearly separates.
demo::task two_classes(index_t count) {
  pare::random_source random(11);
  demo::task t;
  t.train.images = pare::test::random_matrix(random, {count, 8});
  for (index_t n = 0; n < count; ++n)
    t.train.labels.push_back(t.train.images(n, 0) + t.train.images(n, 1) > 0.1f * random.normal() ? 1 : 0);
  t.test.images = t.train.images;
  t.test.labels = t.train.labels;
  return t;
}

demo::mlp_weights small_network(std::uint64_t seed = 3) {
  pare::random_source random(seed);
  std::vector<index_t> const sizes{8, 6, 2};
  return demo::draw_mlp(sizes, random);
}

index_t kept(std::vector<mask> const& masks) {
  index_t n = 0;
  for (mask const& m : masks) n += m.count();
  return n;
}

}  // namespace

TEST_CASE("backpropagation: gradients are differences of the loss") {
  auto const data = two_classes(5);
  auto net = small_network();
  for (auto& b : net.biases)
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = 0.1f * static_cast<float>(i) - 0.2f;
  std::vector<index_t> const all{0, 1, 2, 3, 4};
  demo::backpropagation gradients(net);
  gradients.load(data.train.images, data.train.labels, all);
  pare::random_source unused;
  demo::training_sums sums;
  gradients.run(net, 0.0, unused, sums);
  CHECK(sums.loss / 5 == Approx(slow_loss(net, data.train.images, data.train.labels)).epsilon(1e-5));
  auto const difference = [&](float& value) {
    float const before = value, step = 1.0f / 1024;
    value = before + step;
    double const up = slow_loss(net, data.train.images, data.train.labels);
    value = before - step;
    double const down = slow_loss(net, data.train.images, data.train.labels);
    value = before;
    return (up - down) / (2.0 / 1024);
  };
  for (std::size_t l = 0; l < 2; ++l) {
    auto const g = gradients.weight_gradient(l);
    for (index_t i = 0; i < g.rows; ++i) {
      for (index_t k = 0; k < g.cols; ++k)
        CHECK(static_cast<double>(g(i, k)) == Approx(difference(net.weights[l](i, k))).margin(1e-4).epsilon(1e-3));
      CHECK(static_cast<double>(gradients.bias_gradient(l)[i]) ==
            Approx(difference(net.biases[l][std::size_t(i)])).margin(1e-4).epsilon(1e-3));
    }
  }
}

TEST_CASE("sparse trainer: removed weights stay zero, what comes back begins at zero, and it learns") {
  auto const data = two_classes(200);
  for (auto const rule : {demo::update_rule::adamw, demo::update_rule::sgd}) {
    demo::sparse_trainer t(data.train, small_network(),
                           {.steps = 200, .batch = 20, .learning_rate = 0.01, .rule = rule, .seed = 5});
    std::vector<mask> masks{mask({6, 8}, true), mask({2, 6}, true)};
    masks[0].set(0, 0, false);
    masks[0].set(3, 5, false);
    masks[1].set(1, 2, false);
    t.train(0, 20);
    t.keep_only(masks);
    t.train(20, 100);
    for (std::size_t l = 0; l < 2; ++l)
      for (index_t i = 0; i < masks[l].rows(); ++i)
        for (index_t k = 0; k < masks[l].cols(); ++k) CHECK((t.network().weights[l](i, k) == 0.0f) == !masks[l](i, k));
    masks[0].set(0, 0);
    t.keep_only(masks);
    CHECK(t.network().weights[0](0, 0) == 0.0f);
    t.train(100, 200);
    CHECK(t.network().weights[0](0, 0) != 0.0f);
    CHECK(demo::accuracy(t.network(), data.test.images, data.test.labels) > 0.8);
  }
}

TEST_CASE("sparse trainer: an exchange takes the place of the step, FLOPs count what was computed") {
  auto const data = two_classes(40);
  demo::sparse_trainer t(data.train, small_network(), {.steps = 10, .batch = 20, .seed = 5});
  std::vector<mask> masks{mask({6, 8}), mask({2, 6}, true)};  // 48 removed, 12 kept
  t.keep_only(masks);
  t.train(0, 3);
  CHECK(t.flops() == 3 * 6.0 * 12);
  auto const before = t.network();
  t.train(3, 4, [&](index_t step) {
    CHECK(step == 3);
    auto const g = t.dense_gradient(0);
    CHECK((g.rows == 6 && g.cols == 8));
    return true;
  });
  CHECK(t.flops() == 4 * 6.0 * 12 + 2.0 * 48);
  for (std::size_t l = 0; l < 2; ++l) CHECK(pare::test::same_bits(before.weights[l], t.network().weights[l]));
}

TEST_CASE("sparse training: each method ends with the weights that it was asked to keep") {
  auto const data = two_classes(200);
  demo::experiment const e{.data = &data,
                           .start = small_network(),
                           .training = {.steps = 120, .batch = 20, .learning_rate = 0.01, .seed = 5},
                           .every = 10,
                           .rewind_step = 5};
  sparsity const s{0.75};  // of 48 and 12, 60 in all
  auto const dense = demo::train_dense(e);
  CHECK(dense.density == 1.0);
  CHECK(dense.flops == 1.0);
  CHECK(dense.accuracy > 0.9);
  auto const gmp = demo::train_gmp(e, s);
  CHECK((gmp.masks[0].count() == 12 && gmp.masks[1].count() == 3));  // the same share in each layer
  auto const uniform = demo::train_static(e, pare::uniform{}, s);
  CHECK((uniform.masks[0].count() == 12 && uniform.masks[1].count() == 3));
  CHECK(uniform.flops == 0.25);
  auto const erk = demo::train_static(e, pare::erk{}, s);
  auto const set = demo::train_set(e, s), rigl = demo::train_rigl(e, s);
  // eps = 0.25 * 60 / (14 + 8): 9.54 and 5.45, less what the count rule removes in whole weights.
  CHECK((erk.masks[0].count() == 10 && erk.masks[1].count() == 6));
  for (auto const* o : {&set, &rigl}) {
    CHECK((o->masks[0].count() == 10 && o->masks[1].count() == 6));
    CHECK(!(o->masks == erk.masks));
  }
  CHECK(set.flops == Approx(16.0 / 60.0).epsilon(1e-12));
  CHECK(rigl.flops > set.flops);
  auto const granet = demo::train_granet(e, s);
  CHECK(kept(granet.masks) == 15);
  CHECK(granet.density == 0.25);
  CHECK(granet.flops > rigl.flops);
  auto const spdf = demo::train_spdf(e, s);
  CHECK(spdf.density == 1.0);
  CHECK(spdf.flops == Approx(0.75 * 0.25 + 0.25).margin(0.01));
  auto const tickets = demo::train_tickets(e, 3);
  REQUIRE(tickets.size() == 4);
  for (std::size_t level = 0; level < 4; ++level) {
    // 60, 48, 38.4, 30.72: what is removed is rounded down.
    CHECK(kept(tickets[level].masks) == std::vector<index_t>{60, 48, 39, 31}[level]);
    if (level > 0)
      for (std::size_t l = 0; l < 2; ++l) CHECK(tickets[level].masks[l].subset_of(tickets[level - 1].masks[l]));
  }
  auto const reshuffled = demo::train_reshuffled(e, tickets[3].masks, 9);
  for (std::size_t l = 0; l < 2; ++l) CHECK(reshuffled.masks[l].count() == tickets[3].masks[l].count());
  CHECK(demo::train_reinitialised(e, tickets[3].masks, 9).masks == tickets[3].masks);
}

TEST_CASE("tickets: without rewinding the first level is the dense network, and a ticket is trained from the start") {
  auto const data = two_classes(200);
  demo::experiment e{.data = &data,
                     .start = small_network(),
                     .training = {.steps = 50, .batch = 20, .learning_rate = 0.01, .seed = 5}};
  auto const tickets = demo::train_tickets(e, 2);
  auto const dense = demo::train_dense(e);
  auto const again = demo::train_masked(e, tickets[2].masks);
  for (std::size_t l = 0; l < 2; ++l) {
    CHECK(pare::test::same_bits(tickets[0].network.weights[l], dense.network.weights[l]));
    CHECK(pare::test::same_bits(tickets[2].network.weights[l], again.network.weights[l]));
  }
}
