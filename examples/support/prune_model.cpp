// SPDX-License-Identifier: Apache-2.0
#include "support/prune_model.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iterator>
#include <utility>

#include <pare/allocate/er.hpp>
#include <pare/allocate/erk.hpp>
#include <pare/allocate/flap.hpp>
#include <pare/allocate/global.hpp>
#include <pare/allocate/lamp.hpp>
#include <pare/allocate/owl.hpp>
#include <pare/allocate/uniform_plus.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/feed.hpp>
#include <pare/nn/feed_gradients.hpp>
#include <pare/nn/walk.hpp>
#include <pare/prune/alps.hpp>
#include <pare/prune/d_pruner.hpp>
#include <pare/prune/dsnot.hpp>
#include <pare/prune/level_database.hpp>
#include <pare/prune/permute_llama.hpp>
#include <pare/prune/sparse_gpt.hpp>
#include <pare/prune/wood_fisher.hpp>
#include <pare/score/gaprune.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/obd.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/ria.hpp>
#include <pare/score/snip.hpp>
#include <pare/score/taylor.hpp>
#include <pare/score/wanda.hpp>

#include "support/level_search.hpp"

namespace pare::program {

result<method_entry> find_method(std::string_view name) {
  std::string known;
  for (method_entry const& m : methods) {
    if (m.name == name) return m;
    known += (known.empty() ? "" : ", ") + std::string(m.name);
  }
  return error{errc::unsupported, "method '" + std::string(name) + "'", "expected one of " + known};
}

namespace {

/// An allocator whose type is known at run time only, so that a method is compiled once and not for each of them.
template <bool Scores>
struct named_allocator {
  static constexpr bool needs_scores = Scores;
  std::function<result<std::vector<sparsity>>(std::vector<layer_info> const&, sparsity)> share;
  [[nodiscard]] result<std::vector<sparsity>> allocate(std::vector<layer_info> const& layers, sparsity target) const {
    return share(layers, target);
  }
};

constexpr std::string_view searched = "evopress";

error no_levels(std::string const& method) {
  return {errc::unsupported, "allocation " + std::string(searched),
          "method '" + method + "' scores a layer by all others, so layers cannot be solved on their own"};
}

/// Calls `use` with the allocator of that name. Error: none of that name.
template <class Use>
result<std::vector<pruned_layer>> with_allocator(std::string const& name, Use&& use) {
  auto const named = [&]<budget_allocator A>(A const& a) {
    return use(named_allocator<static_cast<bool>(A::needs_scores)>{
        [a](std::vector<layer_info> const& layers, sparsity target) { return pare::allocate(a, layers, target); }});
  };
  if (name == "uniform") return use(uniform{});
  if (name == "uniform-plus") return named(uniform_plus{});
  if (name == "er") return named(er{});
  if (name == "erk") return named(erk{});
  if (name == "global") return named(global{});
  if (name == "lamp") return named(lamp{});
  if (name == "owl") return named(owl{});
  if (name == "flap") return named(flap{});
  std::string known;
  for (std::string_view const n : allocation_names) known += (known.empty() ? "" : ", ") + std::string(n);
  return error{errc::unsupported, "allocation '" + name + "'", "expected one of " + known};
}

/// use(what feed() and walk() take). Error: data of the wrong kind for the model.
template <class Net, class Use>
auto with_inputs(model const& m, data_set const& data, prune_request const& r, Use use) {
  if constexpr (std::same_as<Net, llama>) {
    using done = decltype(use(std::span<std::vector<int> const>{}));
    auto const* const text = std::get_if<std::string>(&data);
    if (text == nullptr)
      return done(error{errc::mismatch, m.path.string(), "this is a language model: it is calibrated on a text"});
    auto const sequences = encode_chunks(*m.words, *text, r.chunk);
    if (!sequences) return done(sequences.error());
    return use(std::span<std::vector<int> const>(*sequences));
  } else {
    using done = decltype(use(matrix_span<float const>{}));
    auto const* const set = std::get_if<labelled_images>(&data);
    if (set == nullptr)
      return done(error{errc::mismatch, m.path.string(), "this is a classifier: it is calibrated on images"});
    return use(matrix_span<float const>(set->images.span()));
  }
}

/// Runs the data through a network, and back where the statistics of the corpus need that.
template <class Corpus, class Net, class Needs>
result<void> collect(model const& m, Net const& net, data_set const& data, prune_request const& r,
                     calibration<Needs>& into) {
  auto tap = into.template from<Corpus>();
  progress const report = r.settings.progress;
  return with_inputs<Net>(m, data, r, [&](auto inputs) -> result<void> {
    if constexpr (!Needs::template has_gradients_of<Corpus>) {
      return feed(net, inputs, tap, report);
    } else if constexpr (std::same_as<Net, llama>) {
      PARE_TRY_VOID(feed_gradients(net, inputs, tap, report));
      return {};
    } else {
      std::span<std::uint8_t const> const labels(std::get<labelled_images>(data).labels);
      PARE_TRY_VOID(feed_gradients(net, inputs, labels, tap, report));
      return {};
    }
  });
}

/// Everything that `Needs` reads, of all corpora.
template <class Net, class Needs>
result<void> collect_all(model const& m, Net const& net, calibration_data const& data, prune_request const& r,
                         calibration<Needs>& into) {
  if constexpr (Needs::template has_corpus<any_corpus>) PARE_TRY_VOID(collect<any_corpus>(m, net, *data.data, r, into));
  if constexpr (Needs::template has_corpus<domain_corpus>)
    PARE_TRY_VOID(collect<domain_corpus>(m, net, *data.data, r, into));
  if constexpr (Needs::template has_corpus<general_corpus>)
    PARE_TRY_VOID(collect<general_corpus>(m, net, *data.general, r, into));
  return {};
}

/// use(what a method is calibrated on, stage by stage): a walk where it reads the inputs of one corpus only.
template <class Out, class Method, class Net, class Use>
result<Out> with_stage_data(model const& m, Net const& net, calibration_data const& data, prune_request const& r,
                            Use use) {
  if constexpr (Method::needs::template has_corpus<any_corpus> && !Method::needs::needs_gradients) {
    PARE_TRY(auto inputs,
             with_inputs<Net>(m, *data.data, r, [&](auto in) { return walk(net, in, r.settings.progress); }));
    return use(inputs);
  } else {
    return use([&](Net const& n, auto& stats) { return collect_all(m, n, data, r, stats); });
  }
}

/// A criterion selects; all else is a layer pruner.
template <class Method>
auto as_layer_pruner(Method const& by) {
  if constexpr (layer_pruner<Method>) {
    return by;
  } else {
    return select_by<Method>{by};
  }
}

/// Scored on the dense network and selected at once: criteria that need more than a forward pass, or nothing, and those
/// whose scores are compared between layers.
template <class Method, class Allocator>
inline constexpr bool at_once = false;
template <criterion Method, class Allocator>
inline constexpr bool at_once<Method, Allocator> =
    Allocator::needs_scores || network_criterion<Method> || Method::needs::needs_gradients ||
    std::same_as<typename Method::needs, statistics<>>;

/// The sparsity of each layer. Solvers give no scores that could be compared: those of Wanda on the dense network do.
template <network Net, class Allocator>
result<std::vector<sparsity>> shares_of(model const& m, Net const& net, Allocator const& allocator,
                                        prune_request const& r, calibration_data const& data) {
  if constexpr (Allocator::needs_scores) {
    calibration<wanda::needs> stats(net);
    PARE_TRY_VOID(collect<any_corpus>(m, net, *data.data, r, stats));
    return share_out(net, wanda{}, stats, r.what.pattern, r.what.target, allocator, r.settings);
  } else {
    return share_out(net, r.what.pattern, r.what.target, allocator, r.settings);
  }
}

/// All that decides where a search goes.
search_identity identity_of(model const& m, prune_request const& r, calibration_data const& data) {
  char target[32];
  std::snprintf(target, sizeof target, "%.17g", r.what.target.value);
  std::string skipped;
  for (std::string const& s : r.settings.skip) skipped += (skipped.empty() ? "" : ", ") + s;
  search_identity id{{"network", fingerprint(m.network)},
                     {"method", r.method},
                     {"pattern", to_string(r.what.pattern)},
                     {"sparsity", target},
                     {"skipped layers", skipped},
                     {"all layers", r.settings.all_layers ? "yes" : "no"},
                     {"seed", std::to_string(r.seed)},
                     {"chunk", std::to_string(r.chunk)},
                     {"search data", fingerprint(*data.search)}};
  if (data.data != nullptr) id["calibration data"] = fingerprint(*data.data);
  if (data.general != nullptr) id["general data"] = fingerprint(*data.general);
  return id;
}

/// The sparsity of each layer that evopress finds.
template <network Net, class Method>
result<std::vector<sparsity>> search_shares(model const& m, Net const& net, Method const& by, prune_request const& r,
                                            calibration_data const& data, std::vector<std::string>& notes) {
  if constexpr (network_criterion<Method>) {
    return no_levels(r.method);
  } else {
    auto const identity = identity_of(m, r, data);
    PARE_TRY(auto state, read_search_state(r.search_state, identity));  // a wrong one is refused before the work
    auto const solve = [&](auto&& stage_data) {
      return solve_levels(net, as_layer_pruner(by), r.what.pattern, r.what.target, {}, stage_data, r.settings);
    };
    PARE_TRY(auto const levels, (with_stage_data<level_database, Method>(m, net, data, r, solve)));
    level_search const settings{r.generations, r.seed, r.chunk, r.search_state, r.exec, r.settings.progress};
    PARE_TRY(auto const found, search_levels(m, levels, *data.search, std::move(state), identity, settings));
    char note[160];
    std::snprintf(note, sizeof note,
                  "evopress: %d generations, %td trials; divergence from the dense outputs %.4f (uniform: %.4f)",
                  found.state.generation, found.state.evaluations, *found.state.fitness, found.uniform);
    notes.emplace_back(note);
    return levels.shares(found.state.levels);
  }
}

template <network Net, class Method>
result<std::vector<pruned_layer>> prune_by(model const& m, Net& net, Method const& by, prune_request const& r,
                                           calibration_data const& data, std::vector<std::string>& notes) {
  auto const with = [&]<class A>(A const& allocator) -> result<std::vector<pruned_layer>> {
    if constexpr (at_once<Method, A>) {
      calibration<typename Method::needs> stats(net);
      PARE_TRY_VOID(collect_all(m, net, data, r, stats));
      return pare::prune(net, by, r.what.pattern, r.what.target, stats, allocator, r.settings);
    } else {
      PARE_TRY(auto const shares, shares_of(m, net, allocator, r, data));
      return with_stage_data<std::vector<pruned_layer>, Method>(m, net, data, r, [&](auto&& stage_data) {
        return prune_in_stages(net, as_layer_pruner(by), r.what.pattern, shares, stage_data, r.stream, r.settings);
      });
    }
  };
  if (r.allocation != searched) return with_allocator(r.allocation, with);
  PARE_TRY(auto const shares, search_shares(m, net, by, r, data, notes));
  return with(named_allocator<false>{
      [&](std::vector<layer_info> const&, sparsity) -> result<std::vector<sparsity>> { return shares; }});
}

/// Reorders the network's channels for the request's pattern, by the Gram matrices of the dense network.
result<void> permute(model& m, prune_request const& r, calibration_data const& data, std::vector<std::string>& notes) {
  auto& net = std::get<llama>(m.network);
  calibration<statistics<gram>> stats(net);
  PARE_TRY_VOID(collect<any_corpus>(m, net, *data.data, r, stats));
  permute_options options;
  options.seed = r.seed;
  options.progress = r.settings.progress;
  auto const gain = permute_channels(net, r.what.pattern, stats, options);
  if (!gain && gain.error().code == errc::pattern_misfit)
    return error{errc::pattern_misfit, gain.error().where,
                 gain.error().what + ": --permute takes patterns that tile every layer, skipped or not"};
  if (!gain) return gain.error();
  char note[128];
  std::snprintf(note, sizeof note, "permute: the order found keeps %.2f %% more of the OBS scores",
                100.0 * (*gain - 1.0));
  notes.emplace_back(note);
  return {};
}

/// Calls `use` with the method that the request names. Pre: the name is known.
template <class Use>
auto with_method(prune_request const& r, Use&& use) {
  std::string const& name = r.method;
  if (name == "magnitude") return use(magnitude{});
  if (name == "random") return use(random_score{r.seed});
  if (name == "wanda") return use(wanda{});
  if (name == "ria") return use(ria{});
  if (name == "taylor") return use(taylor{});
  if (name == "taylor-sample") return use(taylor_by_sample{});
  if (name == "snip") return use(snip{});
  if (name == "obd") return use(obd{});
  if (name == "obd-position") return use(position_obd{});
  if (name == "sparsegpt") return use(sparse_gpt{});
  if (name == "sparsegpt-row") return use(sparse_gpt{.compares = sparse_gpt::pool::row});
  if (name == "dsnot") return use(dsnot<>{});
  if (name == "woodfisher") return use(wood_fisher{});
  if (name == "alps") return use(alps{});
  if (name == "d-pruner") return use(d_pruner{});
  if (name == "gaprune") return use(gaprune{});
  if (name == "gaprune-scaled") return use(gaprune_scaled{});
  return use(gaprune_row_aligned{});
}

}  // namespace

result<calibration_need> needs_of(prune_request const& r) {
  PARE_TRY(auto const method, find_method(r.method));
  return std::max(method.needs, r.permute ? calibration_need::data : calibration_need::nothing);
}

result<void> check(model const& m, prune_request const& r) {
  PARE_TRY_VOID(find_method(r.method));
  if (r.permute && r.what.pattern.of() == 0)
    return error{errc::unsupported, "permute",
                 "only N:M patterns depend on the order of the channels, and this is " + to_string(r.what.pattern)};
  if (r.permute && !m.is_language_model())
    return error{errc::unsupported, "permute",
                 "channels are reordered in Llama networks, and this is a " + std::string(kind(m.network))};
  if (r.method == "dsnot" && r.what.pattern.unit() != extents{1, 1})
    return error{errc::unsupported, "method 'dsnot'",
                 "swaps single weights of a row, and the units of " + to_string(r.what.pattern) + " are larger"};
  if (r.allocation != searched) return {};
  if (r.what.pattern.of() > 0)
    return error{errc::unsupported, "allocation " + std::string(searched),
                 "pattern " + to_string(r.what.pattern) + " fixes the sparsity of every layer: nothing to search"};
  return with_method(r, [&]<class Method>(Method const&) -> result<void> {
    if constexpr (network_criterion<Method>) return no_levels(r.method);
    return {};
  });
}

result<prune_outcome> prune(model& m, prune_request const& r, calibration_data const& data) {
  PARE_TRY_VOID(check(m, r));
  PARE_TRY(auto const needs, needs_of(r));
  if (needs != calibration_need::nothing && data.data == nullptr)
    return error{errc::missing, "method '" + r.method + "'", "it needs calibration data: pass --calib"};
  if (needs == calibration_need::both_corpora && data.general == nullptr)
    return error{errc::missing, "method '" + r.method + "'", "it needs general data too: pass --general"};
  if (r.allocation == searched && data.search == nullptr)
    return error{errc::missing, "allocation " + r.allocation, "it needs data to compare networks on"};
  prune_outcome out;
  if (r.permute) PARE_TRY_VOID(permute(m, r, data, out.notes));
  PARE_TRY(out.layers, std::visit(
                           [&](auto& net) {
                             return with_method(
                                 r, [&](auto const& by) { return prune_by(m, net, by, r, data, out.notes); });
                           },
                           m.network));
  return out;
}

}  // namespace pare::program
