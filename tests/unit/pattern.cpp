// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <pare/core/random.hpp>
#include <pare/pattern/parse.hpp>
#include <pare/pattern/pattern.hpp>

#include "support/catch.hpp"

using pare::any_pattern;
using pare::errc;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::parse_pattern;
using pare::sparsity;

TEST_CASE("sparsity: removes floor(s * n), and lies in [0, 1]") {
  CHECK(sparsity(0.5).removed_of(7) == 3);
  CHECK(sparsity(0.0).removed_of(7) == 0);
  CHECK(sparsity(1.0).removed_of(7) == 7);
  CHECK(sparsity(0.999).removed_of(10) == 9);
  CHECK(sparsity(0.5).removed_of(0) == 0);
  CHECK_THROWS_AS(sparsity(-0.1), pare::contract_violation);
  CHECK_THROWS_AS(sparsity(1.1), pare::contract_violation);
  CHECK_THROWS_AS(sparsity(0.0 / sparsity(0.0).value), pare::contract_violation);  // NaN
}

TEST_CASE("admits: unstructured takes every mask") {
  CHECK(pare::admits(pare::unstructured{}, mask({3, 5})));
  CHECK(pare::admits(pare::unstructured{}, mask({3, 5}, true)));
}

TEST_CASE("admits: N:M takes up to N of each M, in groups that start at multiples of M") {
  pare::n_of_m<2, 4> const p;
  mask m({2, 8});
  m.set(1, 2);
  m.set(1, 3);
  m.set(1, 4);
  m.set(1, 5);
  CHECK(pare::admits(p, m));  // four in a row, but two in each group
  m.set(1, 0);
  CHECK_FALSE(pare::admits(p, m));
  CHECK_FALSE(pare::admits(p, mask({2, 6})));  // the last group would be cut
}

TEST_CASE("admits: blocks are whole or absent") {
  pare::block<2, 3> const p;
  mask m({4, 6});
  for (index_t r = 2; r < 4; ++r)
    for (index_t c = 0; c < 3; ++c) m.set(r, c);
  CHECK(pare::admits(p, m));
  m.set(3, 2, false);
  CHECK_FALSE(pare::admits(p, m));
  m.set(3, 2);
  m.set(0, 5);
  CHECK_FALSE(pare::admits(p, m));
  CHECK_FALSE(pare::admits(p, mask({3, 6})));
  CHECK_FALSE(pare::admits(p, mask({4, 5})));
}

TEST_CASE("any_pattern: numbers that no pattern has are contract violations") {
  CHECK_THROWS_AS(any_pattern({0, 1}, 0, 0), pare::contract_violation);
  CHECK_THROWS_AS(any_pattern({1, -4}, 0, 0), pare::contract_violation);
  CHECK_THROWS_AS(any_pattern({1, 1}, -3, 4), pare::contract_violation);
  CHECK_THROWS_AS(any_pattern({1, 1}, 5, 4), pare::contract_violation);
  CHECK_THROWS_AS(any_pattern({1, 1}, 0, -4), pare::contract_violation);
}

TEST_CASE("any_pattern: equals the pattern that it was made of") {
  CHECK(any_pattern(pare::n_of_m<2, 4>{}) == any_pattern({1, 1}, 2, 4));
  CHECK(any_pattern(pare::block<4, 1>{}) == any_pattern({4, 1}, 0, 0));
  CHECK(any_pattern(pare::unstructured{}) == any_pattern());
  CHECK(pare::has_fixed_ratio(any_pattern(pare::n_of_m<1, 3>{})));
  CHECK_FALSE(pare::has_fixed_ratio(any_pattern()));
}

TEST_CASE("parse_pattern: reads what people write") {
  struct {
    char const* text;
    any_pattern pattern;
    double target;
  } const good[] = {
      {"unstructured:0.5", {}, 0.5},
      {"unstructured:0", {}, 0.0},
      {"unstructured:.25", {}, 0.25},
      {"unstructured:0.", {}, 0.0},
      {"unstructured:00.50", {}, 0.5},
      {"unstructured:0.999999", {}, 0.999999},
      {"2:4", {{1, 1}, 2, 4}, 0.5},
      {"1:32", {{1, 1}, 1, 32}, 1.0 - 1.0 / 32.0},
      {"31:32", {{1, 1}, 31, 32}, 1.0 / 32.0},
      {"2:4x16", {{16, 1}, 2, 4}, 0.5},
      {"1:4x1", {{1, 1}, 1, 4}, 0.75},
      {"4:8x1024", {{1024, 1}, 4, 8}, 0.5},
      {"block4x1:0.8", {{4, 1}, 0, 0}, 0.8},
      {"block1x2:0", {{1, 2}, 0, 0}, 0.0},
      {"block1024x1024:0.1", {{1024, 1024}, 0, 0}, 0.1},
  };
  for (auto const& g : good) {
    INFO(g.text);
    auto const p = parse_pattern(g.text);
    REQUIRE(p);
    CHECK(p->pattern == g.pattern);
    CHECK(p->target.value == Approx(g.target).epsilon(1e-15));
  }
}

