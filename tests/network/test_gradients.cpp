// SPDX-License-Identifier: Apache-2.0
// The way back through every module and loss, against central differences of plain formulas in double.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <pare/nn/activation.hpp>
#include <pare/nn/attention.hpp>
#include <pare/nn/gradient.hpp>
#include <pare/nn/im2col.hpp>
#include <pare/nn/loss.hpp>
#include <pare/nn/norm.hpp>
#include <pare/nn/rope.hpp>

#include "network/finite_differences.hpp"
#include "support/catch.hpp"
#include "support/samples.hpp"

using namespace pare;
using pare::test::gradient_error;
using pare::test::in_double;
using pare::test::random_matrix;
using doubles = std::vector<double>;

TEST_CASE("derivative: of every activation, and 0 for ReLU at 0") {
  for (auto const kind : {activation::none, activation::relu, activation::silu, activation::gelu, activation::tanh}) {
    auto const value = [kind](double x) {
      switch (kind) {
        case activation::relu:
          return std::max(x, 0.0);
        case activation::silu:
          return x / (1 + std::exp(-x));
        case activation::gelu:
          return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
        case activation::tanh:
          return std::tanh(x);
        case activation::none:
          break;
      }
      return x;
    };
    for (float x = -9.05f; x < 9.0f; x += 0.1f) {
      double const exact = (value(static_cast<double>(x) + 1e-5) - value(static_cast<double>(x) - 1e-5)) / 2e-5;
      INFO("activation " << static_cast<int>(kind) << " at " << x);
      CHECK(static_cast<double>(derivative(kind, x)) == Approx(exact).margin(1e-6).epsilon(1e-5));
    }
  }
  CHECK(derivative(activation::relu, 0.0f) == 0.0f);
}

TEST_CASE("swiglu_backward, rms_norm_backward: central differences, for every length around the lane count") {
  random_source random(1);
  for (index_t const n : {1, 2, 15, 16, 17, 33, 70}) {
    auto const gate = random_matrix(random, {1, n});
    auto const up = random_matrix(random, {1, n});
    auto const delta = random_matrix(random, {1, n});
    auto const d = in_double(delta);
    doubles g = in_double(gate);
    doubles u = in_double(up);
    INFO("n = " << n);

    matrix<float> d_gate = delta;  // in place
    matrix<float> d_up(1, n);
    swiglu_backward(gate.data(), up.data(), d_gate.data(), d_gate.data(), d_up.data(), n);
    auto const gated = [&] {
      double total = 0;
      for (std::size_t i = 0; i < g.size(); ++i) total += d[i] * g[i] / (1 + std::exp(-g[i])) * u[i];
      return total;
    };
    CHECK(gradient_error(d_gate.span(), g, gated) < 2e-6);
    CHECK(gradient_error(d_up.span(), u, gated) < 2e-6);

    matrix<float> dx(1, n);
    for (index_t i = 0; i < n; ++i) dx(0, i) = 1.0f;  // it adds
    rms_norm_backward(gate.data(), up.data(), 1e-3f, delta.data(), dx.data(), n);
    auto const normed = [&] {
      double square = 0;
      double total = 0;
      double ones = 0;
      for (std::size_t i = 0; i < g.size(); ++i) {
        square += g[i] * g[i];
        total += d[i] * u[i] * g[i];
        ones += g[i];
      }
      return ones + total / std::sqrt(square / static_cast<double>(n) + 1e-3);
    };
    CHECK(gradient_error(dx.span(), g, normed) < 1e-5);
  }
}

TEST_CASE("rope: turning back is the inverse of turning") {
  random_source random(2);
  auto const x = random_matrix(random, {1, 18});
  rope const turn(50, 6, 10000.0);
  matrix<float> y = x;
  turn.rotate(y.data(), 3, 41);
  turn.rotate_back(y.data(), 3, 41);
  for (index_t i = 0; i < 18; ++i) CHECK(y(0, i) == Approx(x(0, i)).margin(1e-6));
}

