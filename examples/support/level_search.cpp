// SPDX-License-Identifier: Apache-2.0
#include "support/level_search.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include <pare/io/bytes.hpp>
#include <pare/io/file.hpp>
#include <pare/io/json.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/output_divergence.hpp>

namespace pare::program {

namespace fs = std::filesystem;

namespace {

class fnv1a {
 public:
  void add(std::span<std::byte const> bytes) noexcept {
    for (std::byte const b : bytes) hash_ = (hash_ ^ static_cast<std::uint64_t>(b)) * 0x100000001b3;
  }
  [[nodiscard]] std::string digits() const {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash_));
    return text;
  }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

/// The form of the file; another one gets another number.
constexpr index_t state_version = 1;

/// What a search may have done before; far from where the counts of what it goes on to do would overflow.
constexpr int most_generations = 1'000'000'000;
constexpr index_t most_evaluations = index_t{1} << 53;

/// A state's levels must fit the database, or it would leave another sparsity.
result<void> check_levels(evo_press_state const& state, std::span<level_range const> ranges, fs::path const& file) {
  if (state.levels.empty()) return {};
  bool fits = state.levels.size() == ranges.size() && std::reduce(state.levels.begin(), state.levels.end()) == 0;
  for (std::size_t m = 0; fits && m < ranges.size(); ++m)
    fits = ranges[m].lowest <= state.levels[m] && state.levels[m] <= ranges[m].highest;
  if (fits) return {};
  return error{errc::malformed, file.string(), "its levels are not of this network and sparsity"};
}

template <class Net>
result<output_divergence<Net>> reference_of(model const& m, Net const& net, data_set const& data, index_t chunk,
                                            progress report) {
  if constexpr (std::same_as<Net, llama>) {
    auto const* const text = std::get_if<std::string>(&data);
    if (text == nullptr)
      return error{errc::mismatch, m.path.string(), "this is a language model: its search needs a text"};
    PARE_TRY(auto const sequences, encode_chunks(*m.words, *text, chunk));
    return output_divergence<Net>::from(net, sequences, report);
  } else {
    auto const* const set = std::get_if<labelled_images>(&data);
    if (set == nullptr) return error{errc::mismatch, m.path.string(), "this is a classifier: its search needs images"};
    return output_divergence<Net>::from(net, set->images.span(), report);
  }
}

template <network Net>
result<found_levels> search(model const& m, Net const& net, level_database const& levels, data_set const& data,
                            evo_press_state state, search_identity const& identity, level_search const& s) {
  auto const ranges = levels.ranges();
  PARE_TRY_VOID(check_levels(state, ranges, s.state_file));
  PARE_TRY(auto const reference, reference_of(m, net, data, s.chunk, s.report));
  Net tried = net;
  run_on(tried, s.exec);

  evo_press by{.generations = s.generations, .offspring = 16, .survivors = {4, 1}, .seed = s.seed};
  index_t const tries = by.offspring + by.survivors.front();  // a generation
  index_t done = 0;                                           // of this one
  auto const fitness = [&](std::span<int const> choice, int stage) {
    ++done;
    levels.apply(tried, choice);
    index_t const all = reference.samples();
    auto const d = reference(tried, stage == 0 ? (all + 3) / 4 : all);
    return d ? *d : std::numeric_limits<double>::infinity();
  };
  std::string what = "search";
  auto show = [&](std::string_view, index_t generation, index_t of) {
    return s.report(what, generation * tries + (generation < of ? std::min(done, tries) : 0), s.generations * tries);
  };
  found_levels out;
  out.uniform = fitness(std::vector<int>(ranges.size(), 0), 1);
  // A generation at a time, so that each can be kept: evo_press finds the same in one go.
  while (state.generation < s.generations || !state.fitness) {
    done = 0;
    by.generations = std::min(state.generation + 1, s.generations);
    if (auto const searched = by.search(state, ranges, fitness, progress(show)); !searched) {
      error e = searched.error();
      e.what += " after " + std::to_string(state.generation) + " of " + std::to_string(s.generations) + " generations";
      if (!s.state_file.empty()) e.what += " (the same command goes on from " + s.state_file.string() + ")";
      return e;
    }
    if (!s.state_file.empty()) PARE_TRY_VOID(write_search_state(s.state_file, identity, state));
    char text[64];
    std::snprintf(text, sizeof text, "search (divergence %.4g)", *state.fitness);
    what = text;
  }
  out.state = std::move(state);
  return out;
}

}  // namespace

