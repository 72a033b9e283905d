// SPDX-License-Identifier: Apache-2.0
// MaskLLM's choices, against tables and slow versions of its formulas.
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include <pare/score/magnitude.hpp>
#include <pare/select/mask_llm.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::mask_llm;
using pare::matrix;
using pare::n_of_m;

namespace {

bool keeps(std::uint32_t choice, index_t input) { return ((choice >> input) & 1u) != 0; }

}  // namespace

TEST_CASE("n_of_m_choices: all of them, in the order of the published table") {
  CHECK(pare::n_of_m_choices(2, 4) == std::vector<std::uint32_t>{0b0011, 0b0101, 0b1001, 0b0110, 0b1010, 0b1100});
  CHECK(pare::n_of_m_choices(1, 4) == std::vector<std::uint32_t>{0b0001, 0b0010, 0b0100, 0b1000});
  for (index_t m = 2; m <= 8; ++m) {
    std::size_t binomial = 1;  // C(m, n)
    for (index_t n = 1; n < m; ++n) {
      binomial = binomial * std::size_t(m - n + 1) / std::size_t(n);
      auto const choices = pare::n_of_m_choices(n, m);
      CHECK(choices.size() == binomial);
      for (std::size_t c = 0; c < choices.size(); ++c) {
        CHECK(std::popcount(choices[c]) == n);
        CHECK(choices[c] < (1u << m));
        for (std::size_t d = 0; d < c; ++d) CHECK(choices[c] != choices[d]);
      }
    }
  }
  CHECK(pare::n_of_m_choices(8, 16).size() == 12870);
  CHECK_THROWS_AS(pare::n_of_m_choices(0, 4), pare::contract_violation);
  CHECK_THROWS_AS(pare::n_of_m_choices(4, 4), pare::contract_violation);
  CHECK_THROWS_AS(pare::n_of_m_choices(8, 32), pare::contract_violation);
}

TEST_CASE("mask_llm: best takes the highest logit of each group, of equal ones the first") {
  mask_llm m({2, 8}, n_of_m<2, 4>{}, 0);
  CHECK(m.logits().shape() == extents{4, 6});
  m.logits() = matrix<float>(4, 6);
  m.logits()(0, 3) = 1.0f;  // 0110
  m.logits()(1, 5) = 2.0f;  // 0011
  m.logits()(2, 1) = 0.5f;  // 1010; the last group: all equal, 1100
  m.logits()(2, 2) = 0.5f;
  char const* const rows[] = {"01100011", "10101100"};
  auto const keep = m.best();
  for (index_t r = 0; r < 2; ++r)
    for (index_t c = 0; c < 8; ++c) CHECK(keep(r, c) == (rows[r][c] == '1'));
  CHECK(pare::admits(n_of_m<2, 4>{}, keep));
}

TEST_CASE("mask_llm: starts from normal logits of the given deviation, the same for the same seed") {
  mask_llm const a({64, 64}, n_of_m<2, 4>{}, 9);
  CHECK(pare::test::same_bits(a.logits(), mask_llm({64, 64}, n_of_m<2, 4>{}, 9).logits()));
  CHECK_FALSE(pare::test::same_bits(a.logits(), mask_llm({64, 64}, n_of_m<2, 4>{}, 10).logits()));
  double sum = 0.0, squares = 0.0;
  auto const n = static_cast<double>(a.logits().size());
  for (index_t i = 0; i < a.logits().size(); ++i) sum += static_cast<double>(a.logits().data()[i]);
  for (index_t i = 0; i < a.logits().size(); ++i) squares += std::pow(static_cast<double>(a.logits().data()[i]), 2);
  CHECK(std::abs(sum / n) < 4 * 0.01 / std::sqrt(n));
  CHECK(std::sqrt(squares / n) == Approx(0.01).epsilon(0.05));
}

TEST_CASE("mask_llm: a prior adds strength * (overlap - 1) * sd, and its mask becomes the best choice") {
  pare::random_source random(3);
  auto const w = pare::test::random_matrix(random, {6, 16});
  for (any_pattern const pattern :
       {any_pattern(n_of_m<2, 4>{}), any_pattern(n_of_m<1, 4>{}), any_pattern(n_of_m<4, 8>{})}) {
    auto const prior = pare::select(pare::score(w, pare::magnitude{}), pattern);
    mask_llm m(w.shape(), pattern, 1);
    auto const before = m.logits();
    double mean = 0.0, squares = 0.0;
    auto const n = static_cast<double>(before.size());
    for (index_t i = 0; i < before.size(); ++i) mean += static_cast<double>(before.data()[i]) / n;
    for (index_t i = 0; i < before.size(); ++i) squares += std::pow(static_cast<double>(before.data()[i]) - mean, 2);
    double const sd = std::sqrt(squares / (n - 1.0));
    m.add_prior(prior, 3.0);
    index_t const groups = w.cols() / pattern.of();
    for (index_t g = 0; g < before.rows(); ++g)
      for (index_t c = 0; c < before.cols(); ++c) {
        int overlap = 0;
        for (index_t j = 0; j < pattern.of(); ++j)
          overlap += keeps(m.choices()[std::size_t(c)], j) && prior(g / groups, g % groups * pattern.of() + j) ? 1 : 0;
        CHECK(static_cast<double>(m.logits()(g, c)) ==
              Approx(static_cast<double>(before(g, c)) + 3.0 * sd * (overlap - 1)).epsilon(1e-5).margin(1e-8));
      }
    m.add_prior(prior, 100.0);
    CHECK(m.best() == prior);
    CHECK(m.sample(5, 1e6) == prior);
  }
  mask_llm equal({1, 4}, n_of_m<2, 4>{}, 0, 0.0);  // no deviation, no prior
  equal.add_prior(mask({1, 4}, true));
  CHECK(equal.best() == mask_llm({1, 4}, n_of_m<2, 4>{}, 0, 0.0).best());
  CHECK_THROWS_AS(equal.add_prior(mask({1, 8})), pare::contract_violation);
}

