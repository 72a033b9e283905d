// SPDX-License-Identifier: Apache-2.0
// Gradient statistics of whole networks, and the methods that collect them on their own.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <pare/allocate/global.hpp>
#include <pare/nn/feed_gradients.hpp>
#include <pare/prune/grasp.hpp>
#include <pare/prune/gradient_file.hpp>
#include <pare/prune/prune.hpp>
#include <pare/prune/synflow.hpp>
#include <pare/score/gaprune.hpp>
#include <pare/score/obd.hpp>
#include <pare/score/taylor.hpp>

#include "network/plain_networks.hpp"
#include "support/catch.hpp"
#include "support/samples.hpp"

using namespace pare;
using pare::test::load;
using pare::test::model_folder;

namespace {

std::vector<std::vector<int>> some_texts(index_t vocabulary) {
  random_source random(21);
  std::vector<std::vector<int>> texts;
  for (index_t const length : {5, 2, 9, 7}) {
    std::vector<int>& t = texts.emplace_back(static_cast<std::size_t>(length));
    for (int& token : t) token = static_cast<int>(random.below(vocabulary));
  }
  return texts;
}

/// A perceptron 4 - 6 - 5 - 3.
model_folder random_mlp() {
  model_folder f;
  f.config = {{"model_type", "mlp"}, {"activation", "relu"}};
  f.add("fc1.weight", {6, 4}, -1.0f, 1.0f);
  f.add("fc1.bias", {6});
  f.add("fc2.weight", {5, 6}, -1.0f, 1.0f);
  f.add("fc3.weight", {3, 5}, -1.0f, 1.0f);
  return f;
}

/// The largest difference of the statistics from means over samples, whose gradients are given, relative to the
/// largest.
template <class Needs>
double fisher_error(calibration<Needs> const& stats, std::vector<std::vector<matrix<float>>> const& by_sample) {
  double worst = 0.0;
  for (std::size_t l = 0; l < stats.size(); ++l) {
    fisher const& f = stats[l].template get<fisher>();
    gradient_mean const& g = stats[l].template get<gradient_mean>();
    double largest = 0.0;
    double largest_mean = 0.0;
    double difference = 0.0;
    double mean_difference = 0.0;
    for (index_t i = 0; i < f.shape().rows; ++i)
      for (index_t j = 0; j < f.shape().cols; ++j) {
        double square = 0.0;
        double mean = 0.0;
        for (auto const& sample : by_sample) {
          auto const v = static_cast<double>(sample[l](i, j));
          square += v * v / static_cast<double>(by_sample.size());
          mean += v / static_cast<double>(by_sample.size());
        }
        largest = std::max(largest, square);
        largest_mean = std::max(largest_mean, std::abs(mean));
        difference = std::max(difference, std::abs(square - f(i, j)));
        mean_difference = std::max(mean_difference, std::abs(mean - g(i, j)));
      }
    worst = std::max({worst, difference / largest, mean_difference / largest_mean});
  }
  return worst;
}

std::vector<matrix<float>> matrices(weight_gradients const& g) {
  std::vector<matrix<float>> out;
  for (std::size_t l = 0; l < g.size(); ++l) out.push_back(g[l].weight);
  return out;
}

auto const untied = test::llama_sizes{.tied = false};

}  // namespace

