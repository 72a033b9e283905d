// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <limits>

#include <pare/core/index.hpp>

#include "support/catch.hpp"

namespace {
constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();
}

TEST_CASE("checked arithmetic: refuses exactly what does not fit 64 bits") {
  std::uint64_t out = 0;
  CHECK(pare::checked_add(largest - 1, 1, out));
  CHECK(out == largest);
  CHECK_FALSE(pare::checked_add(largest, 1, out));
  CHECK_FALSE(pare::checked_add(1, largest, out));
  CHECK(pare::checked_multiply(0, largest, out));
  CHECK(out == 0);
  CHECK(pare::checked_multiply(largest, 1, out));
  CHECK(out == largest);
  CHECK(pare::checked_multiply(0xffffffffu, 0x100000001u, out));
  CHECK(out == largest);
  CHECK_FALSE(pare::checked_multiply(0x100000000u, 0x100000000u, out));  // the product wraps to 0
  CHECK_FALSE(pare::checked_multiply(3, largest / 3 + 1, out));
}

TEST_CASE("ceil_div and round_up: agree with their definitions") {
  for (pare::index_t b = 1; b <= 9; ++b)
    for (pare::index_t a = 0; a <= 40; ++a) {
      pare::index_t quotient = 0;
      while (quotient * b < a) ++quotient;
      REQUIRE(pare::ceil_div(a, b) == quotient);
      REQUIRE(pare::round_up(a, b) == quotient * b);
    }
}
