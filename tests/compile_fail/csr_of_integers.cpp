// expect: weight_value
// SPDX-License-Identifier: Apache-2.0
#include <pare/format/csr.hpp>

pare::csr<pare::bf16> const good;
#ifdef PARE_MUST_FAIL
pare::csr<int> const bad;
#endif