TEST_CASE("feed_gradients: a text is a sample, whose gradient is that of its mean loss") {
  auto const net = load<llama>(test::random_llama(untied)).value();
  auto texts = some_texts(net.config().vocab_size);
  texts[1].resize(1);  // nothing to predict: no sample
  calibration<statistics<gradient_mean, fisher, position_fisher>> stats(net);
  auto const loss = feed_gradients(net, std::span<std::vector<int> const>(texts), stats).value();
  double expected_loss = 0.0;
  std::vector<std::vector<matrix<float>>> by_sample;
  for (auto const& t : texts) {
    if (t.size() < 2) continue;
    weight_gradients g(net);
    expected_loss += backward(net, t, next_token(t, reduction::sum), g).value();
    by_sample.push_back(matrices(g));
  }
  CHECK(loss == Approx(expected_loss / 18.0).epsilon(1e-6));
  for (std::size_t l = 0; l < stats.size(); ++l) {
    CHECK(stats[l].get<gradient_mean>().positions() == 4 + 8 + 6);
    CHECK(stats[l].get<position_fisher>().positions() == 4 + 8 + 6);
    CHECK(stats[l].get<fisher>().samples() == 3);
    auto const& f = stats[l].get<fisher>();
    auto const& mean = stats[l].get<gradient_mean>();
    double worst = 0.0;
    double largest = 0.0;
    for (index_t i = 0; i < f.shape().rows; ++i)
      for (index_t j = 0; j < f.shape().cols; ++j) {
        double square = 0.0;
        double sum = 0.0;
        double const lengths[] = {4.0, 8.0, 6.0};
        for (std::size_t s = 0; s < 3; ++s) {
          square += std::pow(static_cast<double>(by_sample[s][l](i, j)) / lengths[s], 2) / 3.0;
          sum += static_cast<double>(by_sample[s][l](i, j)) / 18.0;
        }
        largest = std::max(largest, std::sqrt(square));
        worst = std::max({worst, std::abs(std::sqrt(square) - std::sqrt(f(i, j))), std::abs(sum - mean(i, j))});
      }
    CHECK(worst < 1e-5 * largest);
  }
  std::vector<std::vector<int>> const nothing{{1}, {}};
  CHECK(feed_gradients(net, std::span(nothing), stats).error().code == errc::missing);
  auto stop = [](std::string_view, index_t, index_t) { return false; };
  CHECK(feed_gradients(net, std::span<std::vector<int> const>(texts), stats, progress(stop)).error().code ==
        errc::cancelled);
}

TEST_CASE("feed_gradients: texts longer than the context are windows that are samples each") {
  auto const net = load<llama>(test::random_llama(untied)).value();
  index_t const most = net.config().max_positions;
  random_source random(4);
  std::vector<std::vector<int>> text(1);
  for (index_t t = 0; t < most + 5; ++t) text[0].push_back(static_cast<int>(random.below(net.config().vocab_size)));
  calibration<statistics<fisher>> stats(net);
  REQUIRE(feed_gradients(net, std::span<std::vector<int> const>(text), stats));
  CHECK(stats[0].get<fisher>().samples() == 2);
}

TEST_CASE("feed_gradients: images of a perceptron and of a residual network are samples") {
  random_source random(8);
  std::vector<std::uint8_t> labels(70);
  for (auto& l : labels) l = static_cast<std::uint8_t>(random.below(3));
  auto const check = [&](auto const& net, index_t inputs, std::size_t count) {
    auto const images = test::random_matrix(random, {static_cast<index_t>(count), inputs});
    auto const some = std::span<std::uint8_t const>(labels).first(count);
    calibration<statistics<gradient_mean, fisher>> stats(net);
    REQUIRE(feed_gradients(net, images.span(), some, stats));
    std::vector<std::vector<matrix<float>>> by_sample;
    for (std::size_t s = 0; s < count; ++s) {
      weight_gradients g(net);
      REQUIRE(backward(net, images.span().row_range(static_cast<index_t>(s), 1), cross_entropy(some.subspan(s, 1)), g));
      by_sample.push_back(matrices(g));
    }
    CHECK(stats[0].template get<fisher>().samples() == static_cast<index_t>(count));
    CHECK(fisher_error(stats, by_sample) < 1e-4);
    CHECK(feed_gradients(net, images.span(), some.first(1), stats).error().code == errc::mismatch);
    CHECK(feed_gradients(net, images.span().col_range(1, 2), some, stats).error().code == errc::mismatch);
  };
  check(load<mlp>(random_mlp()).value(), 4, 70);  // more than one batch
  check(load<resnet>(test::random_resnet()).value(), 3072, 3);
}

