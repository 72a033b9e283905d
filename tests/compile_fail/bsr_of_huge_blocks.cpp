// expect: blocks have 1 to 1024 elements
// SPDX-License-Identifier: Apache-2.0
#include <pare/format/bsr.hpp>

pare::bsr<32, 32, float> const good;
#ifdef PARE_MUST_FAIL
pare::bsr<33, 32, float> const bad;
#endif
