// expect: activations are float; weights may be float or bf16
// SPDX-License-Identifier: Apache-2.0
#include <pare/kernel/matmul.hpp>

template <class T>
void multiply(pare::bitmap<float> const& w, pare::matrix<T> const& x, pare::matrix<T>& y) {
  pare::matmul(w, x, y);
}
template void multiply(pare::bitmap<float> const&, pare::matrix<float> const&, pare::matrix<float>&);
#ifdef PARE_MUST_FAIL
template void multiply(pare::bitmap<float> const&, pare::matrix<double> const&, pare::matrix<double>&);
#endif
