// expect: this pattern leaves the number of kept units free; pass a sparsity
// SPDX-License-Identifier: Apache-2.0
#include <pare/select/select.hpp>

auto keep(pare::matrix<float> const& scores, pare::sparsity s) { return pare::select(scores, pare::block<4, 1>{}, s); }
#ifdef PARE_MUST_FAIL
auto keep(pare::matrix<float> const& scores) { return pare::select(scores, pare::block<4, 1>{}); }
#endif
