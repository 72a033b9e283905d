// expect: matrix_view
// SPDX-License-Identifier: Apache-2.0
#include <pare/interop/eigen.hpp>
#include <pare/score/magnitude.hpp>

Eigen::MatrixXf const a(2, 2);
auto good() { return pare::score(Eigen::MatrixXf(a + a), pare::magnitude{}); }
#ifdef PARE_MUST_FAIL
auto bad() { return pare::score(a + a, pare::magnitude{}); }  // not in memory
#endif
