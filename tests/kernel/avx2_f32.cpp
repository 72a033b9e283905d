// SPDX-License-Identifier: Apache-2.0
#include "kernel/check_kernels.hpp"

// With multiply-adds, unless that is what the best architecture is (best_f32.cpp): then without.
using fused = xsimd::fma3<xsimd::avx2>;
using avx2 = std::conditional_t<std::is_same_v<xsimd::default_arch, fused>, xsimd::avx2, fused>;

TEST_CASE("kernels: f32 on AVX2 agree with the reference") { pare::test::check_kernels<avx2, float>(); }
