// SPDX-License-Identifier: Apache-2.0
// A network of any kind with what it needs to run, and the run-time names of methods, patterns and allocations.
//
// The library composes methods at compile time; here, and only here, the strings of the command line become types.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <pare/calibrate/input_norms.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>
#include <pare/io/tokenizer.hpp>
#include <pare/nn/any_network.hpp>
#include <pare/pattern/parse.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/prune/prune.hpp>
#include <pare/prune/stages.hpp>

#include "support/data_set.hpp"

namespace pare::program {

struct model {
  std::filesystem::path path;  // the folder or file that it was read from
  any_network network;
  std::optional<tokenizer> words;  // of a language model
  std::string task;                // of a perceptron: "glyphs", "mnist", ...; else empty

  [[nodiscard]] bool is_language_model() const noexcept { return std::holds_alternative<llama>(network); }
};

/// Reads a model folder, or a single .safetensors file of a network that needs no configuration.
/// Errors: those of the checkpoint, the network and the tokenizer.
[[nodiscard]] result<model> load_model(std::filesystem::path const& path);

/// Text or images, whichever the model takes.
using data_set = std::variant<std::string, labelled_images>;

/// What an evaluation found.
struct evaluation {
  bool is_perplexity = false;
  double value = 0.0;   // perplexity, or accuracy in [0, 1]
  index_t count = 0;    // predicted tokens, or images
  index_t windows = 0;  // of a text: pieces that were started by BOS
  double seconds = 0.0;
};

/// Perplexity on a text (chunk: bytes a chunk, 0 = the text as a whole; see pare/nn/evaluate.hpp) or accuracy on images
/// (batch: images at once). Errors: data of the wrong kind for the model; those of perplexity and accuracy.
[[nodiscard]] result<evaluation> evaluate(model const& m, data_set const& data, index_t chunk, index_t batch,
                                          progress report = {});

/// The largest absolute difference from reference logits (rows, outputs): of a language model on `tokens`, of a
/// classifier on the first images of `data`. Errors: shapes that do not match.
[[nodiscard]] result<double> compare_logits(model const& m, data_set const& data, std::vector<int> const& tokens,
                                            matrix_span<float const> reference);

/// What the methods that need data read: the norms of each layer's inputs.
using input_statistics = calibration<statistics<input_norms>>;

/// Runs the model on calibration data: a text (in chunks of so many bytes, 0 = as a whole), or images.
[[nodiscard]] result<input_statistics> calibrate(model const& m, data_set const& data, index_t chunk = 0,
                                                 progress report = {});

/// A pruning job in words.
struct prune_request {
  std::string method = "magnitude";  // one of method_names
  pattern_spec what;
  std::string allocation = "uniform";  // uniform, global, erk
  std::uint64_t seed = 0;              // of random
  calibration_stream stream = calibration_stream::pruned;
  index_t chunk = 0;  // bytes of a chunk of the calibration text
  prune_settings settings{};
};

/// All methods, those that need no data first.
inline constexpr std::string_view method_names[] = {"magnitude", "random",        "wanda", "ria",
                                                    "sparsegpt", "sparsegpt-row", "alps"};
[[nodiscard]] constexpr bool needs_data(std::string_view method) noexcept {
  return method != "magnitude" && method != "random";
}

/// Prunes the model's network all at once, by a criterion. `stats`: from calibrate, of a network of the same shape; may
/// be null for methods that need none. Errors: unknown names; those of pare::prune.
[[nodiscard]] result<std::vector<pruned_layer>> prune(model& m, prune_request const& request,
                                                      input_statistics const* stats);

/// Prunes the model's network by any method. What needs data is calibrated on `data` (null where there is none) and
/// pruned stage by stage; with an allocation that compares scores, all at once. Errors: unknown names; data of the
/// wrong kind or none; those of pare::prune and pare::prune_in_stages.
[[nodiscard]] result<std::vector<pruned_layer>> prune(model& m, prune_request const& request, data_set const* data);

}  // namespace pare::program
