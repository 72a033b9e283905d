// SPDX-License-Identifier: Apache-2.0
#include "demo/glyphs.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "support/catch.hpp"
#include "train/mlp_trainer.hpp"

namespace {

using pare::index_t;
namespace demo = pare::demo;

bool same_pixels(pare::matrix<float> const& a, pare::matrix<float> const& b, index_t rows) {
  return std::equal(a.data(), a.data() + rows * a.cols(), b.data());
}

/// Points of a square: class 0 in the left half of a disc, 1 in its right half, 2 outside it.
demo::glyph_set disc(index_t count, std::uint64_t seed) {
  pare::random_source random(seed);
  demo::glyph_set set{pare::matrix<float>(count, 2), {}};
  for (index_t i = 0; i < count; ++i) {
    float const x = set.images(i, 0) = random.uniform(-1, 1);
    float const y = set.images(i, 1) = random.uniform(-1, 1);
    set.labels.push_back(x * x + y * y > 0.5f ? 2 : x > 0 ? 1 : 0);
  }
  return set;
}

demo::mlp_trainer train_on_disc(std::uint64_t seed, double dropout) {
  std::vector<index_t> const sizes{2, 32, 16, 3};
  demo::mlp_trainer trainer(sizes,
                            {.epochs = 12, .batch = 32, .learning_rate = 1e-2, .dropout = dropout, .seed = seed});
  auto const data = disc(2000, 1);
  for (int e = 0; e < 12; ++e) trainer.epoch(data.images, data.labels);
  return trainer;
}

}  // namespace

TEST_CASE("glyphs: the same seed draws the same images, another seed others") {
  auto const a = demo::draw_glyphs(20, 7), b = demo::draw_glyphs(20, 7), c = demo::draw_glyphs(20, 8);
  CHECK(a.labels == b.labels);
  CHECK(same_pixels(a.images, b.images, 20));
  CHECK_FALSE(same_pixels(a.images, c.images, 20));
}

TEST_CASE("glyphs: drawing more images does not change the first ones") {
  auto const few = demo::draw_glyphs(5, 3), many = demo::draw_glyphs(50, 3);
  CHECK(same_pixels(few.images, many.images, 5));
  CHECK(std::equal(few.labels.begin(), few.labels.end(), many.labels.begin()));
}

TEST_CASE("glyphs: pixels are from 0 to 1, and every image has ink and paper") {
  auto const set = demo::draw_glyphs(500, 1);
  REQUIRE(set.images.cols() == demo::glyph_side * demo::glyph_side);
  for (index_t i = 0; i < 500; ++i) {
    auto const [low, high] = std::minmax_element(set.images.row(i), set.images.row(i) + set.images.cols());
    CHECK(*low >= 0);
    CHECK(*high <= 1);
    CHECK(*high - *low > 0.3f);
  }
}

TEST_CASE("glyphs: every class is drawn, about equally often") {
  std::vector<int> count(demo::glyph_classes.size());
  for (int const label : demo::draw_glyphs(6000, 2).labels) ++count.at(static_cast<std::size_t>(label));
  CHECK(*std::min_element(count.begin(), count.end()) > 130);
  CHECK(*std::max_element(count.begin(), count.end()) < 280);
}

TEST_CASE("glyphs: strokes are pairs of digits on the grid, and names differ") {
  std::set<std::string_view> names, shapes;
  for (auto const& g : demo::glyph_classes) {
    names.insert(g.name);
    shapes.insert(g.strokes);
    for (auto const& stroke : demo::detail::trace(g)) {
      CHECK(stroke.size() >= 5);
      for (auto const p : stroke) {
        CHECK(std::abs(p.x) <= 0.45f);  // 0.375, and what a curve swings beyond its points
        CHECK(std::abs(p.y) <= 0.55f);
      }
    }
  }
  CHECK(names.size() == demo::glyph_classes.size());
  CHECK(shapes.size() == demo::glyph_classes.size());
}

TEST_CASE("glyphs: none are drawn when none are asked for") {
  auto const none = demo::draw_glyphs(0, 1);
  CHECK(none.images.rows() == 0);
  CHECK(none.labels.empty());
}

TEST_CASE("mlp_trainer: learns a task that a linear network cannot") {
  auto const test = disc(2000, 2);
  double const dropout = GENERATE(0.0, 0.1);
  CHECK(demo::accuracy(train_on_disc(5, dropout).network(), test.images, test.labels) > 0.94);

  std::vector<index_t> const linear{2, 3};
  demo::mlp_trainer straight(linear, {.epochs = 12, .batch = 32, .learning_rate = 1e-2});
  auto const data = disc(2000, 1);
  for (int e = 0; e < 12; ++e) straight.epoch(data.images, data.labels);
  CHECK(demo::accuracy(straight.network(), test.images, test.labels) < 0.85);
}

TEST_CASE("mlp_trainer: a seed gives the same network each time") {
  auto const a = train_on_disc(5, 0.1), b = train_on_disc(5, 0.1), c = train_on_disc(6, 0.1);
  auto const& w = a.network().weights[0];
  CHECK(same_pixels(w, b.network().weights[0], w.rows()));
  CHECK_FALSE(same_pixels(w, c.network().weights[0], w.rows()));
}

TEST_CASE("mlp_trainer: one step follows the gradient of the loss") {
  // Adam's first step is the learning rate times the gradient's sign; the sign is checked by finite differences.
  std::vector<index_t> const sizes{2, 8, 3};
  auto const data = disc(64, 4);
  demo::mlp_trainer trainer(sizes, {.epochs = 1, .batch = 64, .learning_rate = 1e-2, .weight_decay = 0, .seed = 3});
  auto const before = trainer.network();
  trainer.epoch(data.images, data.labels);
  auto const loss = [&](demo::mlp_weights const& net) {
    auto const out = demo::logits(net, data.images);
    double sum = 0;
    for (index_t i = 0; i < out.rows(); ++i) {
      double all = 0;
      for (index_t j = 0; j < out.cols(); ++j) all += std::exp(static_cast<double>(out(i, j)));
      sum += std::log(all) - static_cast<double>(out(i, data.labels[static_cast<std::size_t>(i)]));
    }
    return sum / static_cast<double>(out.rows());
  };
  int checked = 0;
  for (std::size_t l = 0; l < before.weights.size(); ++l) {
    for (index_t k = 0; k < before.weights[l].size(); ++k) {
      auto plus = before, minus = before;
      plus.weights[l].data()[k] += 1e-2f;
      minus.weights[l].data()[k] -= 1e-2f;
      double const slope = (loss(plus) - loss(minus)) / 2e-2;
      if (std::abs(slope) < 2e-3) continue;  // too flat for a sign
      float const moved = trainer.network().weights[l].data()[k] - before.weights[l].data()[k];
      CHECK((moved < 0) == (slope > 0));
      ++checked;
    }
  }
  CHECK(checked > 20);
}

TEST_CASE("mlp_trainer: data that do not fit are a broken contract") {
  std::vector<index_t> const sizes{2, 3}, too_few{2};
  demo::mlp_trainer trainer(sizes, {});
  auto const data = disc(10, 1);
  CHECK_THROWS_AS(trainer.epoch(pare::matrix<float>(10, 3), data.labels), pare::contract_violation);
  CHECK_THROWS_AS(trainer.epoch(pare::matrix<float>(9, 2), data.labels), pare::contract_violation);
  CHECK_THROWS_AS(demo::mlp_trainer(too_few, {}), pare::contract_violation);
}
