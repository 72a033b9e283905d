// expect: this format cannot store every mask of this pattern
// SPDX-License-Identifier: Apache-2.0
#include <pare/prune/pipeline.hpp>
#include <pare/score/magnitude.hpp>

template <class Pattern>
using layer = pare::pipeline<pare::magnitude, Pattern, pare::bsr<4, 1, float>>;

auto good(pare::matrix<float> const& w, pare::sparsity s) { return layer<pare::block<4, 1>>::from(w, s); }
#ifdef PARE_MUST_FAIL
auto bad(pare::matrix<float> const& w, pare::sparsity s) { return layer<pare::unstructured>::from(w, s); }
#endif