std::string fingerprint(any_network const& net) {
  fnv1a hash;
  for (linear const* l : layers(net)) {
    auto const w = l->weight();
    for (index_t i = 0; i < w.rows; ++i) hash.add(std::as_bytes(std::span(w.row(i), static_cast<std::size_t>(w.cols))));
    hash.add(std::as_bytes(std::span(l->bias())));
  }
  return hash.digits();
}

std::string fingerprint(data_set const& data) {
  fnv1a hash;
  if (auto const* const text = std::get_if<std::string>(&data)) {
    hash.add(std::as_bytes(std::span(*text)));
  } else {
    auto const& set = std::get<labelled_images>(data);
    hash.add(std::as_bytes(std::span(set.images.data(), static_cast<std::size_t>(set.images.size()))));
    hash.add(std::as_bytes(std::span(set.labels)));
  }
  return hash.digits();
}

result<evo_press_state> read_search_state(fs::path const& file, search_identity const& identity) {
  evo_press_state state;
  std::error_code code;
  if (file.empty()) return state;
  if (!fs::exists(file, code)) {
    fs::path const folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
    if (!fs::is_directory(folder, code))
      return error{errc::io, file.string(), "cannot be written: there is no folder " + in_quotes(folder.string())};
  }
  if (auto const tried = atomic_file::open(file); !tried) return tried.error();
  if (!fs::exists(file, code)) return state;
  PARE_TRY(auto const bytes, read_file(file, std::uint64_t{1} << 24));
  PARE_TRY(auto const json, parse_json(as_text(bytes), file.string()));
  auto const read = [&]() -> result<void> {
    PARE_TRY_VOID(get_integer(json, "pare_search_state", state_version, state_version));
    for (auto const& [name, value] : identity) {
      PARE_TRY(std::string const there, get_string(json, name));
      if (there != value)
        return error{errc::mismatch, "",
                     "is the state of another search: " + name + " is " + in_quotes(there) + " there and " +
                         in_quotes(value) + " here; name another file, or remove this one to search anew"};
    }
    PARE_TRY(auto const generation, get_integer(json, "generation", 0, most_generations));
    PARE_TRY(state.evaluations, get_integer(json, "evaluations", 0, most_evaluations));
    state.generation = static_cast<int>(generation);
    if (json.contains("fitness") && !json["fitness"].is_null()) {  // null: not finite
      PARE_TRY(state.fitness, get_number(json, "fitness"));
    }
    if (!json.contains("levels") || !json["levels"].is_array() || json["levels"].empty())
      return error{errc::malformed, "key \"levels\"", "expected an array of integers"};
    for (auto const& level : json["levels"]) {
      if (!level.is_number_integer() || level < -(1 << 20) || level > 1 << 20)
        return error{errc::malformed, "key \"levels\"", "expected an array of integers"};
      state.levels.push_back(level.get<int>());
    }
    return {};
  };
  if (auto done = read(); !done) return in(file.string(), std::move(done.error()));
  return state;
}

result<void> write_search_state(fs::path const& file, search_identity const& identity, evo_press_state const& state) {
  nlohmann::ordered_json json{{"pare_search_state", state_version}};
  for (auto const& [name, value] : identity) json[name] = value;
  json["generation"] = state.generation;
  json["evaluations"] = state.evaluations;
  json["fitness"] = state.fitness ? nlohmann::ordered_json(*state.fitness) : nullptr;  // written as null where infinite
  json["levels"] = state.levels;
  std::string const text = json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return write_file_atomically(file, as_bytes(text));
}

result<found_levels> search_levels(model const& m, level_database const& levels, data_set const& data,
                                   evo_press_state state, search_identity const& identity,
                                   level_search const& settings) {
  return std::visit([&](auto const& net) { return search(m, net, levels, data, std::move(state), identity, settings); },
                    m.network);
}

}  // namespace pare::program