TEST_CASE("feed_gradients: InfoNCE of triplets, a batch is a sample") {
  auto const net = load<llama>(test::random_llama(untied)).value();
  auto const texts = some_texts(net.config().vocab_size);
  std::vector<std::vector<int>> const queries(texts.begin(), texts.end());
  std::vector<std::vector<int>> const others(texts.rbegin(), texts.rend());
  text_triplets const triplets{queries, others, {}};
  calibration<statistics<fisher>> stats(net);
  auto const loss = feed_gradients(net, triplets, stats, 2, {.pooling = pooling::mean});
  REQUIRE(loss);
  CHECK(stats[0].get<fisher>().samples() == 2);
  weight_gradients g(net);
  auto const first =
      backward(net, {triplets.queries.first(2), triplets.positives.first(2), {}}, {.pooling = pooling::mean}, g);
  weight_gradients h(net);
  auto const second =
      backward(net, {triplets.queries.last(2), triplets.positives.last(2), {}}, {.pooling = pooling::mean}, h);
  CHECK(*loss == Approx((*first + *second) / 2).epsilon(1e-6));
  CHECK(stats[0].get<fisher>()(1, 2) == Approx((std::pow(static_cast<double>(g[0].weight(1, 2)), 2) +
                                                std::pow(static_cast<double>(h[0].weight(1, 2)), 2)) /
                                               2)
                                            .epsilon(1e-3));
  CHECK(feed_gradients(net, {triplets.queries, triplets.positives.first(3), {}}, stats, 2).error().code ==
        errc::mismatch);
}

TEST_CASE("grasp_gradients: the difference of both gradients is the Hessian times the gradient") {
  auto f = random_mlp();
  f.config["activation"] = "tanh";  // smooth
  auto net = load<mlp>(f).value();
  random_source random(2);
  auto const inputs = test::random_matrix(random, {12, 4});
  std::vector<std::uint8_t> labels(12);
  for (auto& l : labels) l = static_cast<std::uint8_t>(random.below(3));
  auto const feed = [&](mlp const& n, auto&& tap) {
    return backward(n, inputs.span(), tempered(cross_entropy(labels, reduction::sum), 2.0f), tap);
  };
  auto const before = matrix<float>(net.layers()[1]->weight());
  auto const stats = grasp_gradients(net, feed).value();
  CHECK(test::same_bits(before, matrix<float>(net.layers()[1]->weight())));
  // z = <g, stop(g)> has the gradient H g: differences of z along single weights, in the middle layer
  weight_gradients g(net);
  REQUIRE(feed(net, g));
  auto const along = [&](index_t i, index_t j, float by) {
    mlp moved = net;
    auto w = matrix<float>(moved.layers()[1]->weight());
    w(i, j) += by;
    moved.layers()[1]->assign(w, mask(w.shape(), true));
    weight_gradients at(moved);
    (void)feed(moved, at);
    double z = 0.0;
    for (std::size_t l = 0; l < at.size(); ++l)
      for (index_t k = 0; k < at[l].weight.size(); ++k)
        z += static_cast<double>(at[l].weight.data()[k]) * static_cast<double>(g[l].weight.data()[k]);
    return z;
  };
  double dot = 0.0;
  double exact_square = 0.0;
  double found_square = 0.0;
  auto const& ahead = stats[1].get<grasp::ahead>();
  auto const& behind = stats[1].get<grasp::behind>();
  for (index_t i = 0; i < 5; ++i)
    for (index_t j = 0; j < 6; ++j) {
      double const exact = (along(i, j, 1e-2f) - along(i, j, -1e-2f)) / 2e-2;
      double const found = ahead(i, j) - behind(i, j);
      dot += exact * found;
      exact_square += exact * exact;
      found_square += found * found;
    }
  CHECK(dot / std::sqrt(exact_square * found_square) > 0.999);
  auto const no_gradient = [&](mlp const&, auto&&) -> result<double> { return 0.0; };
  CHECK(grasp_gradients(net, no_gradient).error().code == errc::not_finite);
}

