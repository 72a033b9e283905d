// SPDX-License-Identifier: Apache-2.0
// The headline table: sparse products against the best dense product of the same run, on one thread.
//   pare_headline [--json FILE] [--quick] [--data DIR] [--filter TEXT]
// Rows that share a shape, a number of columns and a layout are measured together: their contenders, the dense ones and
// the loops that measure the machine's limits take turns, and medians are compared.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pare/io/file.hpp>
#include <pare/io/smtx.hpp>

#include "support/environment.hpp"
#include "support/headline.hpp"
#include "support/machine.hpp"
#include "support/other_program.hpp"
#include "support/random_rows.hpp"
#include "support/wavegru.hpp"

namespace {

using namespace pare;
using namespace pare::bench;

constexpr std::array spmm_targets{target{0.2, 1.1, 1.25}, target{0.5, 1.8, 2.1}, target{0.7, 2.8, 3.3},
                                  target{0.8, 3.6, 4.4},  target{0.9, 5.7, 7.2}, target{0.95, 9.5, 13.0}};
constexpr std::array token_major_targets{target{0.5, 1.75, 2.05}, target{0.7, 2.6, 3.1}, target{0.9, 5.2, 7.0}};
constexpr std::array few_columns_targets{target{0.5, 1.4, 1.8}, target{0.7, 2.3, 3.0}, target{0.9, 6.5, 9.0}};
// Of weights of a smaller type; the others are measured without a goal.
constexpr target narrow_target{0.5, 1.6, 1.6};
constexpr std::array unshared_targets{target{0.5, 1.8, 2.05}};
constexpr target shared_target{0.5, 1.9, 2.15};
constexpr std::array block_targets{target{0.7, 3.0, 3.6}, target{0.9, 8.5, 10.5}};
constexpr std::array decode_f32_targets{target{0.5, 1.75, 1.87}, target{0.7, 2.7, 3.0}, target{0.9, 4.2, 6.0}};
constexpr std::array decode_bf16_targets{target{0.5, 1.65, 1.78}, target{0.7, 2.5, 2.75}, target{0.9, 3.3, 5.0}};
constexpr std::array decode_int8_targets{target{0.5, 1.45, 1.57}, target{0.7, 2.0, 2.25}, target{0.9, 2.9, 3.6}};
constexpr target decode_read_target{0.7, 0.88, 0.97};  // up to this sparsity
constexpr std::array dlmc_targets{target{0.7, 2.4, 3.0}, target{0.9, 4.8, 7.0}};

constexpr extents decode_shape{11008, 4096};

std::string matrix_name(headline_row const& r) {
  if (r.matrices > 1) return "geometric mean of " + std::to_string(r.matrices);
  std::string name =
      std::to_string(r.shape.rows) + " x " + std::to_string(r.shape.cols) + ", n " + std::to_string(r.columns);
  return name;
}

void print_rows(headline const& all, std::vector<headline_row> const& rows) {
  all.progress("");
  for (headline_row const& r : rows) print(r, matrix_name(r), all.sparse_names);
}

void many_columns(headline& all, extents shape) {
  headline_group<float> group(all, shape, 128, false);
  add_random<bitmap<float>>(group, "spmm", spmm_targets);
  add_random<n_of_m_packed<2, 4, float>>(group, "2:4", unshared_targets);
  group.add<bsr<16, 1, float>>(row_of("2:4 shared by 16", shared_target.sparsity,
                                      {goal::over::best_dense, shared_target.must, shared_target.aim}),
                               [&] { return random_mask<n_of_m<2, 4, 16>>(group.scores(), 0.5); });
  add_random<bsr<16, 1, float>>(group, "bsr 16x1", block_targets);
  add_random<bsr<4, 4, float>>(group, "bsr 4x4", block_targets);
  print_rows(all, group.run());
}

void token_major(headline& all, extents shape) {
  headline_group<float> group(all, shape, 128, true);
  add_random<bitmap<float>>(group, "spmm token-major", token_major_targets);
  print_rows(all, group.run());
}

void few_columns(headline& all, extents shape) {
  headline_group<float> group(all, shape, 32, false);
  add_random<bitmap<float>>(group, "spmm n32", few_columns_targets);
  print_rows(all, group.run());
}

/// Weights of a smaller type, over own dense ones of the same type.
template <class F, class Dense>
void narrow_weights(headline& all, extents shape) {
  using group_type = headline_group<typename F::value_type, Dense>;
  group_type group(all, shape, 128, false);
  for (double const s : {0.5, 0.7, 0.9}) {
    goal const of_row = s == narrow_target.sparsity ? goal{goal::over::own_dense, narrow_target.must, narrow_target.aim}
                                                    : goal{goal::over::none, 0.0, 0.0};
    group.template add<F>(row_of("spmm " + std::string(group_type::dtype()), s, of_row),
                          [&group, s] { return random_mask<unstructured>(group.scores(), s); });
  }
  print_rows(all, group.run());
}
void many_columns_bf16(headline& all, extents shape) { narrow_weights<bitmap<bf16>, dense<bf16>>(all, shape); }
void many_columns_int8(headline& all, extents shape) { narrow_weights<quantised<128>, quantised<128>>(all, shape); }

/// F is the sparse format, Dense the one of the dense weights.
template <class F, class Dense, class Targets>
void decode(headline& all, Targets const& targets) {
  using group_type = headline_group<typename F::value_type, Dense>;
  group_type group(all, decode_shape, 1, false, group_type::weights_from::memory);
  for (target const& t : targets) {
    headline_row row =
        row_of("decode " + std::string(group_type::dtype()), t.sparsity, {goal::over::own_dense, t.must, t.aim});
    row.op = "decode";
    if (t.sparsity <= decode_read_target.sparsity)
      row.read_goal = {goal::over::best_dense, decode_read_target.must, decode_read_target.aim};
    group.template add<F>(std::move(row), [&] { return random_mask<unstructured>(group.scores(), t.sparsity); });
  }
  print_rows(all, group.run());
}

/// The files below a folder of one nominal sparsity, in a fixed order.
std::vector<std::filesystem::path> dlmc_files(std::filesystem::path const& folder, char const* nominal) {
  std::vector<std::filesystem::path> files;
  std::error_code failed;
  for (auto const& at : std::filesystem::recursive_directory_iterator(folder, failed))
    if (at.path().extension() == ".smtx" && at.path().parent_path().filename() == nominal) files.push_back(at.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// The masks of the Deep Learning Matrix Collection with random values. The sparsity of a row is the matrix's own,
/// which may be far from the whole network's, by which the goals go.
void dlmc(headline& all, char const* nominal, target goal_of_all) {
  std::vector<headline_row> of_both;
  for (char const* network : {"rn50", "transformer"}) {
    std::vector<headline_row> of_one;
    std::filesystem::path const folder = std::filesystem::path(all.options.data) / "dlmc" / network;
    for (auto const& file : dlmc_files(folder, nominal)) {
      auto const keep = read_smtx(file);
      if (!keep) {
        std::fprintf(stderr, "pare_headline: %s\n", keep.error().message().c_str());
        continue;
      }
      headline_group<float> group(all, keep->shape(), 128, false);
      headline_row row = row_of(std::string("dlmc ") + network, keep->sparsity(), {});
      row.name = "dlmc/" + std::filesystem::relative(file, folder.parent_path()).replace_extension().generic_string();
      group.add<bitmap<float>>(std::move(row), [&] { return *keep; });
      for (headline_row& r : group.run()) of_one.push_back(std::move(r));
    }
    print_rows(all, of_one);
    of_both.insert(of_both.end(), of_one.begin(), of_one.end());
    if (of_one.empty()) continue;
    std::string const name = std::string("spmm/dlmc/") + network + "/" + nominal + "/geometric_mean";
    all.rows.push_back(geometric_mean(of_one, std::string("dlmc ") + network + " " + nominal, name));
    print_rows(all, {all.rows.back()});
  }
  if (of_both.empty()) return;
  headline_row mean =
      geometric_mean(of_both, std::string("dlmc ") + nominal, std::string("spmm/dlmc/") + nominal + "/geometric_mean");
  mean.ratio_goal = {goal::over::best_dense, goal_of_all.must, goal_of_all.aim};
  all.rows.push_back(mean);
  print_rows(all, {mean});
}

/// The layers of a network that was pruned in 4x4 blocks, one column (as it runs) and many.
void wavegru(headline& all, index_t columns) {
  auto layers = read_block_layers(std::filesystem::path(all.options.data) / "wavegru" / "wavegru.safetensors");
  if (!layers) return;  // main says so
  std::vector<headline_row> rows;
  for (block_layer& layer : *layers) {
    headline_group<float> group(all, layer.keep.shape(), columns, false);
    group.use(std::move(layer.values));
    headline_row row = row_of("wavegru n" + std::to_string(columns), layer.keep.sparsity(), {});
    if (columns == 1) row.op = "decode";
    row.name = "wavegru/" + layer.name;
    group.add<bsr<4, 4, float>>(std::move(row), [&] { return layer.keep; });
    for (headline_row& r : group.run()) rows.push_back(std::move(r));
  }
  print_rows(all, rows);
  if (rows.empty()) return;
  std::string const name = (columns == 1 ? "decode" : "spmm") + std::string("/wavegru/n") + std::to_string(columns);
  all.rows.push_back(geometric_mean(rows, rows.front().family, name + "/geometric_mean"));
  print_rows(all, {all.rows.back()});
}

/// The rows that pare_headline_avx2 measures.
void avx2(headline& all) {
#if defined(PARE_BENCH_OPENBLAS)
  bool const has_openblas = true;
#else
  bool const has_openblas = false;
#endif
  if (!has_openblas || !cpu_has_avx2()) {
    all.left_out.emplace_back("rows of AVX2; they need OpenBLAS and a CPU that has AVX2");
    return;
  }
  all.progress("");  // the other program has the line now
  std::vector<std::string> arguments{"--filter", all.options.filter};
  if (all.options.quick) arguments.emplace_back("--quick");
  auto const run = run_beside("pare_headline_avx2", std::move(arguments));
  if (!run) {
    all.left_out.emplace_back("rows of AVX2; no program pare_headline_avx2 that can be started beside this one");
    return;
  }
  auto const table = nlohmann::json::parse(run->text, nullptr, false);
  if (!run->succeeded || !table.is_object()) throw failed_program{"pare_headline_avx2"};
  std::vector<headline_row> rows;
  for (nlohmann::json const& r : table.at("rows")) rows.push_back(row_from_json(r));
  if (rows.empty()) return;
  all.rows.insert(all.rows.end(), rows.begin(), rows.end());
  all.avx2_machine = table.at("machine");
  print_rows(all, rows);
}

/// All that is measured, in the table's order.
std::vector<std::pair<std::string, std::function<void(headline&)>>> plan() {
  std::vector<std::pair<std::string, std::function<void(headline&)>>> steps;
  auto const for_shapes = [&](std::string const& title, void (*run)(headline&, extents)) {
    for (extents const shape : shapes_of_table)
      steps.emplace_back(title + " " + std::to_string(shape.rows) + " x " + std::to_string(shape.cols),
                         [=](headline& all) { run(all, shape); });
  };
  for_shapes("spmm n128", many_columns);
  for_shapes("spmm n128 token-major", token_major);
  for_shapes("spmm n32", few_columns);
  steps.emplace_back("spmm n128 AVX2", avx2);
  for_shapes("spmm bf16", many_columns_bf16);
  for_shapes("spmm int8", many_columns_int8);
  steps.emplace_back("decode f32", [](headline& all) { decode<bitmap<float>, dense<float>>(all, decode_f32_targets); });
  steps.emplace_back("decode bf16", [](headline& all) { decode<bitmap<bf16>, dense<bf16>>(all, decode_bf16_targets); });
  steps.emplace_back("decode int8",
                     [](headline& all) { decode<quantised<128>, quantised<128>>(all, decode_int8_targets); });
  steps.emplace_back("dlmc 0.7", [](headline& all) { dlmc(all, "0.7", dlmc_targets[0]); });
  steps.emplace_back("dlmc 0.9", [](headline& all) { dlmc(all, "0.9", dlmc_targets[1]); });
  steps.emplace_back("wavegru n1", [](headline& all) { wavegru(all, 1); });
  steps.emplace_back("wavegru n128", [](headline& all) { wavegru(all, 128); });
  return steps;
}

/// What a reader needs to know of the table, and whether the goals were reached.
void print_footer(headline const& all) {
  nlohmann::json const m = machine_of_run(all);
  auto const text = [&](char const* key) { return m[key].get<std::string>(); };
  std::printf("\n%s; compiled for %s by %s\n", text("cpu").c_str(), text("isa").c_str(), text("compiler").c_str());
  for (auto const& [name, version] : m["peers"].items())
    std::printf("  %s %s\n", name.c_str(), version.get<std::string>().c_str());
  if (m.contains("peak_gflops")) {
    auto const range = [&](char const* title, char const* key, char const* unit) {
      std::printf("  %s: median %.2f %s (%.2f to %.2f)\n", title, m[key]["median"].get<double>(), unit,
                  m[key]["min"].get<double>(), m[key]["max"].get<double>());
    };
    range("clock", "clock_ghz", "GHz");
    range("float multiply-add peak", "peak_gflops", "GFLOP/s");
    range("memory read", "read_gbytes_per_s", "GB/s");
  }
  std::printf(
      "One thread, CPU time, medians of %td alternating rounds. faster = best dense / us; peak = 2 nnz N / us over "
      "the\n"
      "float multiply-add peak, read = bytes of the operand / us over the memory's limit, both from the same rounds.\n",
      all.rounds());
  std::printf(
      "Goals are must/aim over the best dense contender; (own): over pare's own dense product of the type,\n"
      "(blas): over OpenBLAS.\n");
  int goals = 0;
  int musts = 0;
  int aims = 0;
  auto const count = [&](goal const& g, double reached) {
    if (g.of == goal::over::none) return;
    ++goals;
    musts += reached >= g.must;
    aims += reached >= g.aim;
  };
  for (headline_row const& r : all.rows) {
    count(r.ratio_goal, r.reached());
    count(r.read_goal, r.read_fraction);
    if (r.op == "decode" && r.shape == decode_shape && r.read_fraction > 1.05)
      std::printf("NOTE: %s read faster than the memory's limit: part of W came from a cache.\n", r.name.c_str());
  }
  std::printf("%d of %d goals: must reached; %d: aim reached.\n", musts, goals, aims);
#if defined(PARE_BENCH_OPENBLAS)
  if (!openblas_is_fair())
    std::printf("NOT FAIR: OpenBLAS runs its %s kernels on a CPU with AVX-512; set OPENBLAS_CORETYPE=SKYLAKEX.\n",
                openblas_get_corename());
#endif
  if (!all.avx2_machine.is_null())
    std::printf("Rows of AVX2: compiled for %s; OpenBLAS %s\n", all.avx2_machine["isa"].get<std::string>().c_str(),
                all.avx2_machine["peers"]["openblas"].get<std::string>().c_str());
  for (std::string const& what : all.left_out) std::printf("LEFT OUT: %s.\n", what.c_str());
  if (!std::filesystem::is_directory(std::filesystem::path(all.options.data) / "dlmc") ||
      !std::filesystem::is_directory(std::filesystem::path(all.options.data) / "wavegru"))
    std::printf("LEFT OUT: rows of real matrices; no folders dlmc and wavegru in \"%s\" (see --data).\n",
                all.options.data.c_str());
}

result<void> write_json(headline const& all, atomic_file file) {
  nlohmann::json out = table_as_json(all);
  if (!all.avx2_machine.is_null()) out["machine_avx2"] = all.avx2_machine;
  PARE_TRY_VOID(file.append(as_bytes(out.dump(1) + "\n")));
  return file.commit();
}

constexpr char usage[] =
    "usage: pare_headline [--json FILE] [--quick] [--data DIR] [--filter TEXT]\n"
    "  --json FILE    also write the table as JSON\n"
    "  --quick        fewer rounds, sparse peers on small matrices only: under two minutes\n"
    "  --data DIR     folder with dlmc/ and wavegru/\n"
    "  --filter TEXT  only rows with TEXT in their name, such as spmm/bitmap/f32/768x768\n";

/// False where the arguments are wrong.
bool parse(int argc, char** argv, headline_options& options) {
  for (int i = 1; i < argc; ++i) {
    std::string_view const flag = argv[i];
    if (flag == "--quick") {
      options.quick = true;
      continue;
    }
    std::string* const value = flag == "--json"     ? &options.json
                               : flag == "--data"   ? &options.data
                               : flag == "--filter" ? &options.filter
                                                    : nullptr;
    if (value == nullptr || i + 1 == argc) return false;
    *value = argv[++i];
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  headline_options options;
  options.data = PARE_DATA_DIR;
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    std::printf("%s", usage);
    return 0;
  }
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr, "%s", usage);
    return 2;
  }
  settle_environment(argv);

  // Opened now, so that a run of minutes does not end in a name that cannot be written.
  std::optional<atomic_file> json;
  if (!options.json.empty()) {
    auto file = atomic_file::open(options.json);
    if (!file) {
      std::fprintf(stderr, "pare_headline: %s\n", file.error().message().c_str());
      return 1;
    }
    json = *std::move(file);
  }

  headline all(std::move(options));
  auto const steps = plan();
  print_header();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    all.step("[" + std::to_string(i + 1) + "/" + std::to_string(steps.size()) + "] " + steps[i].first);
    try {
      steps[i].second(all);
    } catch (wrong_result const& wrong) {
      all.progress("");
      std::fprintf(stderr, "pare_headline: wrong result of %s\n", wrong.whose.c_str());
      return 1;
    } catch (failed_program const& program) {
      all.progress("");
      std::fprintf(stderr, "pare_headline: %s failed\n", program.name.c_str());
      return 1;
    }
  }
  all.progress("");
  if (all.rows.empty()) {
    std::fprintf(stderr, "pare_headline: no row has \"%s\" in its name\n", all.options.filter.c_str());
    return 1;
  }
  print_footer(all);
  if (json)
    if (auto const written = write_json(all, *std::move(json)); !written) {
      std::fprintf(stderr, "pare_headline: %s\n", written.error().message().c_str());
      return 1;
    }
  return 0;
}
