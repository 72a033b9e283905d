// SPDX-License-Identifier: Apache-2.0
#include "kernel/check_kernels.hpp"

TEST_CASE("kernels: f32 on SSE4.2 agree with the reference") { pare::test::check_kernels<xsimd::sse4_2, float>(); }
