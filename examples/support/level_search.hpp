// SPDX-License-Identifier: Apache-2.0
// The search for how sparse each layer should be (--allocation evopress), and its state in a file.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <pare/allocate/evo_press.hpp>
#include <pare/core/progress.hpp>
#include <pare/kernel/execution.hpp>
#include <pare/prune/level_database.hpp>

#include "support/model.hpp"

namespace pare::program {

/// What a search finds depends on these, by name: a state is continued only where all of them are the same.
using search_identity = std::map<std::string, std::string>;

/// A number for all values of the network's layers, or of a data set, in 16 hexadecimal digits (64-bit FNV-1a): tells
/// one from another, and is no protection against forgery.
[[nodiscard]] std::string fingerprint(any_network const& net);
[[nodiscard]] std::string fingerprint(data_set const& data);

/// The state in a file; one that has not begun where there is no file, or no name. Errors: io, among them a file that
/// could not be written; a file that is no state, or that of another search, with what differs.
[[nodiscard]] result<evo_press_state> read_search_state(std::filesystem::path const& file,
                                                        search_identity const& identity);
/// Replaces the file at once, or leaves it as it was. Errors: io.
[[nodiscard]] result<void> write_search_state(std::filesystem::path const& file, search_identity const& identity,
                                              evo_press_state const& state);

struct level_search {
  int generations = 50;
  std::uint64_t seed = 0;
  index_t chunk = 0;                 // bytes of a chunk of a text
  std::filesystem::path state_file;  // written after each generation; empty: none
  execution_ref exec{};              // what the tried networks run on
  progress report{};
};

struct found_levels {
  evo_press_state state;
  double uniform = 0.0;  // the fitness of level 0 everywhere
};

/// Goes on from `state` (see evo_press) by the divergence of the outputs from the network's own, on `data`: 16 children
/// a generation are rated on a quarter of it, the best four and their parent on all.
/// Errors: data of another kind than the network takes; a state that is not of these levels; cancelled, after which the
/// file holds the last whole generation; those of output_divergence; io.
[[nodiscard]] result<found_levels> search_levels(model const& m, level_database const& levels, data_set const& data,
                                                 evo_press_state state, search_identity const& identity,
                                                 level_search const& settings);

}  // namespace pare::program