TEST_CASE("col2im: the transpose of im2col, for kernels, strides and paddings of all kinds") {
  random_source random(4);
  for (convolution const& c : {convolution{7, 9, 3, 1, 1}, convolution{8, 6, 3, 2, 1}, convolution{5, 5, 5, 1, 2},
                               convolution{6, 7, 2, 2, 0}, convolution{4, 4, 1, 3, 0}, convolution{3, 2, 3, 1, 3}}) {
    index_t const channels = 3;
    auto const image = random_matrix(random, {channels, c.height * c.width});
    auto const weights = random_matrix(random, {channels * c.kernel * c.kernel, c.out_pixels()});
    matrix<float> columns(weights.shape());
    im2col(image.span(), c, columns.span());
    matrix<float> back(image.shape());
    col2im(weights.span(), c, back.span());
    double forward = 0;
    double backward = 0;
    for (index_t i = 0; i < columns.size(); ++i)
      forward += static_cast<double>(columns.data()[i]) * static_cast<double>(weights.data()[i]);
    for (index_t i = 0; i < image.size(); ++i)
      backward += static_cast<double>(image.data()[i]) * static_cast<double>(back.data()[i]);
    INFO("kernel " << c.kernel << ", stride " << c.stride << ", padding " << c.padding);
    CHECK(forward == Approx(backward).epsilon(1e-5).margin(1e-5));
  }
}

TEST_CASE("attend_backward: central differences, one to four queries a key, sequences within and over a block") {
  random_source random(5);
  for (auto const& [heads, count] :
       {std::pair{head_layout{2, 2, 6}, index_t{1}}, std::pair{head_layout{4, 2, 10}, index_t{7}},
        std::pair{head_layout{4, 1, 4}, index_t{35}}}) {
    index_t const queries = heads.query_heads * heads.size;
    index_t const keys = heads.key_heads * heads.size;
    auto const q = random_matrix(random, {count, queries});
    auto const k = random_matrix(random, {count, keys});
    auto const v = random_matrix(random, {count, keys});
    auto const delta = random_matrix(random, {count, queries});
    attention_cache cache(heads, count + 3);
    attention_gradients work(heads, count + 5);
    matrix<float> dq(q.shape());
    matrix<float> dk(k.shape());
    matrix<float> dv(v.shape());
    cache.store(k.span(), v.span(), 0);
    // Twice: what an earlier, longer sequence left behind must not matter.
    for (int time = 0; time < 2; ++time)
      attend_backward(heads, q.span(), cache, delta.span(), dq.span(), dk.span(), dv.span(), work);

    doubles query = in_double(q);
    doubles key = in_double(k);
    doubles value = in_double(v);
    doubles const d = in_double(delta);
    auto const at = [](doubles& x, index_t width, index_t t, index_t f) {
      return x[static_cast<std::size_t>(t * width + f)];
    };
    auto const loss = [&, layout = heads, length = count] {
      double total = 0;
      for (index_t h = 0; h < layout.query_heads; ++h)
        for (index_t t = 0; t < length; ++t) {
          index_t const first = h / (layout.query_heads / layout.key_heads) * layout.size;
          doubles weight;
          double sum = 0;
          for (index_t p = 0; p <= t; ++p) {
            double dot = 0;
            for (index_t i = 0; i < layout.size; ++i)
              dot += at(query, queries, t, h * layout.size + i) * at(key, keys, p, first + i);
            weight.push_back(std::exp(dot / std::sqrt(static_cast<double>(layout.size))));
            sum += weight.back();
          }
          for (index_t p = 0; p <= t; ++p)
            for (index_t i = 0; i < layout.size; ++i)
              total += d[static_cast<std::size_t>(t * queries + h * layout.size + i)] *
                       weight[static_cast<std::size_t>(p)] / sum * at(value, keys, p, first + i);
        }
      return total;
    };
    INFO(heads.query_heads << " heads on " << heads.key_heads << ", " << count << " positions");
    if (count > 1) {  // one position: its weight is 1 whatever its score
      CHECK(gradient_error(dq.span(), query, loss) < 1e-5);
      CHECK(gradient_error(dk.span(), key, loss) < 1e-5);
    }
    CHECK(gradient_error(dv.span(), value, loss) < 1e-5);
  }
}

