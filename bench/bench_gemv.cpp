// SPDX-License-Identifier: Apache-2.0
// One column: every GEMV kernel of every format against dense. Calls follow each other, so W comes from whichever cache
// it fits; PARE_BENCH_LARGE adds a matrix that comes from memory.
#include <pare/kernel/registry.hpp>

#include "support/product_row.hpp"
#include "support/program.hpp"

namespace {

template <class T>
void register_rows() {
  pare::format_list<T>::for_each([]<class F>() { pare::bench::register_products<F>("gemv", false, {1}, {false}); });
}

}  // namespace

int main(int argc, char** argv) {
  pare::bench::settle_environment(argv);
  register_rows<float>();
  register_rows<pare::bf16>();
  return pare::bench::run(argc, argv);
}
