// SPDX-License-Identifier: Apache-2.0
// Pruning by names: the run-time names of methods and allocations.
//
// The library composes methods at compile time; here, and only here, the strings of the command line become types.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <pare/kernel/execution.hpp>
#include <pare/pattern/parse.hpp>
#include <pare/prune/stages.hpp>

#include "support/model.hpp"

namespace pare::program {

/// What a method needs to be calibrated.
enum class calibration_need {
  nothing,
  data,
  both_corpora,  // data of the domain, and general data
};

struct method_entry {
  std::string_view name;
  calibration_need needs;
};

/// All methods, in the order in which tables show them.
inline constexpr method_entry methods[] = {
    {"magnitude", calibration_need::nothing},
    {"random", calibration_need::nothing},
    {"wanda", calibration_need::data},
    {"ria", calibration_need::data},
    {"taylor", calibration_need::data},
    {"taylor-sample", calibration_need::data},
    {"snip", calibration_need::data},
    {"obd", calibration_need::data},
    {"obd-position", calibration_need::data},
    {"dsnot", calibration_need::data},
    {"woodfisher", calibration_need::data},
    {"sparsegpt", calibration_need::data},
    {"sparsegpt-row", calibration_need::data},
    {"alps", calibration_need::data},
    {"d-pruner", calibration_need::both_corpora},
    {"gaprune", calibration_need::both_corpora},
    {"gaprune-scaled", calibration_need::both_corpora},
    {"gaprune-row", calibration_need::both_corpora},
};
/// The entry of that name. Error: none; the known names are listed.
[[nodiscard]] result<method_entry> find_method(std::string_view name);

/// evopress is a search, see prune().
inline constexpr std::string_view allocation_names[] = {"uniform", "uniform-plus", "er",   "erk",     "global",
                                                        "lamp",    "owl",          "flap", "evopress"};

/// A pruning job in words.
struct prune_request {
  std::string method = "magnitude";
  pattern_spec what;
  std::string allocation = "uniform";  // one of allocation_names
  std::uint64_t seed = 0;              // of random, of the permutation and of the search
  calibration_stream stream = calibration_stream::pruned;
  index_t chunk = 0;  // bytes of a chunk of the calibration text
  prune_settings settings{};
  bool permute = false;                  // reorder channels first, see permute_channels
  int generations = 50;                  // of evopress
  std::filesystem::path search_state{};  // the file in which evopress keeps its state; empty: none
  execution_ref exec{};                  // what evopress's trials run on
};

/// What a method is calibrated on; null where there is none.
struct calibration_data {
  data_set const* data = nullptr;     // of the domain, where two corpora are told apart
  data_set const* general = nullptr;  // of the general corpus
  data_set const* search = nullptr;   // what evopress compares networks on
};

/// What a request needs to be calibrated: its method, or the permutation. Error: an unknown method.
[[nodiscard]] result<calibration_need> needs_of(prune_request const& request);

/// What can be said of a request before there is data. Errors: unknown names; a permutation of a network that is no
/// Llama, or for a pattern that does not depend on the order; dsnot for units of several weights; a search where the
/// pattern or the method leave nothing to search.
[[nodiscard]] result<void> check(model const& m, prune_request const& request);

struct prune_outcome {
  std::vector<pruned_layer> layers;
  std::vector<std::string> notes;  // what permutation and search have to say, a sentence each
};

/// Prunes the model's network. Criteria that need no gradients, and solvers, are calibrated and pruned stage by stage;
/// criteria that read gradients or look at the whole network, and all with an allocation that compares scores, at once
/// on the dense network. Solvers whose allocation compares scores share the budget by Wanda's. evopress solves all
/// layers of the dense network at several sparsities, searches among these, and prunes anew with the shares that it
/// found. Errors: those of check; data that is missing or of the wrong kind for the model; those of permute_channels,
/// search_levels, pare::prune and pare::prune_in_stages.
[[nodiscard]] result<prune_outcome> prune(model& m, prune_request const& request, calibration_data const& data);

}  // namespace pare::program
