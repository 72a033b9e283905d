// SPDX-License-Identifier: Apache-2.0
#include "kernel/check_kernels.hpp"

TEST_CASE("kernels: bf16 on the best architecture of the build agree with the reference") {
  pare::test::check_kernels<xsimd::default_arch, pare::bf16>();
}
