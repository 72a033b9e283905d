// expect: this matrix is read-only
// SPDX-License-Identifier: Apache-2.0
#include <pare/core/matrix.hpp>

float* first(pare::matrix<float>& m) { return pare::as_mutable_span(m).data; }
#ifdef PARE_MUST_FAIL
auto first(pare::matrix<float> const& m) { return pare::as_mutable_span(m).data; }
#endif
