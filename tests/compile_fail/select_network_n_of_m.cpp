// expect: N:M fixes the sparsity of every layer; there is nothing to share out
// SPDX-License-Identifier: Apache-2.0
#include <span>

#include <pare/select/select.hpp>

using layers = std::span<pare::matrix_span<float const> const>;
auto masks(layers scores, pare::sparsity s) { return pare::select_network(scores, pare::unstructured{}, s); }
#ifdef PARE_MUST_FAIL
auto n_of_m_masks(layers scores, pare::sparsity s) { return pare::select_network(scores, pare::n_of_m<2, 4>{}, s); }
#endif
