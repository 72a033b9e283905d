// expect: N:M fixes the sparsity of every layer, so there is no budget to share out
// SPDX-License-Identifier: Apache-2.0
#include <pare/allocate/global.hpp>
#include <pare/prune/prune.hpp>
#include <pare/score/magnitude.hpp>

struct one_layer {
  pare::linear part;
  std::vector<pare::linear*> layers() { return {&part}; }
  std::vector<pare::linear const*> layers() const { return {&part}; }
  bool keeps_dense_by_default(pare::linear const&) const { return false; }
};
using statistics = pare::calibration<pare::magnitude::needs>;

bool good(one_layer& net, statistics const& stats, pare::sparsity s) {
  return pare::prune(net, pare::magnitude{}, pare::unstructured{}, s, stats, pare::global{}).has_value();
}
#ifdef PARE_MUST_FAIL
bool bad(one_layer& net, statistics const& stats, pare::sparsity s) {
  return pare::prune(net, pare::magnitude{}, pare::n_of_m<2, 4>{}, s, stats, pare::global{}).has_value();
}
#endif
