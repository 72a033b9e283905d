// SPDX-License-Identifier: Apache-2.0
// Statistics of gradients, against sums in double.
#include <cmath>
#include <vector>

#include <pare/calibrate/fisher.hpp>
#include <pare/calibrate/gradient_mean.hpp>
#include <pare/calibrate/input_norms.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using namespace pare;
using test::random_matrix;

namespace {

/// A sample: the inputs (K, N) of a layer and the gradient by its outputs (M, N) at its N positions.
struct sample {
  matrix<float> x, delta;
  [[nodiscard]] double gradient(index_t i, index_t j) const {
    double sum = 0.0;
    for (index_t t = 0; t < x.cols(); ++t) sum += static_cast<double>(delta(i, t)) * static_cast<double>(x(j, t));
    return sum;
  }
  [[nodiscard]] double squares(index_t i, index_t j) const {
    double sum = 0.0;
    for (index_t t = 0; t < x.cols(); ++t)
      sum += std::pow(static_cast<double>(delta(i, t)) * static_cast<double>(x(j, t)), 2);
    return sum;
  }
};

std::vector<sample> samples_of(random_source& random, extents shape, std::vector<index_t> const& positions) {
  std::vector<sample> all;
  for (index_t const n : positions)
    all.push_back({random_matrix(random, {shape.cols, n}), random_matrix(random, {shape.rows, n})});
  return all;
}

using all_kinds = statistics<gradient_mean, fisher, position_fisher>;

void feed(all_kinds& stats, sample const& s) {
  index_t const n = s.x.cols();
  index_t const half = n / 2;  // in two calls, one of which may be empty, and in two layouts
  matrix<float> const x = matrix<float>(s.x.span().col_range(half, n - half).transposed());
  matrix<float> const delta = matrix<float>(s.delta.span().col_range(half, n - half).transposed());
  stats.add(gradient_batch{s.x.span().col_range(0, half), s.delta.span().col_range(0, half)});
  stats.add(gradient_batch{x.span().transposed(), delta.span().transposed()});
  stats.close(n);
}

}  // namespace

TEST_CASE("gradient statistics: are the mean gradient and both Fisher diagonals of samples in parts") {
  random_source random(3);
  extents const shape{5, 7};
  auto const samples = samples_of(random, shape, {1, 6, 33, 2});
  all_kinds stats(shape);
  CHECK(stats.get<gradient_mean>()(0, 0) == 0.0);
  CHECK(stats.get<fisher>()(0, 0) == 0.0);
  CHECK(stats.get<position_fisher>()(0, 0) == 0.0);
  for (sample const& s : samples) feed(stats, s);
  CHECK(stats.get<gradient_mean>().positions() == 42);
  CHECK(stats.get<fisher>().samples() == 4);
  CHECK(stats.get<position_fisher>().positions() == 42);
  for (index_t i = 0; i < shape.rows; ++i)
    for (index_t j = 0; j < shape.cols; ++j) {
      double mean = 0.0;
      double squared = 0.0;
      double by_position = 0.0;
      for (sample const& s : samples) {
        mean += s.gradient(i, j) / 42.0;
        squared += std::pow(s.gradient(i, j) / static_cast<double>(s.x.cols()), 2) / 4.0;
        by_position += s.squares(i, j) / 42.0;
      }
      CHECK(stats.get<gradient_mean>()(i, j) == Approx(mean).margin(1e-6));
      CHECK(stats.get<fisher>()(i, j) == Approx(squared).epsilon(1e-4).margin(1e-8));
      CHECK(stats.get<position_fisher>()(i, j) == Approx(by_position).epsilon(1e-5));
    }
}

TEST_CASE("gradient statistics: columns that are samples are samples of one position") {
  random_source random(5);
  extents const shape{4, 3};
  auto const batch = samples_of(random, shape, {17});
  all_kinds columns(shape);
  all_kinds alone(shape);
  columns.add(gradient_batch{batch[0].x.span(), batch[0].delta.span(), true});
  for (index_t t = 0; t < 17; ++t) {
    alone.add(gradient_batch{batch[0].x.span().col_range(t, 1), batch[0].delta.span().col_range(t, 1)});
    alone.close(1);
  }
  CHECK(columns.get<fisher>().samples() == 17);
  CHECK(columns.get<gradient_mean>().positions() == 17);
  for (index_t i = 0; i < shape.rows; ++i)
    for (index_t j = 0; j < shape.cols; ++j) {
      CHECK(columns.get<fisher>()(i, j) == Approx(alone.get<fisher>()(i, j)).epsilon(1e-5));
      CHECK(columns.get<position_fisher>()(i, j) == Approx(alone.get<position_fisher>()(i, j)).epsilon(1e-5));
      CHECK(columns.get<fisher>()(i, j) == Approx(columns.get<position_fisher>()(i, j)).epsilon(1e-6));
      CHECK(columns.get<gradient_mean>()(i, j) == Approx(alone.get<gradient_mean>()(i, j)).margin(1e-6));
    }
}

