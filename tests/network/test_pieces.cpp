// SPDX-License-Identifier: Apache-2.0
// The building blocks of the networks, each against a plain loop in double.
#include <cmath>
#include <limits>
#include <vector>

#include <pare/core/random.hpp>
#include <pare/nn/activation.hpp>
#include <pare/nn/attention.hpp>
#include <pare/nn/im2col.hpp>
#include <pare/nn/norm.hpp>
#include <pare/core/reduce.hpp>
#include <pare/nn/rope.hpp>

#include "support/catch.hpp"

using namespace pare;

namespace {
matrix<float> random_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  random_source random(seed);
  matrix<float> m(rows, cols);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = random.uniform(-1.0f, 1.0f);
  return m;
}
}  // namespace

TEST_CASE("exponential: within 3e-7 of exp from -87 to 88, clamped outside, NaN stays NaN") {
  double worst = 0;
  for (float x = -87.0f; x <= 88.0f; x += 0.0137f) {
    double const exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(exponential(x)) - exact) / exact);
  }
  CHECK(worst < 3e-7);
  CHECK(exponential(0.0f) == 1.0f);
  CHECK(exponential(-std::numeric_limits<float>::infinity()) == exponential(-87.0f));
  CHECK(exponential(1000.0f) == exponential(88.0f));
  CHECK(exponential(std::numeric_limits<float>::infinity()) == exponential(88.0f));
  CHECK(std::isnan(exponential(-std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("activations: each name gives its function, an unknown name lists the known ones") {
  auto const value = [](std::string_view text, float x) {
    layer_epilogue e;
    e.act = parse_activation(text).value();
    return e(x, index_t{0}, index_t{0});
  };
  CHECK(value("identity", -1.5f) == -1.5f);
  CHECK(value("relu", -1.5f) == 0.0f);
  CHECK(value("relu", 1.5f) == 1.5f);
  CHECK(std::isnan(value("relu", std::numeric_limits<float>::quiet_NaN())));
  CHECK(value("tanh", 0.5f) == Approx(std::tanh(0.5)).epsilon(1e-6));
  CHECK(value("gelu", 1.0f) == Approx(0.8413447).epsilon(1e-6));
  CHECK(value("silu", 1.0f) == Approx(0.7310586).epsilon(1e-6));
  auto const unknown = parse_activation("swish");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == errc::unsupported);
  CHECK(unknown.error().what.find("swish") != std::string::npos);
  CHECK(unknown.error().what.find("relu") != std::string::npos);
}

TEST_CASE("swiglu: silu of the gate times the other branch") {
  std::vector<float> gate{-300.0f, -0.5f, 0.0f, 0.25f, 400.0f};
  std::vector<float> const up{2.0f, -1.0f, 3.0f, 1.0f, 0.5f};
  std::vector<float> const before = gate;
  swiglu(gate.data(), up.data(), 5);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    double const g = static_cast<double>(before[i]);
    CHECK(static_cast<double>(gate[i]) ==
          Approx(g / (1.0 + std::exp(-g)) * static_cast<double>(up[i])).margin(1e-7).epsilon(1e-6));
  }
}

TEST_CASE("reductions: sum, maximum, argmax and finiteness hold for every length around the lane count") {
  for (index_t n = 1; n <= 70; ++n) {
    auto const m = random_matrix(1, n, static_cast<std::uint64_t>(n));
    double total = 0;
    float top = m(0, 0);
    for (index_t i = 0; i < n; ++i) {
      total += static_cast<double>(m(0, i));
      top = std::max(top, m(0, i));
    }
    INFO("n = " << n);
    CHECK(sum_of<double>(n, [&](index_t i) { return static_cast<double>(m(0, i)); }) == Approx(total).margin(1e-12));
    CHECK(maximum(m.data(), n) == top);
    CHECK(m(0, argmax(m.data(), n)) == top);
    CHECK(all_finite(m.data(), n));
    auto broken = m;
    broken(0, n - 1) = n % 2 == 0 ? std::numeric_limits<float>::infinity() : std::nanf("");
    CHECK_FALSE(all_finite(broken.data(), n));
  }
  std::vector<float> const ties{1.0f, 3.0f, 3.0f};
  CHECK(argmax(ties.data(), 3) == 1);
}

TEST_CASE("rms_norm: the mean square of the result is one where the gain is one") {
  auto const x = random_matrix(1, 37, 3);
  std::vector<float> const gain(37, 1.0f);
  std::vector<float> y(37);
  rms_norm(x.data(), gain.data(), 0.0f, y.data(), 37);
  double square = 0;
  for (float const v : y) square += static_cast<double>(v) * static_cast<double>(v);
  CHECK(square / 37 == Approx(1.0).epsilon(1e-5));
  CHECK(y[5] / y[6] == Approx(x(0, 5) / x(0, 6)).epsilon(1e-4));
}

TEST_CASE("rope: scores depend on the distance of two positions only, and pairs are half a head apart") {
  index_t const size = 6;
  rope const turn(40, size, 10000.0);
  auto const score = [&](index_t position_q, index_t position_k) {
    auto q = random_matrix(1, size, 1);
    auto k = random_matrix(1, size, 2);
    turn.rotate(q.data(), 1, position_q);
    turn.rotate(k.data(), 1, position_k);
    double s = 0;
    for (index_t i = 0; i < size; ++i) s += static_cast<double>(q(0, i)) * static_cast<double>(k(0, i));
    return s;
  };
  CHECK(score(9, 4) == Approx(score(37, 32)).epsilon(1e-5));
  CHECK(std::abs(score(9, 4) - score(9, 5)) > 1e-3);
  std::vector<float> x{1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0};
  turn.rotate(x.data(), 2, 3);
  CHECK(x[0] == Approx(std::cos(3.0)).epsilon(1e-6));
  CHECK(x[3] == Approx(std::sin(3.0)).epsilon(1e-6));
  CHECK(x[9] == x[3]);
}

TEST_CASE("attend: equals the formula, for head sizes that are no multiple of four and queries in the middle") {
  for (index_t const size : {2, 6, 8, 10}) {
    head_layout const heads{.query_heads = 6, .key_heads = 2, .size = size};
    index_t const positions = 19;
    index_t const first = 12;  // queries are the last seven positions
    auto const q = random_matrix(positions - first, 6 * size, 1);
    auto const k = random_matrix(positions, 2 * size, 2);
    auto const v = random_matrix(positions, 2 * size, 3);
    attention_cache cache(heads, positions + 3);
    cache.store(k.span().row_range(0, 5), v.span().row_range(0, 5), 0);
    cache.store(k.span().row_range(5, positions - 5), v.span().row_range(5, positions - 5), 5);
    matrix<float> out(q.rows(), q.cols());
    std::vector<float> scores(static_cast<std::size_t>(score_space(positions)));
    attend(heads, q.span(), cache, first, out.span(), scores.data());
    for (index_t t = 0; t < q.rows(); ++t)
      for (index_t h = 0; h < 6; ++h) {
        std::vector<double> weight(static_cast<std::size_t>(first + t + 1));
        double total = 0;
        for (std::size_t p = 0; p < weight.size(); ++p) {
          double dot = 0;
          for (index_t d = 0; d < size; ++d)
            dot += static_cast<double>(q(t, h * size + d)) *
                   static_cast<double>(k(static_cast<index_t>(p), h / 3 * size + d));
          weight[p] = std::exp(dot / std::sqrt(static_cast<double>(size)));
          total += weight[p];
        }
        for (index_t d = 0; d < size; ++d) {
          double expected = 0;
          for (std::size_t p = 0; p < weight.size(); ++p)
            expected += weight[p] / total * static_cast<double>(v(static_cast<index_t>(p), h / 3 * size + d));
          CHECK(static_cast<double>(out(t, h * size + d)) == Approx(expected).margin(1e-6));
        }
      }
  }
}

TEST_CASE("im2col: every patch element is its pixel, or zero outside the image") {
  for (index_t const kernel : {1, 3, 5})
    for (index_t const stride : {1, 2, 3})
      for (index_t const padding : {0, 1, 2}) {
        convolution const c{.height = 7, .width = 6, .kernel = kernel, .stride = stride, .padding = padding};
        auto const image = random_matrix(2, 42, 5);
        matrix<float> columns(2 * kernel * kernel, c.out_pixels());
        im2col(image.span(), c, columns.span());
        index_t wrong = 0;
        for (index_t ch = 0; ch < 2; ++ch)
          for (index_t ky = 0; ky < kernel; ++ky)
            for (index_t kx = 0; kx < kernel; ++kx)
              for (index_t y = 0; y < c.out_height(); ++y)
                for (index_t x = 0; x < c.out_width(); ++x) {
                  index_t const iy = y * stride + ky - padding;
                  index_t const ix = x * stride + kx - padding;
                  bool const inside = iy >= 0 && iy < 7 && ix >= 0 && ix < 6;
                  float const expected = inside ? image(ch, iy * 6 + ix) : 0.0f;
                  wrong += columns((ch * kernel + ky) * kernel + kx, y * c.out_width() + x) != expected ? 1 : 0;
                }
        INFO("kernel " << kernel << ", stride " << stride << ", padding " << padding);
        CHECK(wrong == 0);
      }
}
