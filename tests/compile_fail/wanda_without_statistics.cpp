// expect: this criterion needs statistics that were not passed
// SPDX-License-Identifier: Apache-2.0
#include <pare/score/wanda.hpp>

auto scores(pare::matrix<float> const& w, pare::wanda::needs const& stats) {
  return pare::score(w, pare::wanda{}, stats);
}
#ifdef PARE_MUST_FAIL
auto scores(pare::matrix<float> const& w) { return pare::score(w, pare::wanda{}); }
#endif
