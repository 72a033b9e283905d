// expect: no match for .*operator[|]|invalid operands to binary expression
// SPDX-License-Identifier: Apache-2.0
#include <pare/kernel/epilogue.hpp>

auto good(std::span<float const> b) { return pare::bias{b} | pare::relu{}; }
#ifdef PARE_MUST_FAIL
auto bad(std::span<float const> b) {
  return pare::bias{b} | [](float v, pare::index_t, pare::index_t) { return 2.0f * v; };
}
#endif
