// SPDX-License-Identifier: Apache-2.0
// Prints a page (Markdown) of all kernels in the registry, and of what the cost model chooses on this machine.
//   kernel_page > page.md: docs/kernels.md up to "## Measured", which is written by hand
#include <cstdio>
#include <string>
#include <type_traits>
#include <vector>

#include <pare/kernel/prepare.hpp>

#include "support/problem.hpp"

namespace {

using namespace pare;

template <class Kernel>
char const* kind_of() {
  if constexpr (gemv_kernel<Kernel>) {
    return "one column";
  } else if constexpr (spmm_kernel<Kernel> || int8_spmm_kernel<Kernel>) {
    return "many columns";
  } else if constexpr (few_columns_kernel<Kernel>) {
    return "up to eight columns";
  } else {
    return "few columns";
  }
}

/// The operands of one format and their kernels, but those that were printed before.
template <class F>
void print_kernels(std::vector<std::string>& seen) {
  operands_of<F>::type::for_each([&]<class O>() {
    kernels_of<O>::list::for_each([&]<class Kernel>() {
      std::string const row =
          std::string("| `") + O::name() + "` | `" + Kernel::name() + "` | " + kind_of<Kernel>() + " |";
      for (std::string const& s : seen)
        if (s == row) return;
      seen.push_back(row);
      std::printf("%s\n", row.c_str());
    });
  });
}

/// The operand that prepare chooses by its cost model; with AVX-512, on a processor of Intel's or not.
template <class F>
char const* chosen(extents shape, double s, index_t columns, bool intel) {
  char const* name = "";
  double least = detail::never;
  auto const kept = static_cast<index_t>((1.0 - s) * static_cast<double>(shape.size()));
  operands_of<F>::type::for_each([&]<class O>() {
    machine target = machine_for<O>();
    target.intel = target.expands && intel;
    double const cycles = kernels_of<O>::cycles({.weights = shape, .nnz = kept, .columns = columns, .target = target});
    if (cycles >= least) return;
    least = cycles;
    name = O::name();
  });
  return name;
}

template <class F>
void print_choices(char const* title, extents shape, bool intel) {
  constexpr double sparsities[] = {0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98};
  std::printf("\n%s, %td x %td:\n\n| columns |", title, shape.rows, shape.cols);
  for (double const s : sparsities) std::printf(" %.0f %% |", 100.0 * s);
  std::printf("\n|---|");
  for (std::size_t i = 0; i < std::size(sparsities); ++i) std::printf("---|");
  for (index_t const n : {1, 2, 4, 8, 16, 32, 64, 128}) {
    std::printf("\n| %td |", n);
    for (double const s : sparsities) std::printf(" %s |", chosen<F>(shape, s, n, intel));
  }
  std::printf("\n");
}

void print_all_choices(bool intel) {
  for (extents const shape : {extents{768, 768}, extents{4096, 4096}}) {
    print_choices<bitmap<float>>("f32, unstructured (and N:M)", shape, intel);
    print_choices<bitmap<bf16>>("bf16, unstructured (and N:M)", shape, intel);
    print_choices<bsr<16, 1, float>>("f32, blocks of 16 x 1", shape, intel);
    print_choices<quantised<128>>("8-bit codes, groups of 128", shape, intel);
  }
}

constexpr char choices_text[] = R"(
## What is chosen

By the cost model, per number of columns and sparsity. `prepare` with `autotune` measures instead and can save what
it finds (`pare/kernel/tuning.hpp`); `pare bench` shows where each pays on a machine, and with `--tune FILE` saves it:

```c++
pare::tuning table = pare::tuning::parse(pare::as_text(*pare::read_file("tuning.txt"))).value();
auto const w = pare::prepare(format, {.columns = 128, .autotune = true, .choices = &table});
pare::write_file_atomically("tuning.txt", pare::as_bytes(table.to_text())).value();
```

A layer that the table knows is not measured; one that it does not know is, and is added. Without `autotune` the
cost model chooses for those. A table is for the machine that it was measured on.
)";

}  // namespace

int main() {
  std::printf(
      "# Kernels\n\nWritten by `bench/kernel_page.cpp` from the registry, for %s. Each operand's header in "
      "`include/pare/kernel`\nshows its layout, what a step costs, what was measured, and what was tried in vain.\n\n"
      "| operand | kernel | for |\n|---|---|---|\n",
      active_arch());
  std::vector<std::string> seen;
  format_list<float>::for_each([&]<class F>() { print_kernels<F>(seen); });
  print_kernels<quantised<128>>(seen);
  std::printf("%s", choices_text);
  print_all_choices(false);
  if (machine_for<dense<float>>().expands) {
    std::printf(
        "\n## On Intel's processors with AVX-512\n\nShuffles take the slots of multiply-adds there, so that dense and "
        "blocks, whose weights are spread by loads, gain more\nthan the rest; and memory is slower, which favours "
        "fewer bytes.\n");
    print_all_choices(true);
  }
  return 0;
}