TEST_CASE("synflow: keeps exactly what is asked, keeps every layer, and scores as its formula says") {
  auto net = load<mlp>(random_mlp()).value();
  matrix<float> ones(1, 4);
  for (index_t i = 0; i < 4; ++i) ones(0, i) = 1.0f;
  auto const original = net;
  // One round: R = sum over outputs of |W3| a, with a = |W2| (|W1| 1 + |b1|): all positive, so relu does nothing.
  auto once = original;
  REQUIRE(synflow(once, ones.span(), unstructured{}, sparsity{0.5}, 1));
  auto const abs_of = [&](std::size_t l, index_t i, index_t j) {
    return std::abs(static_cast<double>(original.layers()[l]->weight()(i, j)));
  };
  std::vector<double> hidden1(6);
  for (index_t i = 0; i < 6; ++i) {
    hidden1[std::size_t(i)] = std::abs(static_cast<double>(original.layers()[0]->bias()[std::size_t(i)]));
    for (index_t j = 0; j < 4; ++j) hidden1[std::size_t(i)] += abs_of(0, i, j);
  }
  std::vector<double> out2(5, 0.0);  // dR / d hidden2
  for (index_t k = 0; k < 3; ++k)
    for (index_t i = 0; i < 5; ++i) out2[std::size_t(i)] += abs_of(2, k, i);
  matrix<float> s1(6, 4);
  matrix<float> s2(5, 6);
  for (index_t i = 0; i < 5; ++i)
    for (index_t j = 0; j < 6; ++j)
      s2(i, j) = static_cast<float>(out2[std::size_t(i)] * abs_of(1, i, j) * hidden1[std::size_t(j)]);
  for (index_t i = 0; i < 6; ++i)
    for (index_t j = 0; j < 4; ++j) {
      double back = 0.0;
      for (index_t k = 0; k < 5; ++k) back += out2[std::size_t(k)] * abs_of(1, k, i);
      s1(i, j) = static_cast<float>(back * abs_of(0, i, j));
    }
  matrix_span<float const> const views[] = {s1.span(), s2.span()};
  auto const expected = select_network(std::span<matrix_span<float const> const>(views), unstructured{}, sparsity{0.5});
  CHECK(kept(once.layers()[0]->weights()) == expected[0]);
  CHECK(kept(once.layers()[1]->weights()) == expected[1]);
  CHECK(once.layers()[2]->weights().keeps_all());

  auto const done = synflow(net, ones.span(), unstructured{}, sparsity{0.85}, 50);
  REQUIRE(done);
  CHECK(done->size() == 2);
  CHECK((*done)[0].kept + (*done)[1].kept == 54 - 45);  // floor(0.85 * 54) = 45 are gone
  CHECK((*done)[0].kept > 0);
  CHECK((*done)[1].kept > 0);
  for (index_t i = 0; i < 5; ++i)
    for (index_t j = 0; j < 6; ++j)
      if (net.layers()[1]->weight()(i, j) != 0.0f)
        CHECK(net.layers()[1]->weight()(i, j) == original.layers()[1]->weight()(i, j));

  CHECK(synflow(net, ones.span(), any_pattern(n_of_m<2, 4>{}), sparsity{0.5}).error().code == errc::unsupported);
  auto huge = random_mlp();
  for (auto& [name, t] : huge.tensors)
    for (float& v : t.values) v *= 1e20f;
  auto overflows = load<mlp>(huge).value();
  CHECK(synflow(overflows, ones.span(), unstructured{}, sparsity{0.5}).error().code == errc::not_finite);
  CHECK(kept(overflows.layers()[0]->weights()).keeps_all());
}