TEST_CASE("parse_pattern: reads back what to_string writes") {
  for (char const* text : {"unstructured", "block4x1", "block16x32"})
    CHECK(pare::to_string(parse_pattern(std::string(text) + ":0.5").value().pattern) == text);
  for (index_t m = 2; m <= 32; ++m)
    for (index_t n = 1; n < m; ++n) {
      std::string const text = std::to_string(n) + ":" + std::to_string(m);
      REQUIRE(pare::to_string(parse_pattern(text).value().pattern) == text);
      REQUIRE(pare::to_string(parse_pattern(text + "x" + std::to_string(n + 1)).value().pattern) ==
              text + "x" + std::to_string(n + 1));
    }
  CHECK(pare::to_string(parse_pattern("2:4x1").value().pattern) == "2:4");
  CHECK(pare::to_string(pare::n_of_m<2, 4, 16>{}) == "2:4x16");
  CHECK(pare::to_string(any_pattern({1, 2}, 2, 4)) == "2:4x1x2");
}

TEST_CASE("parse_pattern: refuses everything else, and quotes it") {
  for (char const* text : {"",
                           ":",
                           "2:",
                           ":4",
                           "2:4 ",
                           " 2:4",
                           "2:4:0.5",
                           "-2:4",
                           "+2:4",
                           "2.0:4",
                           "0x2:4",
                           "2;4",
                           "2:4x",
                           "2:4x16x",
                           "2:4x16:0.5",
                           "2:4x-1",
                           "2:4X16",
                           "x16",
                           "2x16",
                           "2:4x99999999999999999999",
                           "two:four",
                           "99999999999999999999:4",
                           "2:18446744073709551620",
                           "unstructured",
                           "unstructured:",
                           "unstructured:.",
                           "unstructured:0.5.5",
                           "unstructured:0,5",
                           "unstructured:-0.5",
                           "unstructured:+0.5",
                           "unstructured:nan",
                           "unstructured:inf",
                           "unstructured:1e-1",
                           "unstructured:0.5 ",
                           "unstructured:50%",
                           "unstructured0.5",
                           "unstructured:0.5x",
                           "Unstructured:0.5",
                           "unstructured:000000000000000000000000000.5",
                           "block",
                           "block4",
                           "block4x",
                           "blockx1:0.5",
                           "block4x1",
                           "block4x1:",
                           "block4X1:0.5",
                           "block-4x1:0.5",
                           "block4x1x1:0.5",
                           "block99999999999999999999x1:0.5",
                           "block4x1:0.5:0.5"}) {
    INFO(text);
    auto const p = parse_pattern(text);
    REQUIRE_FALSE(p);
    CHECK(p.error().code == errc::malformed);
    CHECK(p.error().where == "pattern '" + std::string(text) + "'");
    CHECK_FALSE(p.error().what.empty());
  }
  for (char const* text : {"4:4",
                           "5:4",
                           "0:4",
                           "0:0",
                           "16:33",
                           "1:999999",
                           "2:4x0",
                           "2:4x1025",
                           "4:4x16",
                           "unstructured:1",
                           "unstructured:1.0",
                           "unstructured:2",
                           "unstructured:0.99999999999999999",
                           "block0x4:0.5",
                           "block4x0:0.5",
                           "block1x1:0.5",
                           "block1025x1:0.5",
                           "block1x999999:0.5",
                           "block4x1:1",
                           "block4x1:7.5"}) {
    INFO(text);
    auto const p = parse_pattern(text);
    REQUIRE_FALSE(p);
    CHECK(p.error().code == errc::out_of_range);
  }
  CHECK_FALSE(parse_pattern(std::string_view("2:4\0", 4)));
}

TEST_CASE("parse_pattern: random texts give a legal pattern or an error") {
  pare::random_source random(5);
  std::string const letters = "0123456789:.x-unstructuredblock ";
  char const* const starts[] = {"", "unstructured:", "block", "2:", "block4x", "2:4x"};
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = starts[random.below(6)];
    for (index_t n = random.below(8); n > 0; --n)
      text += letters[static_cast<std::size_t>(random.below(random.uniform() < 0.7f ? 13 : std::ssize(letters)))];
    INFO(text);
    auto const p = parse_pattern(text);
    if (!p) continue;
    ++accepted;
    auto const& q = p->pattern;
    REQUIRE((p->target.value >= 0.0 && p->target.value < 1.0));
    REQUIRE((q.unit().rows >= 1 && q.unit().cols >= 1));
    if (q.of() != 0) REQUIRE((0 < q.keep() && q.keep() < q.of() && q.of() <= 32));
  }
  CHECK(accepted > 100);
}
