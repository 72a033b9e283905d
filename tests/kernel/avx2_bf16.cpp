// SPDX-License-Identifier: Apache-2.0
#include "kernel/check_kernels.hpp"

using avx2 = xsimd::fma3<xsimd::avx2>;

TEST_CASE("kernels: bf16 on AVX2 agree with the reference") { pare::test::check_kernels<avx2, pare::bf16>(); }