TEST_CASE("add_gradients: a file of another framework's gradients gives the same scores; bad files add nothing") {
  auto const net = load<mlp>(random_mlp()).value();
  random_source random(3);
  auto const inputs = test::random_matrix(random, {1, 4});
  std::vector<std::uint8_t> const labels{2};
  weight_gradients g(net);
  REQUIRE(backward(net, inputs.span(), cross_entropy(labels), g));
  model_folder file;
  for (std::size_t l = 0; l < 3; ++l) {
    auto const shape = net.layers()[l]->shape();
    file.add(net.layers()[l]->name(), {shape.rows, shape.cols});
    auto& values = file.tensors[net.layers()[l]->name()].values;
    std::copy_n(g[l].weight.data(), values.size(), values.begin());
  }
  std::vector<std::size_t> const all{0, 1, 2};
  calibration<taylor_second_order::needs> from_file(net);
  REQUIRE(add_gradients(net, file.open().value(), all, from_file));
  calibration<taylor_second_order::needs> own(net);
  REQUIRE(feed_gradients(net, inputs.span(), std::span(labels), own));
  for (std::size_t l = 0; l < 3; ++l) {
    auto const a = score(net.layers()[l]->weight(), taylor_second_order{}, from_file[l]);
    auto const b = score(net.layers()[l]->weight(), taylor_second_order{}, own[l]);
    for (index_t i = 0; i < a.size(); ++i) CHECK(a.data()[i] == Approx(b.data()[i]).epsilon(1e-5).margin(1e-9));
  }

  auto const refused = [&](model_folder const& bad) {
    calibration<taylor::needs> stats(net);
    auto const r = add_gradients(net, bad.open().value(), all, stats);
    REQUIRE_FALSE(r);
    CHECK(stats[0].get<gradient_mean>().positions() == 0);
    return r.error();
  };
  auto wrong = file;
  wrong.tensors.at("fc3.weight").values[4] = std::numeric_limits<float>::quiet_NaN();
  CHECK(refused(wrong).code == errc::not_finite);
  CHECK(refused(wrong).where.find("fc3.weight") != std::string::npos);
  wrong = file;
  wrong.tensors.erase("fc2.weight");
  CHECK(refused(wrong).message().find("fc2.weight") != std::string::npos);
  wrong = file;
  wrong.tensors.at("fc2.weight").shape = {6, 5};
  CHECK(refused(wrong).message().find("fc2.weight") != std::string::npos);
}

TEST_CASE("prune: a criterion that looks at the whole network sees every chosen layer first") {
  auto net = load<mlp>(random_mlp()).value();
  random_source random(3);
  auto const inputs = test::random_matrix(random, {40, 4});
  std::vector<std::uint8_t> labels(40);
  for (auto& l : labels) l = static_cast<std::uint8_t>(random.below(3));
  calibration<gaprune_row_aligned::needs> stats(net);
  REQUIRE(feed_gradients(net, inputs.span(), std::span<std::uint8_t const>(labels), stats.from<domain_corpus>()));
  REQUIRE(feed_gradients(net, inputs.span().row_range(0, 20), std::span<std::uint8_t const>(labels).first(20),
                         stats.from<general_corpus>()));
  gaprune_row_aligned by{};
  by.look(net.layers()[0]->weight(), stats[0]);
  by.look(net.layers()[1]->weight(), stats[1]);
  auto const s1 = score(net.layers()[0]->weight(), by, stats[0]);
  auto const s2 = score(net.layers()[1]->weight(), by, stats[1]);
  matrix_span<float const> const views[] = {s1.span(), s2.span()};
  auto const expected = select_network(std::span<matrix_span<float const> const>(views), unstructured{}, sparsity{0.5});
  REQUIRE(prune(net, gaprune_row_aligned{}, unstructured{}, sparsity{0.5}, stats, global{}));
  CHECK(kept(net.layers()[0]->weights()) == expected[0]);
  CHECK(kept(net.layers()[1]->weights()) == expected[1]);
}
