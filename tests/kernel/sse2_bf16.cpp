// SPDX-License-Identifier: Apache-2.0
#include "kernel/check_kernels.hpp"

TEST_CASE("kernels: bf16 on SSE2 agree with the reference") { pare::test::check_kernels<xsimd::sse2, pare::bf16>(); }
