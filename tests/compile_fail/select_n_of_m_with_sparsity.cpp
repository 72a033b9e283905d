// expect: N:M fixes its own sparsity; call select.scores, n_of_m<N, M>.*. without a budget
// SPDX-License-Identifier: Apache-2.0
#include <pare/select/select.hpp>

auto keep(pare::matrix<float> const& scores) { return pare::select(scores, pare::n_of_m<2, 4>{}); }
#ifdef PARE_MUST_FAIL
auto keep(pare::matrix<float> const& scores, pare::sparsity s) { return pare::select(scores, pare::n_of_m<2, 4>{}, s); }
#endif
