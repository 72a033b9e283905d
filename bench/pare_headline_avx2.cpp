// SPDX-License-Identifier: Apache-2.0
// The rows of the headline table for CPUs without AVX-512: pare compiled for AVX2 against OpenBLAS's Haswell kernels.
//   pare_headline_avx2 [--quick] [--filter TEXT]
// A program of its own, which pare_headline starts: OpenBLAS chooses its kernels when it is loaded, and kernels of two
// instruction sets cannot be told apart by a linker. Prints its part of the table as JSON.
#include <cstdio>
#include <string_view>
#include <utility>

#include "support/environment.hpp"
#include "support/machine.hpp"
#include "support/random_rows.hpp"

namespace {

using namespace pare;
using namespace pare::bench;

constexpr std::array targets{target{0.5, 1.6, 1.85}, target{0.9, 6.5, 8.5}};

void many_columns(headline& all, extents shape) {
  all.step("spmm n128 AVX2 " + std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
  headline_group<float> group(all, shape, 128, false);
  add_random<bitmap<float>>(group, "spmm avx2", targets, goal::over::openblas);
  group.run();
}

}  // namespace

int main(int argc, char** argv) {
  headline_options options;
  for (int i = 1; i < argc; ++i) {
    std::string_view const flag = argv[i];
    if (flag == "--quick") {
      options.quick = true;
    } else if (flag == "--filter" && i + 1 < argc) {
      options.filter = argv[++i];
    } else {
      std::fprintf(stderr, "usage: pare_headline_avx2 [--quick] [--filter TEXT]\n");
      return 2;
    }
  }
  settle_environment(argv, dense_kernels::avx2);

  headline all(std::move(options));
  try {
    for (extents const shape : shapes_of_table) many_columns(all, shape);
  } catch (wrong_result const& wrong) {
    all.progress("");
    std::fprintf(stderr, "pare_headline_avx2: wrong result of %s\n", wrong.whose.c_str());
    return 1;
  }
  all.progress("");
  std::printf("%s\n", table_as_json(all).dump().c_str());
  return 0;
}
