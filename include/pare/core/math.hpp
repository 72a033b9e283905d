// SPDX-License-Identifier: Apache-2.0
// The few elementary functions that the light headers need: <cmath> alone would double their include time.
#pragma once

#include <pare/core/version.hpp>

#if !defined(__GNUC__)
#include <cmath>
#endif

namespace pare::inline PARE_ABI::math {

#if defined(__GNUC__)  // g++ and clang: the builtins are what <cmath> calls
inline double sqrt(double x) noexcept { return __builtin_sqrt(x); }
inline float sqrt(float x) noexcept { return __builtin_sqrtf(x); }
inline float log(float x) noexcept { return __builtin_logf(x); }
inline float cos(float x) noexcept { return __builtin_cosf(x); }
#else
using std::cos;
using std::log;
using std::sqrt;
#endif

/// True for everything but NaN and +-Inf.
[[nodiscard]] constexpr bool is_finite(float x) noexcept { return x - x == 0.0f; }

}  // namespace pare::inline PARE_ABI::math
