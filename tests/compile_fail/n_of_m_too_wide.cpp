// expect: keeps N of M consecutive inputs: 0 < N < M <= 32
// SPDX-License-Identifier: Apache-2.0
#include <pare/pattern/pattern.hpp>

constexpr pare::n_of_m<16, 32> widest{};
#ifdef PARE_MUST_FAIL
constexpr pare::n_of_m<16, 33> wider{};
#endif
