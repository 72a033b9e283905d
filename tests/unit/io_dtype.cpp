// SPDX-License-Identifier: Apache-2.0
// Element types: names, sizes, and conversion to float and back at any address.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <pare/io/dtype.hpp>

#include "support/catch.hpp"

using pare::dtype_code;

TEST_CASE("io/dtype: every name is found again, and only that spelling") {
  for (int i = 0; i < 22; ++i) {
    auto const code = static_cast<dtype_code>(i);
    CHECK(pare::find_dtype(pare::name(code)) == code);
  }
  CHECK(pare::bits(dtype_code::f6_e2m3) == 6);
  CHECK(pare::bits(dtype_code::c64) == 64);
  CHECK_FALSE(pare::find_dtype("f32"));
  CHECK_FALSE(pare::find_dtype(""));
}

TEST_CASE("io/dtype: all 65536 halves survive the way to float and back") {
  for (dtype_code const code : {dtype_code::f16, dtype_code::bf16}) {
    int wrong = 0;
    for (std::uint32_t b = 0; b < 65536; ++b) {
      std::byte bytes[3] = {};
      pare::store_little(static_cast<std::uint16_t>(b), bytes + 1);
      float value = 0;
      pare::to_floats(code, std::span<std::byte const>(bytes + 1, 2), {&value, 1});
      if (std::isnan(value)) continue;
      std::byte back[2];
      pare::store_float(code, value, back);
      wrong += pare::load_little<std::uint16_t>(back) != b;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("io/dtype: rounding to half is to nearest, ties to even") {
  // between two neighbouring halves the midpoint goes to the even one, its float neighbours to the nearer one
  int wrong = 0;
  for (std::uint16_t b = 0; b < 0x7bff; ++b) {
    float const low = static_cast<float>(pare::f16{b});
    float const high = static_cast<float>(pare::f16{static_cast<std::uint16_t>(b + 1)});
    float const middle = low + (high - low) / 2;
    wrong += pare::stored_value(dtype_code::f16, middle) != (b % 2 == 0 ? low : high);
    wrong += pare::stored_value(dtype_code::f16, std::nextafter(middle, 0.0f)) != low;
    wrong += pare::stored_value(dtype_code::f16, -std::nextafter(middle, 1e9f)) != -high;
  }
  CHECK(wrong == 0);
  CHECK(pare::stored_value(dtype_code::f16, 65519.0f) == 65504.0f);
  CHECK(std::isinf(pare::stored_value(dtype_code::f16, 65520.0f)));
  CHECK(std::isnan(pare::stored_value(dtype_code::f16, std::nanf(""))));
}

TEST_CASE("io/dtype: misaligned floats and doubles are read, and a double beyond float is infinite") {
  std::vector<std::byte> bytes(1 + 8 * 3);
  double const values[] = {-2.5, 1e300, -1e300};
  for (std::size_t i = 0; i < 3; ++i)
    pare::store_little(std::bit_cast<std::uint64_t>(values[i]), bytes.data() + 1 + 8 * i);
  float out[3];
  pare::to_floats(dtype_code::f64, std::span<std::byte const>(bytes).subspan(1), out);
  CHECK(out[0] == -2.5f);
  CHECK(out[1] == std::numeric_limits<float>::infinity());
  CHECK(out[2] == -std::numeric_limits<float>::infinity());
  pare::store_float(dtype_code::f32, 0.1f, bytes.data() + 3);
  pare::to_floats(dtype_code::f32, std::span<std::byte const>(bytes).subspan(3, 4), std::span(out).first(1));
  CHECK(out[0] == 0.1f);
}
