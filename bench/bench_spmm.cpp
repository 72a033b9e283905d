// SPDX-License-Identifier: Apache-2.0
// Many columns: every SpMM kernel of every format against dense, feature-major and token-major (/tm) activations.
#include <pare/kernel/registry.hpp>

#include "support/product_row.hpp"
#include "support/program.hpp"

namespace {

template <class T>
void register_rows() {
  pare::format_list<T>::for_each([]<class F>() {
    pare::bench::register_products<F>("spmm", true, {32, 128}, {false, true});
  });
}

}  // namespace

int main(int argc, char** argv) {
  pare::bench::settle_environment(argv);
  register_rows<float>();
  register_rows<pare::bf16>();
  return pare::bench::run(argc, argv);
}