TEST_CASE("mask_llm: samples follow the softmax of the scaled logits") {
  mask_llm m({4000, 4}, n_of_m<1, 4>{}, 0);
  float const logits[] = {0.0f, 1.0f, -1.0f, 0.5f};
  for (index_t g = 0; g < 4000; ++g)
    for (index_t c = 0; c < 4; ++c) m.logits()(g, c) = logits[c];
  for (double const scale : {0.0, 1.0, 2.0}) {
    auto const keep = m.sample(77, scale);
    CHECK(pare::admits(n_of_m<1, 4>{}, keep));
    double sum = 0.0;
    for (float l : logits) sum += std::exp(scale * static_cast<double>(l));
    for (index_t c = 0; c < 4; ++c) {
      index_t count = 0;
      for (index_t g = 0; g < 4000; ++g) count += keep(g, c) ? 1 : 0;
      double const p = std::exp(scale * static_cast<double>(logits[c])) / sum;
      CHECK(std::abs(static_cast<double>(count) - 4000 * p) < 4.5 * std::sqrt(4000 * p * (1 - p)));
    }
    CHECK(m.sample(77, scale) == keep);
  }
  CHECK_FALSE(m.sample(77) == m.sample(78));
}

TEST_CASE("mask_llm: the soft mask sums to N a group, and nears the sample of its seed as it cools") {
  mask_llm m({3, 12}, n_of_m<2, 4>{}, 4, 1.0);
  auto const warm = m.soft_mask(6, 1.0, 1.0);
  auto const hot = m.soft_mask(6, 1.0, 1e9);
  auto const cold = m.soft_mask(6, 1.0, 1e-6);
  auto const drawn = m.sample(6, 1.0);
  for (index_t r = 0; r < 3; ++r)
    for (index_t c = 0; c < 12; ++c) {
      CHECK((warm(r, c) > 0.0f && warm(r, c) < 1.0f));
      CHECK(hot(r, c) == Approx(0.5));
      CHECK(cold(r, c) == Approx(drawn(r, c) ? 1.0 : 0.0));
      if (c % 4 == 0) CHECK(warm(r, c) + warm(r, c + 1) + warm(r, c + 2) + warm(r, c + 3) == Approx(2.0));
    }
  // Without noise to speak of it is the softmax: logits 1e4 apart by 1, scaled back by the temperature.
  mask_llm plain({1, 4}, n_of_m<1, 4>{}, 0);
  for (index_t c = 0; c < 4; ++c) plain.logits()(0, c) = static_cast<float>(c);
  auto const y = plain.soft_mask(1, 1e9, 1e9);
  double const sum = 1 + std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
  for (index_t c = 0; c < 4; ++c) CHECK(y(0, c) == Approx(std::exp(static_cast<double>(c)) / sum).epsilon(1e-5));
  auto const extreme = plain.soft_mask(1, 1e30, 1e-3);  // exponents beyond any double
  CHECK((extreme(0, 0) == 0.0f && extreme(0, 3) == 1.0f));
  CHECK_THROWS_AS(plain.soft_mask(1, 1.0, 0.0), pare::contract_violation);
}

TEST_CASE("mask_llm: patterns that are no N:M of single weights are a contract violation") {
  CHECK_THROWS_AS(mask_llm({2, 8}, pare::unstructured{}, 0), pare::contract_violation);
  CHECK_THROWS_AS(mask_llm({2, 6}, n_of_m<2, 4>{}, 0), pare::contract_violation);
  CHECK_THROWS_AS(mask_llm({4, 8}, n_of_m<2, 4, 4>{}, 0), pare::contract_violation);
  CHECK_THROWS_AS(mask_llm({2, 64}, n_of_m<8, 32>{}, 0), pare::contract_violation);
  CHECK(mask_llm({0, 8}, n_of_m<2, 4>{}, 0).best().count() == 0);
}