TEST_CASE("linear::backward: W^T delta in any layout, dense, pruned and prepared, with or without something added") {
  random_source random(6);
  for (index_t const n : {1, 5, 70}) {
    linear layer("w", random_matrix(random, {19, 37}));
    layer.keep(test::random_mask(random, layer.shape(), 0.4f));
    auto const delta = random_matrix(random, {19, n});
    auto const added = random_matrix(random, {37, n});
    matrix<float> plain(37, n);
    matrix<float> sum(37, n);
    matrix<float> token_major(n, 37);
    layer.backward(delta.span(), plain.span());
    layer.backward(delta.span(), sum.span(), added.span());
    matrix<float> const turned(delta.span().transposed());
    layer.backward(turned.span().transposed(), token_major.span().transposed());
    double worst = 0;
    for (index_t k = 0; k < 37; ++k)
      for (index_t i = 0; i < n; ++i) {
        double exact = 0;
        for (index_t m = 0; m < 19; ++m)
          exact += static_cast<double>(layer.weight()(m, k)) * static_cast<double>(delta(m, i));
        worst = std::max(worst, std::abs(static_cast<double>(plain(k, i)) - exact));
        worst = std::max(worst, std::abs(static_cast<double>(sum(k, i) - added(k, i)) - exact));
        CHECK(token_major(i, k) == plain(k, i));
      }
    CHECK(worst < 1e-5);
    layer.prepare({.columns = n});
    matrix<float> prepared(37, n);
    layer.backward(delta.span(), prepared.span());
    CHECK(test::same_bits(prepared, plain));
  }
}

TEST_CASE("cross_entropy: value and gradient, mean and sum, targets of any integer type, rows without a target") {
  random_source random(7);
  auto const logits = random_matrix(random, {5, 9});
  std::vector<std::uint8_t> const bytes{3, 0, 8, 8};
  std::vector<int> const words(bytes.begin(), bytes.end());
  doubles x = in_double(logits);
  for (auto const how : {reduction::mean, reduction::sum}) {
    double const share = how == reduction::mean ? 0.25 : 1.0;
    auto const exact = [&] {
      double total = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        double sum = 0;
        for (std::size_t c = 0; c < 9; ++c) sum += std::exp(x[i * 9 + c]);
        total += share * (std::log(sum) - x[i * 9 + bytes[i]]);
      }
      return total;
    };
    matrix<float> d = logits;
    CHECK(cross_entropy<std::uint8_t>(bytes, 5, how)(d.span(), 0).value() == Approx(exact()).epsilon(1e-6));
    CHECK(gradient_error(d.span(), x, exact, 45) < 1e-6);
    matrix<float> parts = logits;
    cross_entropy<int> const loss(words, 5, how);  // in two parts
    double const both = loss(parts.span().row_range(0, 3), 0).value() + loss(parts.span().row_range(3, 2), 3).value();
    CHECK(both == Approx(exact()).epsilon(1e-6));
    CHECK(test::same_bits(parts, d));
  }
  CHECK(negative_log_likelihood({logits.row(2), 9}, 8) == Approx([&] {
          matrix<float> d = logits;
          return cross_entropy(std::vector<int>{8})(d.span().row_range(2, 1), 0).value();
        }()));
}

TEST_CASE("cross_entropy: no targets, and more rows than targets, are errors") {
  matrix<float> logits(3, 4);
  std::vector<int> const none;
  CHECK(cross_entropy(none)(logits.span(), 0).error().code == errc::missing);
  CHECK(next_token(std::vector<int>{1})(logits.span().row_range(0, 1), 0).error().code == errc::missing);
  std::vector<int> const two{1, 2};
  CHECK(cross_entropy(two)(logits.span(), 0).error().code == errc::mismatch);
  CHECK(cross_entropy(two)(logits.span().row_range(0, 1), 2).error().code == errc::mismatch);
  CHECK(cross_entropy(two)(logits.span().row_range(0, 1), 1).has_value());
}

