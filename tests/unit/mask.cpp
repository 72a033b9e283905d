// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <vector>

#include <pare/mask/mask.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::extents;
using pare::index_t;
using pare::mask;

namespace {
constexpr extents shapes[] = {{0, 0}, {0, 5}, {5, 0}, {1, 1}, {3, 63}, {3, 64}, {3, 65}, {7, 200}};
}

TEST_CASE("mask: bits behind the last column stay 0, so counts and comparisons are exact") {
  for (extents const s : shapes) {
    mask const all(s, true);
    CHECK(all.count() == s.size());
    CHECK(all.keeps_all());
    CHECK((~all).count() == 0);
    CHECK(~mask(s) == all);
    CHECK(all.sparsity() == 0.0);
    for (index_t r = 0; r < s.rows; ++r) CHECK(all.row_count(r) == s.cols);
  }
  CHECK(mask({3, 65}).sparsity() == 1.0);
}

TEST_CASE("mask: set and read back, element by element") {
  pare::random_source random(1);
  for (extents const s : shapes) {
    std::vector<bool> truth(static_cast<std::size_t>(s.size()));
    mask m(s);
    for (int step = 0; step < 500 && s.size() > 0; ++step) {
      index_t const r = random.below(s.rows);
      index_t const c = random.below(s.cols);
      bool const keep = random.uniform() < 0.6f;
      m.set(r, c, keep);
      truth[static_cast<std::size_t>(r * s.cols + c)] = keep;
    }
    index_t count = 0;
    for (index_t r = 0; r < s.rows; ++r) {
      std::vector<index_t> expected;
      for (index_t c = 0; c < s.cols; ++c) {
        REQUIRE(m(r, c) == truth[static_cast<std::size_t>(r * s.cols + c)]);
        if (m(r, c)) expected.push_back(c);
      }
      std::vector<index_t> visited;
      m.for_each_in_row(r, [&](index_t c) { visited.push_back(c); });
      REQUIRE(visited == expected);
      REQUIRE(m.row_count(r) == std::ssize(expected));
      count += std::ssize(expected);
    }
    CHECK(m.count() == count);
  }
}

TEST_CASE("mask: obeys the laws of sets") {
  pare::random_source random(2);
  for (extents const s : shapes) {
    mask const a = pare::test::random_mask(random, s, 0.5f);
    mask const b = pare::test::random_mask(random, s, 0.3f);
    mask const both = a & b;
    CHECK(~(a | b) == (~a & ~b));
    CHECK((a ^ b) == ((a | b) & ~both));
    CHECK((a | b).count() + both.count() == a.count() + b.count());
    CHECK((both.subset_of(a) && both.subset_of(b) && a.subset_of(a | b)));
    CHECK(a.subset_of(b) == ((a & ~b).count() == 0));
    CHECK(~~a == a);
  }
  mask one({2, 2});
  one.set(0, 1);
  CHECK_FALSE(mask({2, 2}, true).subset_of(one));
}

TEST_CASE("mask: overlap is the Jaccard index") {
  mask a({1, 4});
  mask b({1, 4});
  CHECK(pare::overlap(a, b) == 1.0);
  a.set(0, 0);
  a.set(0, 1);
  b.set(0, 1);
  b.set(0, 2);
  CHECK(pare::overlap(a, b) == Approx(1.0 / 3.0));
}

TEST_CASE("mask: shapes that differ and negative extents are contract violations") {
  mask a({2, 3});
  mask const b({3, 2});
  CHECK_THROWS_AS(a &= b, pare::contract_violation);
  CHECK_THROWS_AS(a |= b, pare::contract_violation);
  CHECK_THROWS_AS(a ^= b, pare::contract_violation);
  CHECK_THROWS_AS(a.subset_of(b), pare::contract_violation);
  CHECK_THROWS_AS(mask({-1, 10}), pare::contract_violation);
  CHECK_THROWS_AS(mask({10, -100}), pare::contract_violation);
  pare::matrix<float> w(3, 2);
  CHECK_THROWS_AS(pare::apply(a, w), pare::contract_violation);
  CHECK(a != b);
}

TEST_CASE("nonzeros and apply: NaN counts as kept, both zeros do not; what is pruned becomes +0") {
  pare::matrix<float> w(1, 5);
  w(0, 0) = -0.0f;
  w(0, 1) = std::numeric_limits<float>::quiet_NaN();
  w(0, 2) = std::numeric_limits<float>::denorm_min();
  w(0, 4) = -std::numeric_limits<float>::infinity();
  mask const keep = pare::nonzeros(w);
  CHECK(keep.count() == 3);
  CHECK((keep(0, 1) && keep(0, 2) && keep(0, 4)));
  pare::apply(~keep | ~mask({1, 5}, true), w.span());
  CHECK(std::signbit(w(0, 0)));  // kept as it was
  CHECK(w(0, 1) == 0.0f);
  CHECK_FALSE(std::signbit(w(0, 4)));
  CHECK(w(0, 4) == 0.0f);
}

TEST_CASE("mask: pack puts bit i at place i and clears the others") {
  pare::random_source random(4);
  for (index_t n = 0; n <= 64; ++n) {
    auto const bits = random.bits();
    auto const kept = n == 64 ? bits : bits & ((mask::word{1} << n) - 1);
    REQUIRE(mask::pack(n, [bits](index_t i) { return ((bits >> i) & 1u) != 0; }) == kept);
    REQUIRE(mask::pack(n, [](index_t) { return true; }) == (n == 64 ? ~mask::word{0} : (mask::word{1} << n) - 1));
  }
}
