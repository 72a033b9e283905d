// expect: pare::matrix holds plain values only
// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <pare/core/matrix.hpp>

pare::matrix<float> const good(2, 2);
#ifdef PARE_MUST_FAIL
pare::matrix<std::string> const bad(2, 2);
#endif
