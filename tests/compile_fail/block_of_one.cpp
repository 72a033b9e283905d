// expect: needs at least two elements; use unstructured for one
// SPDX-License-Identifier: Apache-2.0
#include <pare/pattern/pattern.hpp>

constexpr pare::block<2, 1> smallest{};
#ifdef PARE_MUST_FAIL
constexpr pare::block<1, 1> one{};
#endif
