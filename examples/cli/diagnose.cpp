// SPDX-License-Identifier: Apache-2.0
// pare diagnose: how far a network can be pruned, what pruning does to its layers, how far methods agree.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pare/inspect/essential_sparsity.hpp>
#include <pare/inspect/mask_agreement.hpp>
#include <pare/inspect/spectrum.hpp>

#include "cli/commands.hpp"
#include "cli/run.hpp"
#include "support/terminal.hpp"

namespace pare::cli {

namespace {

/// A method's network at the sparsity asked for.
struct pruned_by {
  std::vector<std::string> layers;  // the names of those that were pruned
  std::vector<mask> masks;
  std::vector<spectrum> spectra;
};

/// Where a method's network turns worse.
struct knee_of {
  std::vector<std::pair<double, double>> curve;  // sparsity, perplexity or accuracy
  essential_sparsity at;
};

struct agreement_of {
  std::string a, b;
  mask_agreement found;
};

/// The weights of the named layers. Pre: all are of the network.
std::vector<linear const*> named(any_network const& net, std::vector<std::string> const& names) {
  std::vector<linear const*> out;
  for (linear const* l : layers(net))
    if (std::find(names.begin(), names.end(), l->name()) != names.end()) out.push_back(l);
  return out;
}

result<std::vector<spectrum>> spectra_of(std::vector<linear const*> const& of, progress const& report) {
  std::vector<spectrum> out;
  for (linear const* l : of) {
    if (!report("singular values", std::ssize(out), std::ssize(of)))
      return error{errc::cancelled, "diagnose", "cancelled"};
    auto s = singular_values(l->weight());
    if (!s) return in(l->name(), s.error());
    out.push_back(*std::move(s));
  }
  return out;
}

/// Prunes for the commands of this file, with what all of them share.
class pruner {
 public:
  pruner(diagnose_options const& o, program::model const& m, corpora const& data, progress report)
      : options_(&o), model_(&m), data_(&data), report_(report) {}

  result<std::pair<program::model, std::vector<pruned_layer>>> operator()(std::string const& method,
                                                                          pattern_spec const& what) const {
    program::prune_request request{method, what, options_->allocation};
    request.chunk = options_->run.chunk;
    request.settings.skip = options_->skip;
    request.settings.progress = report_;
    program::model out = *model_;
    PARE_TRY(auto done, program::prune(out, request, data_->view()));
    return std::pair(std::move(out), std::move(done.layers));
  }

