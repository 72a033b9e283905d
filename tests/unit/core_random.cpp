// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>

#include <pare/core/random.hpp>

#include "support/catch.hpp"

using pare::index_t;
using pare::random_source;

TEST_CASE("random_source: gives the published sequence of splitmix64") {
  random_source zero(0);
  for (std::uint64_t const expected :
       {0xe220a8397b1dcdafu, 0x6e789e6aa1b965f4u, 0x06c45d188009454fu, 0xf88bb8a8724c81ecu, 0x1b39896a51a8749bu})
    CHECK(zero.bits() == expected);
  random_source other(1234567);
  for (std::uint64_t const expected :
       {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u, 16408922859458223821u})
    CHECK(other.bits() == expected);
}

TEST_CASE("random_source: is usable at compile time") {
  static_assert(random_source(0).bits() == 0xe220a8397b1dcdafu);
  static_assert(random_source(0).uniform() == static_cast<float>(0xe220a8397b1dcdafu >> 40) * 0x1p-24f);
}

TEST_CASE("random_source: uniform and below stay in their ranges and reach all of them") {
  random_source random(7);
  bool seen[5] = {};
  double sum = 0.0;
  for (int i = 0; i < 20000; ++i) {
    float const u = random.uniform();
    REQUIRE((u >= 0.0f && u < 1.0f));
    sum += static_cast<double>(u);
    index_t const n = random.below(5);
    REQUIRE((n >= 0 && n < 5));
    seen[n] = true;
    float const ranged = random.uniform(-3.0f, 2.0f);
    REQUIRE((ranged >= -3.0f && ranged < 2.0f));
  }
  CHECK(sum / 20000 == Approx(0.5).margin(0.01));
  for (bool const s : seen) CHECK(s);
}

TEST_CASE("random_source: normal has mean 0 and variance 1, and is always finite") {
  random_source random(3);
  double sum = 0.0;
  double squares = 0.0;
  constexpr int n = 100000;
  for (int i = 0; i < n; ++i) {
    auto const v = static_cast<double>(random.normal());
    REQUIRE(std::isfinite(v));
    sum += v;
    squares += v * v;
  }
  CHECK(sum / n == Approx(0.0).margin(0.02));
  CHECK(squares / n == Approx(1.0).margin(0.02));
}