TEST_CASE("cross_entropy: targets outside the classes and logits that are not finite are errors") {
  matrix<float> logits(2, 3);
  for (int const wrong : {-1, 3}) {
    std::vector<int> const targets{0, wrong};
    auto const loss = cross_entropy(targets)(logits.span(), 0);
    REQUIRE_FALSE(loss);
    CHECK(loss.error().code == errc::out_of_range);
    CHECK_THAT(loss.error().what, ContainsSubstring(std::to_string(wrong)));
  }
  logits(1, 2) = std::numeric_limits<float>::quiet_NaN();
  std::vector<int> const targets{0, 1};
  auto const loss = cross_entropy(targets)(logits.span(), 0);
  REQUIRE_FALSE(loss);
  CHECK(loss.error().code == errc::not_finite);
  CHECK_THAT(loss.error().what, ContainsSubstring("row 1"));
}

TEST_CASE("info_nce: central differences, with hard negatives and without") {
  random_source random(8);
  for (index_t const hard : {0, 3, 5}) {
    index_t const batch = 3;
    index_t const width = 11;
    auto const queries = random_matrix(random, {batch, width});
    auto const candidates = random_matrix(random, {batch + hard, width});
    matrix<float> dq(queries.shape());
    matrix<float> dc(candidates.shape());
    doubles q = in_double(queries);
    doubles c = in_double(candidates);
    auto const exact = [&] {
      auto const cosine = [&](std::size_t i, std::size_t j) {
        double dot = 0, a = 0, b = 0;
        for (std::size_t k = 0; k < 11; ++k) {
          dot += q[i * 11 + k] * c[j * 11 + k];
          a += q[i * 11 + k] * q[i * 11 + k];
          b += c[j * 11 + k] * c[j * 11 + k];
        }
        return dot / std::sqrt(a * b);
      };
      double total = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        double sum = 0;
        for (std::size_t j = 0; j < c.size() / 11; ++j) sum += std::exp(20.0 * cosine(i, j));
        total += (std::log(sum) - 20.0 * cosine(i, i)) / 3;
      }
      return total;
    };
    double const loss =
        info_nce(queries.span(), matrix_span<float const>(candidates.span()).row_range(0, batch),
                 matrix_span<float const>(candidates.span()).row_range(batch, hard), dq.span(), dc.span())
            .value();
    CHECK(loss == Approx(exact()).epsilon(1e-5));
    CHECK(gradient_error(dq.span(), q, exact) < 1e-5);
    CHECK(gradient_error(dc.span(), c, exact) < 1e-5);
  }
}

TEST_CASE("info_nce: no queries, embeddings that are zero or not finite are errors") {
  matrix<float> x(2, 4), d(2, 4), dc(4, 4);
  for (index_t i = 0; i < 8; ++i) x.data()[i] = 1.0f;
  auto const nothing = matrix_span<float const>(x.span()).row_range(0, 0);
  CHECK(info_nce(nothing, nothing, nothing, d.span().row_range(0, 0), dc.span().row_range(0, 0)).error().code ==
        errc::missing);
  for (float const wrong : {0.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    matrix<float> y = x;
    for (index_t k = 0; k < 4; ++k) y(1, k) = wrong;
    auto const loss = info_nce(x.span(), x.span(), y.span(), d.span(), dc.span());
    REQUIRE_FALSE(loss);
    CHECK(loss.error().code == errc::not_finite);
    CHECK_THAT(loss.error().what, ContainsSubstring("row 5"));
  }
  CHECK_THROWS_AS(info_nce(x.span(), x.span(), x.span(), d.span(), d.span()), contract_violation);
}

TEST_CASE("add_outer_products: delta x^T is added, in any layout") {
  random_source random(9);
  auto const delta = random_matrix(random, {6, 21});
  auto const x = random_matrix(random, {21, 13});  // token-major
  matrix<float> sum = random_matrix(random, {6, 13});
  matrix<float> const before = sum;
  add_outer_products(delta.span(), x.span().transposed(), sum);
  double worst = 0;
  for (index_t m = 0; m < 6; ++m)
    for (index_t k = 0; k < 13; ++k) {
      double exact = static_cast<double>(before(m, k));
      for (index_t n = 0; n < 21; ++n) exact += static_cast<double>(delta(m, n)) * static_cast<double>(x(n, k));
      worst = std::max(worst, std::abs(static_cast<double>(sum(m, k)) - exact));
    }
  CHECK(worst < 1e-5);
  CHECK_THROWS_AS(add_outer_products(delta.span(), delta.span().transposed(), sum), contract_violation);
}