 private:
  diagnose_options const* options_;
  program::model const* model_;
  corpora const* data_;
  progress report_;
};

/// Prunes more and more until `measure` finds a fall; N:M has one sparsity, so single weights go instead.
template <class Measure>
result<knee_of> find_knee(diagnose_options const& o, pruner const& prune, std::string const& method,
                          any_pattern const& pattern, program::evaluation const& dense, Measure const& measure) {
  any_pattern const unit = pattern.of() > 0 ? any_pattern(unstructured{}) : pattern;
  auto const goodness = [&](double v) { return dense.is_perplexity ? -std::log(v) : v; };
  knee_of out{{{0.0, dense.value}}, {}};
  std::vector<measured_sparsity> curve{{sparsity(0.0), goodness(dense.value)}};
  for (int percent = 5; percent < 100; percent += 5) {
    sparsity const s(0.01 * percent);
    PARE_TRY(auto pruned, prune(method, {unit, s}));
    auto const e = measure(pruned.first);
    if (!e && e.error().code != errc::not_finite) return e.error();
    out.curve.emplace_back(s.value, e ? e->value : HUGE_VAL);
    curve.push_back({s, e ? goodness(e->value) : -HUGE_VAL});
    out.at = find_essential_sparsity(curve, o.tolerance);
    if (out.at.first_below) break;
  }
  return out;
}

/// Of two networks that keep this share of their weights at random.
double chance(std::vector<mask> const& a) {
  index_t kept = 0, all = 0;
  for (mask const& m : a) {
    kept += m.count();
    all += m.shape().size();
  }
  double const density = static_cast<double>(kept) / static_cast<double>(all);
  return density / (2.0 - density);
}

struct diagnosis {
  std::optional<program::evaluation> dense;
  std::vector<knee_of> knees;   // of each method; empty without data
  bool single_weights = false;  // go for the knees, and not the pattern's groups
  std::vector<pruned_by> methods;
  std::vector<linear const*> layers;  // of the dense network, those that are pruned
  std::vector<spectrum> spectra;      // theirs
  std::vector<agreement_of> agreement;
};

void print(diagnose_options const& o, diagnosis const& d) {
  if (d.dense) {
    bool const p = d.dense->is_perplexity;
    std::printf("%s: %s %.*f\n\nhow sparse before it %s by more than %g%s%s\n", o.model.c_str(),
                p ? "perplexity" : "accuracy", p ? 3 : 4, d.dense->value, p ? "rises" : "falls", 100.0 * o.tolerance,
                p ? " %" : " percentage points", d.single_weights ? ", by single weights" : "");
    for (std::size_t i = 0; i < d.knees.size(); ++i) {
      auto const& [sparse, value] = d.knees[i].curve.back();
      std::printf("  %-16s %5.0f %%", o.methods[i].c_str(), 100.0 * d.knees[i].at.last_within.value);
      if (d.knees[i].at.first_below) std::printf("   (%.*f at %.0f %%)", p ? 3 : 4, value, 100.0 * sparse);
      std::printf("\n");
    }
    std::printf("\n");
  }
  std::printf("condition numbers, dense and pruned to %s (rank where it is not full)\n  %-42s %10s", o.pattern.c_str(),
              "layer", "dense");
  for (std::string const& m : o.methods) std::printf(" %16s", m.c_str());
  std::printf("\n");
  auto const cell = [](spectrum const& s, int width) {
    char text[64];
    if (s.rank == std::ssize(s.values)) {
      std::snprintf(text, sizeof text, "%.3g", s.effective_condition());
    } else {
      std::snprintf(text, sizeof text, "%.3g (%td)", s.effective_condition(), s.rank);
    }
    std::printf(" %*s", width, text);
  };
  for (std::size_t l = 0; l < d.layers.size(); ++l) {
    std::printf("  %-42s", printable(d.layers[l]->name()).c_str());
    cell(d.spectra[l], 10);
    for (pruned_by const& m : d.methods) cell(m.spectra[l], 16);
    std::printf("\n");
  }
  if (d.agreement.empty()) return;
  std::printf("\nweights that both keep, of those that either keeps (by chance %.3f)\n", chance(d.methods[0].masks));
  for (agreement_of const& a : d.agreement)
    std::printf("  %-16s %-16s %.3f\n", a.a.c_str(), a.b.c_str(), a.found.kept_iou);
}

void print_json(diagnose_options const& o, diagnosis const& d) {
  using nlohmann::json;
  json out{{"model", o.model}, {"pattern", o.pattern}, {"layers", json::array()}, {"agreement", json::array()}};
  if (d.dense) {
    char const* const measured = d.dense->is_perplexity ? "perplexity" : "accuracy";
    out[measured] = d.dense->value;
    out["tolerance"] = o.tolerance;
    out["essential_sparsity"] = json::object();
    for (std::size_t i = 0; i < d.knees.size(); ++i) {
      json curve = json::array();
      for (auto const& [s, value] : d.knees[i].curve) curve.push_back({{"sparsity", s}, {measured, value}});
      out["essential_sparsity"][o.methods[i]] = {{"sparsity", d.knees[i].at.last_within.value},
                                                 {"curve", std::move(curve)}};
    }
  }
  auto const as_json = [](spectrum const& s) {
    return json{{"norm", s.norm()}, {"rank", s.rank}, {"condition", s.effective_condition()}};
  };
  for (std::size_t l = 0; l < d.layers.size(); ++l) {
    json layer{{"name", d.layers[l]->name()}, {"dense", as_json(d.spectra[l])}};
    for (std::size_t i = 0; i < d.methods.size(); ++i) layer[o.methods[i]] = as_json(d.methods[i].spectra[l]);
    out["layers"].push_back(std::move(layer));
  }
  for (agreement_of const& a : d.agreement)
    out["agreement"].push_back({{"methods", {a.a, a.b}},
                                {"kept_iou", a.found.kept_iou},
                                {"kept_iou_by_chance", chance(d.methods[0].masks)},
                                {"removed_in_common", a.found.removed_in_common}});
  std::cout << out.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

}  // namespace

result<void> diagnose(diagnose_options const& o) {
  PARE_TRY(auto const what, parse_pattern(o.pattern));
  auto needs = program::calibration_need::nothing;
  for (std::string const& name : o.methods) {
    PARE_TRY(auto const entry, program::find_method(name));
    needs = std::max(needs, entry.needs);
  }
  PARE_TRY(auto const m, program::load_model(o.model));
  for (std::string const& name : o.methods) PARE_TRY_VOID(program::check(m, {name, what, o.allocation}));
  PARE_TRY(auto data, read_data(o.run, m));
  if (!data && m.task == "glyphs") {
    PARE_TRY(data, program::read_images("glyphs", program::split::test, o.run.limit));
  }
  PARE_TRY(auto const calibration, read_corpora(needs, o.calibration, o.general, o.calibration_limit, m));

  program::progress_line line;
  pruner const prune(o, m, calibration, line.callback());
  thread_pool pool(o.run.threads);
  auto const measure = [&](program::model& of) {
    set_up(of.network, o.run, pool);
    return program::evaluate(of, *data, o.run.chunk, o.run.batch, line.callback());
  };

  diagnosis d;
  d.single_weights = what.pattern.of() > 0;
  for (std::string const& method : o.methods) {
    line.title(method);
    PARE_TRY(auto pruned, prune(method, what));
    pruned_by& p = d.methods.emplace_back();
    for (pruned_layer const& l : pruned.second) p.layers.push_back(l.name);
    auto const of = named(pruned.first.network, p.layers);
    for (linear const* l : of) p.masks.push_back(kept(l->weights()));
    PARE_TRY(p.spectra, spectra_of(of, line.callback()));
  }
  d.layers = named(m.network, d.methods[0].layers);
  PARE_TRY(d.spectra, spectra_of(d.layers, line.callback()));
  for (std::size_t a = 0; a < o.methods.size(); ++a)
    for (std::size_t b = a + 1; b < o.methods.size(); ++b)
      d.agreement.push_back({o.methods[a], o.methods[b], pare::compare(d.methods[a].masks, d.methods[b].masks)});
  if (data) {
    program::model dense = m;
    PARE_TRY(d.dense, measure(dense));
    for (std::string const& method : o.methods) {
      line.title(method);
      PARE_TRY(auto knee, find_knee(o, prune, method, what.pattern, *d.dense, measure));
      d.knees.push_back(std::move(knee));
    }
  }
  line.clear();
  o.json ? print_json(o, d) : print(o, d);
  return {};
}

}  // namespace pare::cli
