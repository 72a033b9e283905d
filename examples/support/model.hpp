// SPDX-License-Identifier: Apache-2.0
// A network of any kind with what it needs to run and to be measured.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>
#include <pare/io/tokenizer.hpp>
#include <pare/nn/any_network.hpp>

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

/// Whether the model takes this data. Error: data of the wrong kind; images of another size.
[[nodiscard]] result<void> check_data(model const& m, data_set const& data);

/// What an evaluation found.
struct evaluation {
  bool is_perplexity = false;
  double value = 0.0;   // perplexity, or accuracy in [0, 1]
  index_t count = 0;    // predicted tokens, or images
  index_t windows = 0;  // of a text: pieces that were started by BOS
  double seconds = 0.0;
};

/// Perplexity on a text (chunk: bytes a chunk, 0 = the text as a whole; see pare/nn/evaluate.hpp) or accuracy on images
/// (batch: images at once). Errors: those of check_data, perplexity and accuracy.
[[nodiscard]] result<evaluation> evaluate(model const& m, data_set const& data, index_t chunk, index_t batch,
                                          progress report = {});

/// The largest absolute difference from reference logits (rows, outputs): of a language model on `tokens`, of a
/// classifier on the first images of `data`. Errors: shapes that do not match.
[[nodiscard]] result<double> compare_logits(model const& m, data_set const& data, std::vector<int> const& tokens,
                                            matrix_span<float const> reference);

}  // namespace pare::program
