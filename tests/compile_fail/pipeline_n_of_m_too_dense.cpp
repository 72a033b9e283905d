// expect: this format cannot store every mask of this pattern
// SPDX-License-Identifier: Apache-2.0
#include <pare/prune/pipeline.hpp>
#include <pare/score/magnitude.hpp>

template <class Pattern>
using layer = pare::pipeline<pare::magnitude, Pattern, pare::n_of_m_packed<2, 4, float>>;

auto good(pare::matrix<float> const& w) { return layer<pare::n_of_m<1, 4>>::from(w); }
#ifdef PARE_MUST_FAIL
auto bad(pare::matrix<float> const& w) { return layer<pare::n_of_m<3, 4>>::from(w); }
#endif
