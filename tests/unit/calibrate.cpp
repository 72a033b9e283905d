// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <pare/calibrate/input_norms.hpp>
#include <pare/calibrate/statistics.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::index_t;
using pare::input_norms;

TEST_CASE("input_norms: are the L2 norms of the features over all batches, in either layout") {
  pare::random_source random(4);
  auto const a = pare::test::random_matrix(random, {5, 11});  // (K, N)
  auto const b = pare::test::random_matrix(random, {3, 5});   // token-major (N, K)
  input_norms norms(5);
  CHECK(norms.norm(0) == 0.0);
  norms.add(a.span());
  norms.add(b.span().transposed());
  norms.add(pare::matrix<float>(5, 0).span());
  CHECK(norms.samples() == 14);
  for (index_t k = 0; k < 5; ++k) {
    double sum = 0.0;
    for (index_t n = 0; n < 11; ++n) sum += std::pow(static_cast<double>(a(k, n)), 2);
    for (index_t n = 0; n < 3; ++n) sum += std::pow(static_cast<double>(b(n, k)), 2);
    CHECK(norms.squared_norm(k) == Approx(sum).epsilon(1e-14));
    CHECK(norms.norm(k) == Approx(std::sqrt(sum)).epsilon(1e-14));
  }
}

TEST_CASE("statistics: merging two halves gives what one pass over both gives") {
  pare::random_source random(6);
  using list = pare::statistics<input_norms>;
  list first(4);
  list second(4);
  list both(4);
  for (int batch = 0; batch < 6; ++batch) {
    auto const x = pare::test::random_matrix(random, {4, 1 + batch});
    (batch < 3 ? first : second).add(x.span());
    both.add(x.span());
  }
  first.merge(second);
  CHECK(first.get<input_norms>().samples() == both.get<input_norms>().samples());
  for (index_t k = 0; k < 4; ++k)
    CHECK(first.get<input_norms>().squared_norm(k) == Approx(both.get<input_norms>().squared_norm(k)).epsilon(1e-13));
}

TEST_CASE("input_norms: large inputs do not overflow, and features of another number are a contract violation") {
  pare::matrix<float> x(2, 3);
  for (index_t n = 0; n < 3; ++n) x(1, n) = 3e38f;
  input_norms norms(2);
  norms.add(x.span());
  CHECK(norms.norm(1) == Approx(3e38 * std::sqrt(3.0)).epsilon(1e-6));
  CHECK_THROWS_AS(norms.add(x.span().transposed()), pare::contract_violation);
  CHECK_THROWS_AS(norms.merge(input_norms(3)), pare::contract_violation);
}
