// SPDX-License-Identifier: Apache-2.0
// pare prune: score, select, apply, evaluate if asked, and write the smaller model folder.
#include <concepts>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <pare/io/save_pruned.hpp>
#include <pare/prune/tensors_to_save.hpp>

#include "cli/commands.hpp"
#include "cli/run.hpp"
#include "support/terminal.hpp"

namespace pare::cli {

namespace {

result<void> save(prune_options const& o, program::model const& m, std::vector<pruned_layer> const& done,
                  pattern_spec const& what) {
  save_form const form = o.save == "dense" ? save_form::dense : save_form::sparse_bitmask;
  std::string const structure = what.pattern.of() > 0 ? to_string(what.pattern) : "unstructured";
  PARE_TRY(auto const source, checkpoint::open(o.model));
  nlohmann::json config = source.config().is_object() ? source.config() : nlohmann::json::object();
  if (!config.contains("model_type"))
    config["model_type"] = kind(m.network);  // a single file had to be recognised by its tensors
  auto const save_network = [&]<network Net>(Net const& net) -> result<void> {
    tensors_to_save changed(net, done);
    if constexpr (std::same_as<Net, llama>)
      if (o.recipe.permute) changed.add_others(net, source);
    return save_pruned(o.model, o.out, changed.weights(), form, config, {.structure = structure, .replace = o.replace});
  };
  return std::visit(save_network, m.network);
}

}  // namespace

result<void> prune(prune_options const& o) {
  if (o.save != "bitmask" && o.save != "dense")
    return error{errc::unsupported, "--save " + o.save, "expected bitmask or dense"};
  PARE_TRY(auto const what, parse_pattern(o.pattern));
  PARE_TRY(auto m, program::load_model(o.model));
  PARE_TRY_VOID(check_save_target(o.model, o.out, {.replace = o.replace}));
  PARE_TRY(auto const data, read_data(o.run, m));
  thread_pool pool(o.run.threads);
  program::progress_line line;
  auto request = request_of(o.recipe, o.method, what);
  request.stream = o.stream == "dense" ? calibration_stream::dense : calibration_stream::pruned;
  request.chunk = o.run.chunk;
  request.settings.skip = o.skip;
  request.settings.all_layers = o.all_layers;
  request.settings.progress = line.callback();
  request.search_state = o.search_state;
  if (o.run.threads > 1) request.exec = pool;
  if (!o.search_state.empty() && o.recipe.allocation != "evopress")
    return error{errc::mismatch, "options", "--search-state is of --allocation evopress"};
  PARE_TRY_VOID(program::check(m, request));
  PARE_TRY(auto const needs, program::needs_of(request));
  PARE_TRY(auto const calibration, read_corpora(needs, o.calibration, o.general, o.calibration_limit, m));
  PARE_TRY(auto const search, read_search_data(o.recipe, o.calibration, o.calibration_limit, m));
  auto inputs = calibration.view();
  inputs.search = search ? &*search : nullptr;
  auto done = program::prune(m, request, inputs);
  if (!done) {
    if (done.error().code == errc::pattern_misfit && !o.recipe.permute)
      done.error().what += " (--skip NAME, where * matches anything)";
    return done.error();
  }
  std::optional<program::evaluation> e;
  if (data) {
    set_up(m.network, o.run, pool);
    PARE_TRY(e, program::evaluate(m, *data, o.run.chunk, o.run.batch, line.callback()));
  }
  line.clear();
  PARE_TRY_VOID(save(o, m, done->layers, what));

  auto const count = std::visit([](auto const& n) { return count_weights(n); }, m.network);
  if (o.json) {
    nlohmann::json out{{"out", o.out},
                       {"method", o.method},
                       {"pattern", to_string(what.pattern)},
                       {"weights", count.weights},
                       {"kept", count.kept},
                       {"sparsity", count.sparsity()},
                       {"weight_bytes", count.bytes},
                       {"layers", nlohmann::json::array()}};
    for (pruned_layer const& p : done->layers) {
      out["layers"].push_back({{"name", p.name}, {"shape", {p.shape.rows, p.shape.cols}}, {"kept", p.kept}});
      if (!p.note.empty()) out["layers"].back()["note"] = p.note;
    }
    if (!done->notes.empty()) out["notes"] = done->notes;
    if (e) out["evaluation"] = as_json(*e, m.network);
    std::cout << out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return {};
  }
  std::printf("%s: %zu layers pruned by %s to %s; %.1f %% of all weights are gone, %s are left\n", o.out.c_str(),
              done->layers.size(), o.method.c_str(), o.pattern.c_str(), 100.0 * count.sparsity(),
              program::human_bytes(static_cast<double>(count.bytes)).c_str());
  for (std::string const& note : done->notes) std::printf("%s\n", note.c_str());
  for (pruned_layer const& p : done->layers)
    if (!p.note.empty()) std::printf("%s: %s\n", printable(p.name).c_str(), p.note.c_str());
  if (e) std::printf("%s\n", as_text(*e, m.network).c_str());
  return {};
}

}  // namespace pare::cli