TEST_CASE("gradient statistics: merging halves, and gradients as matrices, give what one pass gives") {
  random_source random(7);
  extents const shape{3, 4};
  auto const samples = samples_of(random, shape, {5, 3, 8, 1});
  all_kinds first(shape);
  all_kinds second(shape);
  all_kinds both(shape);
  statistics<gradient_mean, fisher> whole(shape);
  for (std::size_t s = 0; s < samples.size(); ++s) {
    feed(s < 2 ? first : second, samples[s]);
    feed(both, samples[s]);
    matrix<float> g(shape);
    for (index_t i = 0; i < shape.rows; ++i)
      for (index_t j = 0; j < shape.cols; ++j) g(i, j) = static_cast<float>(samples[s].gradient(i, j));
    whole.add_gradient(g.span());
    whole.close(samples[s].x.cols());
  }
  first.merge(second);
  for (index_t i = 0; i < shape.rows; ++i)
    for (index_t j = 0; j < shape.cols; ++j) {
      CHECK(first.get<fisher>()(i, j) == Approx(both.get<fisher>()(i, j)).epsilon(1e-6));
      CHECK(first.get<position_fisher>()(i, j) == Approx(both.get<position_fisher>()(i, j)).epsilon(1e-6));
      CHECK(first.get<gradient_mean>()(i, j) == Approx(both.get<gradient_mean>()(i, j)).margin(1e-7));
      CHECK(whole.get<fisher>()(i, j) == Approx(both.get<fisher>()(i, j)).epsilon(1e-4).margin(1e-9));
      CHECK(whole.get<gradient_mean>()(i, j) == Approx(both.get<gradient_mean>()(i, j)).margin(1e-6));
    }
  CHECK(first.get<fisher>().samples() == 4);
}

TEST_CASE("fisher: values of 1e-10 and less survive thousands of samples beside large ones") {
  fisher f({1, 2});
  matrix<float> x(2, 1);
  matrix<float> delta(1, 1);
  delta(0, 0) = 1.0f;
  x(0, 0) = 1e-8f;  // squared: 1e-16
  for (int s = 0; s < 10000; ++s) {
    x(1, 0) = s % 2 == 0 ? 1e3f : -1e-3f;
    f.add(gradient_batch{x.span(), delta.span()});
    f.close(1);
  }
  CHECK(f(0, 0) == Approx(1e-16).epsilon(1e-4));
  CHECK(f(0, 1) == Approx(5e5).epsilon(1e-4));
}

TEST_CASE("statistics: a corpus fills its own statistics only, and a backward pass those of inputs too") {
  using list = statistics<input_norms, of<general_corpus, fisher>, of<domain_corpus, fisher>>;
  static_assert(list::needs_gradients && !statistics<input_norms>::needs_gradients);
  static_assert(list::has_corpus<domain_corpus> && list::has_corpus<any_corpus>);
  static_assert(!statistics<fisher>::has_corpus<domain_corpus>);
  list stats(extents{1, 2});
  matrix<float> x(2, 1);
  matrix<float> delta(1, 1);
  x(0, 0) = 3.0f;
  x(1, 0) = 4.0f;
  delta(0, 0) = 2.0f;
  stats.add<domain_corpus>(gradient_batch{x.span(), delta.span()});
  stats.close<domain_corpus>(1);
  CHECK(stats.get<of<domain_corpus, fisher>>()(0, 1) == 64.0);
  CHECK(stats.get<of<general_corpus, fisher>>().samples() == 0);
  CHECK(stats.get<input_norms>().samples() == 0);
  stats.add(gradient_batch{x.span(), delta.span()});
  CHECK(stats.get<input_norms>().norm(1) == 4.0);
  CHECK(stats.get<of<domain_corpus, fisher>>().samples() == 1);

  list other(extents{1, 2});
  other.add<general_corpus>(gradient_batch{x.span(), delta.span()});
  other.close<general_corpus>(1);
  stats.merge(other);
  CHECK(stats.get<of<general_corpus, fisher>>()(0, 1) == 64.0);
  CHECK(stats.get<of<general_corpus, fisher>>().samples() == 1);
  CHECK(stats.get<of<domain_corpus, fisher>>().samples() == 1);
}

TEST_CASE("gradient statistics: other shapes are contract violations") {
  random_source random(1);
  auto const x = random_matrix(random, {3, 2});
  auto const delta = random_matrix(random, {4, 2});
  auto const other = random_matrix(random, {4, 3});
  gradient_mean mean({4, 3});
  fisher f({4, 3});
  CHECK_THROWS_AS(mean.add(gradient_batch{delta.span(), x.span()}), contract_violation);
  CHECK_THROWS_AS(mean.add(gradient_batch{x.span(), other.span()}), contract_violation);
  CHECK_THROWS_AS(f.add(gradient_batch{delta.span(), x.span(), true}), contract_violation);
  CHECK_THROWS_AS(f.add_gradient(x.span()), contract_violation);
  CHECK_THROWS_AS(f.close(0), contract_violation);
  CHECK_THROWS_AS(mean.merge(gradient_mean({3, 4})), contract_violation);
  CHECK_THROWS_AS(f.merge(fisher({3, 4})), contract_violation);
  CHECK_NOTHROW(f.add_gradient(other.span()));
}
