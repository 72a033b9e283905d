// SPDX-License-Identifier: Apache-2.0
#include "kernel/check_kernels.hpp"

TEST_CASE("kernels: f32 on the best architecture of the build agree with the reference") {
  pare::test::check_kernels<xsimd::default_arch, float>();
}
