// SPDX-License-Identifier: Apache-2.0
// What eval and prune share: the data that a model is evaluated on, and how its layers run.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include <pare/kernel/thread_pool.hpp>

#include "cli/commands.hpp"
#include "support/prune_model.hpp"

namespace pare::cli {

/// The data that the options name, for the model; nothing where they name none. Errors: both kinds named; those of
/// reading and of check_data, before the work that the data is to judge.
[[nodiscard]] result<std::optional<program::data_set>> read_data(run_options const& o, program::model const& m);

/// The calibration data that `source` names, at most `limit` bytes or images of it (0: 100,000 bytes, 1,000 images); a
/// network of the glyphs draws its own where nothing is named. Errors: none named; those of reading.
[[nodiscard]] result<program::data_set> read_calibration(std::string const& source, std::int64_t limit,
                                                         program::model const& m);

/// The data that methods are calibrated on.
struct corpora {
  std::optional<program::data_set> data, general;
  [[nodiscard]] program::calibration_data view() const noexcept {
    return {data ? &*data : nullptr, general ? &*general : nullptr};
  }
};
/// Reads as much of it as is needed, see read_calibration. Errors: what is needed and not named; those of reading.
[[nodiscard]] result<corpora> read_corpora(program::calibration_need needs, std::string const& source,
                                           std::string const& general, std::int64_t limit, program::model const& m);

/// The request of a recipe, without what prune and compare set each on its own.
[[nodiscard]] program::prune_request request_of(recipe_options const& recipe, std::string const& method,
                                                pattern_spec const& what);

/// The data on which evopress compares networks; nothing for another allocation. For a language model the file that
/// the recipe names, or what follows in the calibration text after the bytes that calibrate; for a classifier the
/// first of the calibration images. Errors: options of a search without one; a text that ends where calibration does;
/// those of reading.
[[nodiscard]] result<std::optional<program::data_set>> read_search_data(recipe_options const& recipe,
                                                                        std::string const& source, std::int64_t limit,
                                                                        program::model const& m);

/// Lays the network's layers out as the options ask and lets them run on `pool`.
void set_up(any_network& net, run_options const& o, thread_pool& pool);

/// How many layers each kind of operand multiplies: {"dense": 1, "bitmap": 34}.
[[nodiscard]] std::map<std::string, int> operands(any_network const& net);

/// An evaluation as `pare eval --json` prints it.
[[nodiscard]] nlohmann::json as_json(program::evaluation const& e, any_network const& net);

/// The same for people, one line.
[[nodiscard]] std::string as_text(program::evaluation const& e, any_network const& net);

}  // namespace pare::cli
