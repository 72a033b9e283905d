// SPDX-License-Identifier: Apache-2.0
// pare compare: the same model pruned by many methods to many patterns, with one calibration and one measure.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <pare/io/file.hpp>

#include "cli/commands.hpp"
#include "cli/run.hpp"
#include "demo/report.hpp"
#include "support/terminal.hpp"

namespace pare::cli {

namespace {

struct row {
  std::string method;
  std::string pattern;
  double sparsity = 0.0;
  double value = 0.0;    // perplexity or accuracy
  double seconds = 0.0;  // of calibrating and pruning
  index_t bytes = 0;     // of the weights that are left
};

/// A row to be.
struct job {
  std::string pattern;
  program::prune_request request;
};

bool all_methods(compare_options const& o) {
  return std::find(o.methods.begin(), o.methods.end(), "all") != o.methods.end();
}

/// The methods that are named; for `all` those that the corpora are there for, in their order. Errors: unknown names.
result<std::vector<program::method_entry>> methods_of(compare_options const& o) {
  std::vector<program::method_entry> out;
  if (all_methods(o)) {
    for (program::method_entry const& m : program::methods)
      if (m.needs != program::calibration_need::both_corpora || !o.general.empty()) out.push_back(m);
    return out;
  }
  for (std::string const& name : o.methods) {
    PARE_TRY(auto const m, program::find_method(name));
    out.push_back(m);
  }
  return out;
}

/// Every pattern with every sparsity that it leaves free. Errors: those of parse_pattern.
result<std::vector<std::pair<std::string, pattern_spec>>> targets_of(compare_options const& o) {
  std::vector<std::pair<std::string, pattern_spec>> out;
  for (std::string const& p : o.patterns) {
    if (p.find(':') != std::string::npos) {  // N:M, or a sparsity of its own
      PARE_TRY(auto const spec, parse_pattern(p));
      out.emplace_back(to_string(spec.pattern), spec);
      continue;
    }
    for (double const s : o.sparsities) {
      char number[32];
      std::snprintf(number, sizeof number, ":%.6f", s);
      PARE_TRY(auto const spec, parse_pattern(p + number));
      out.emplace_back(p, spec);
    }
  }
  return out;
}

index_t bytes_of(any_network const& net) {
  return static_cast<index_t>(std::visit([](auto const& n) { return count_weights(n); }, net).bytes);
}

/// The rows as an HTML page with a chart. Speed is not measured here.
result<void> write_page(compare_options const& o, program::model const& m, program::evaluation const& dense,
                        std::vector<row> const& rows) {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  demo::report page;
  page.title = "pare compare: " + o.model;
  page.environment = std::string(kind(m.network)) + "; allocation " + o.recipe.allocation +
                     (o.recipe.permute ? ", permuted" : "") +
                     (o.calibration.empty() ? "" : "; calibrated on " + o.calibration);
  page.summary = "All methods saw the same calibration data and were measured on the same data, in one shot.";
  page.measure = dense.is_perplexity ? demo::quality_measure::perplexity : demo::quality_measure::accuracy;
  page.dense = {"dense", "", 0.0, dense.value, bytes_of(m.network), none, none};
  for (row const& r : rows) page.rows.push_back({r.method, r.pattern, r.sparsity, r.value, r.bytes, none, none});
  return demo::write_report(o.report, page);
}

}  // namespace

result<void> compare(compare_options const& o) {
  PARE_TRY(auto const methods, methods_of(o));
  PARE_TRY(auto const targets, targets_of(o));
  PARE_TRY(auto const m, program::load_model(o.model));
  PARE_TRY(auto data, read_data(o.run, m));
  if (!data && m.task == "glyphs") {
    PARE_TRY(data, program::read_images("glyphs", program::split::test, o.run.limit));
  }
  if (!data)
    return error{errc::missing, "options", "there is nothing to measure on: pass --text FILE or --data SOURCE"};
  auto needs = program::calibration_need::nothing;
  std::vector<job> jobs;
  result<void> refused;
  for (auto const& [pattern, spec] : targets)
    for (program::method_entry const& method : methods) {
      auto request = request_of(o.recipe, std::string(method.name), spec);
      if (auto const possible = program::check(m, request); !possible) {
        if (!all_methods(o)) return possible.error();
        refused = possible;
        continue;
      }
      PARE_TRY(auto const of_this, program::needs_of(request));
      needs = std::max(needs, of_this);
      jobs.push_back({pattern, std::move(request)});
    }
  if (jobs.empty()) return refused.error();
  PARE_TRY(auto const calibration, read_corpora(needs, o.calibration, o.general, o.calibration_limit, m));
  PARE_TRY(auto const search, read_search_data(o.recipe, o.calibration, o.calibration_limit, m));
  auto inputs = calibration.view();
  inputs.search = search ? &*search : nullptr;

  if (!o.report.empty())  // nothing is measured for a name that cannot be written
    if (auto const tried = atomic_file::open(o.report); !tried) return tried.error();

  program::progress_line line("dense");
  thread_pool pool(o.run.threads);
  auto const measure = [&](program::model& of) {
    set_up(of.network, o.run, pool);
    return program::evaluate(of, *data, o.run.chunk, o.run.batch, line.callback());
  };
  program::model dense_model = m;
  PARE_TRY(auto const dense, measure(dense_model));
  std::vector<row> rows;
  for (auto& [pattern, request] : jobs) {
    line.title(request.method + " " + pattern);
    request.chunk = o.run.chunk;
    request.settings.skip = o.skip;
    request.settings.progress = line.callback();
    if (o.run.threads > 1) request.exec = pool;
    program::model pruned = m;
    auto const start = std::chrono::steady_clock::now();
    auto const done = program::prune(pruned, request, inputs);
    if (!done) return done.error();
    double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    auto const e = measure(pruned);
    if (!e && e.error().code != errc::not_finite) return e.error();
    rows.push_back({request.method, pattern, request.what.target.value,
                    e ? e->value : std::numeric_limits<double>::infinity(), seconds, bytes_of(pruned.network)});
  }
  line.clear();

  if (!o.report.empty()) PARE_TRY_VOID(write_page(o, m, dense, rows));
  char const* const measured = dense.is_perplexity ? "perplexity" : "accuracy";
  if (o.json) {
    nlohmann::json out{
        {"model", o.model}, {"dense", dense.value}, {"measured", measured}, {"rows", nlohmann::json::array()}};
    for (row const& r : rows)
      out["rows"].push_back({{"method", r.method},
                             {"pattern", r.pattern},
                             {"sparsity", r.sparsity},
                             {measured, r.value},
                             {"dense", dense.value},
                             {"seconds", r.seconds}});
    std::cout << out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return {};
  }
  std::printf("%s of %s: dense %.*f\n\n%-16s %-14s %8s %12s %10s\n", measured, o.model.c_str(),
              dense.is_perplexity ? 3 : 4, dense.value, "method", "pattern", "sparsity", measured, "seconds");
  for (row const& r : rows)
    std::printf("%-16s %-14s %7.1f%% %12.*f %10.2f\n", r.method.c_str(), r.pattern.c_str(), 100.0 * r.sparsity,
                dense.is_perplexity ? 3 : 4, r.value, r.seconds);
  return {};
}

}  // namespace pare::cli
