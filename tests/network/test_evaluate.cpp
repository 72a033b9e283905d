// SPDX-License-Identifier: Apache-2.0
// Perplexity and accuracy: reference values, the rule for texts longer than the context, and refusals.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <pare/io/npy.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/mlp.hpp>

#include "network/model_folder.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using namespace pare;
using pare::test::load;
using pare::test::model_folder;

namespace {

std::string read_text(std::filesystem::path const& path, std::size_t bytes) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  text.resize(std::min(text.size(), bytes));
  return text;
}

struct stories {
  llama net;
  tokenizer words;
};
std::optional<stories> open_stories() {
  auto const folder = test::data("stories260K");
  if (!folder) return std::nullopt;
  return stories{llama::load(checkpoint::open(*folder).value()).value(),
                 tokenizer::open(*folder / "tokenizer.bin", 512).value()};
}

/// -ln p of every token but the first, the sequence going through at once.
double plain_nll(llama const& net, std::vector<int> const& tokens) {
  matrix<float> logits(std::ssize(tokens), net.config().vocab_size);
  net.forward(tokens, logits.span());
  double total = 0;
  for (std::size_t t = 1; t < tokens.size(); ++t) {
    double sum = 0;
    auto const row = static_cast<index_t>(t - 1);
    for (index_t v = 0; v < logits.cols(); ++v) sum += std::exp(static_cast<double>(logits(row, v)));
    total += std::log(sum) - static_cast<double>(logits(row, tokens[t]));
  }
  return total;
}

/// One linear layer, so that logits are easy to know.
model_folder one_layer(std::vector<float> weights) {
  model_folder f;
  f.config = {{"model_type", "mlp"}, {"layer_sizes", {2, 3}}};
  f.add("fc1.weight", {3, 2});
  f.add("fc1.bias", {3}, 0.0f, 0.0f);
  f.tensors["fc1.weight"].values = std::move(weights);
  return f;
}

}  // namespace

TEST_CASE("perplexity: stories260K predicts the first 20,000 tokens of its validation text as the reference does") {
  auto const model = open_stories();
  if (!model) return;
  auto const folder = test::data("stories260K");
  auto const tokens = read_npy_ints(*folder / "ref_tokens_tinystories_20000.npy").value();
  auto const reference = read_npy_matrix(*folder / "ref_nll_tinystories_20000.npy").value();
  std::vector<std::vector<int>> sequences;
  for (int const token : tokens) {
    if (token == 1) sequences.emplace_back();
    sequences.back().push_back(token);
  }
  auto const found = perplexity(model->net, sequences).value();
  CHECK(found.tokens == 20000);
  CHECK(found.windows == 70);
  CHECK(found.perplexity == Approx(4.613648604777434).epsilon(1e-5));
  double first = 0;
  auto const count = std::ssize(sequences[0]) - 1;
  for (index_t i = 0; i < count; ++i) first += static_cast<double>(reference(i, 0));
  auto const alone = perplexity(model->net, std::span(sequences).first(1)).value();
  CHECK(alone.mean_nll == Approx(first / static_cast<double>(count)).epsilon(1e-5));
}

TEST_CASE("perplexity: 200,000 bytes in chunks of 600 give the reference value") {
  auto const model = open_stories();
  auto const text = test::data("text/tinystories_val.txt");
  if (!model || !text) return;
  auto const found = perplexity(model->net, model->words, read_text(*text, 200000), {.chunk_bytes = 600}).value();
  CHECK(found.tokens == 97993);
  CHECK(found.perplexity == Approx(4.79035926541404).epsilon(1e-4));
}

TEST_CASE("perplexity: a text longer than the context is cut into windows, each token predicted once after BOS") {
  auto const model = open_stories();
  auto const text = test::data("text/tinystories_val.txt");
  if (!model || !text) return;
  std::string const story = read_text(*text, 3000);
  auto const all = model->words.encode(story).value();
  REQUIRE(all.size() > 2 * 511);
  double total = 0;
  index_t windows = 0;
  for (std::size_t first = 1; first < all.size(); first += 511, ++windows) {
    std::vector<int> window{1};
    for (std::size_t t = first; t < std::min(all.size(), first + 511); ++t) window.push_back(all[t]);
    total += plain_nll(model->net, window);
  }
  auto const found = perplexity(model->net, model->words, story).value();
  CHECK(found.tokens == std::ssize(all) - 1);
  CHECK(found.windows == windows);
  CHECK(found.mean_nll == Approx(total / static_cast<double>(all.size() - 1)).epsilon(1e-5));
  CHECK(found.perplexity == Approx(std::exp(found.mean_nll)));
}

TEST_CASE("perplexity: nothing to predict, foreign tokens and cancelling are errors; progress reaches the end") {
  auto const model = open_stories();
  if (!model) return;
  CHECK(perplexity(model->net, model->words, "").error().code == errc::missing);
  std::vector<std::vector<int>> sequences{{1}};
  CHECK(perplexity(model->net, sequences).error().code == errc::missing);
  sequences = {{1, 5}, {1, 512}};
  CHECK_THAT(perplexity(model->net, sequences).error().message(), ContainsSubstring("512"));
  sequences = {{1, 5, 6}, {1, 7}};
  auto stop = [](std::string_view, index_t done, index_t) { return done >= 3; };
  CHECK(perplexity(model->net, sequences, progress(stop)).error().code == errc::cancelled);
  std::vector<index_t> heard;
  auto listen = [&](std::string_view, index_t done, index_t all) {
    CHECK(all == 3);
    heard.push_back(done);
    return true;
  };
  CHECK(perplexity(model->net, sequences, progress(listen)).value().tokens == 3);
  CHECK(heard == std::vector<index_t>{2, 3});
}

TEST_CASE("negative_log_likelihood: stays exact for large and for far logits") {
  std::vector<float> const logits{1000.0f, 1001.0f, -1000.0f};
  CHECK(negative_log_likelihood(logits, 0) == Approx(1.0 + std::log1p(std::exp(-1.0))).epsilon(1e-6));
  CHECK(negative_log_likelihood(logits, 2) == Approx(2001.0 + std::log1p(std::exp(-1.0))).epsilon(1e-6));
}

TEST_CASE("accuracy: counts the largest logit, the first of equal ones, whatever the batch") {
  auto const net = load<mlp>(one_layer({1, 0, 0, 1, 0, 1})).value();  // logits (x, y, y)
  std::vector<float> const inputs{2, 1, 1, 2, 3, 3, 0, 1, 5, 4};
  std::vector<std::uint8_t> const labels{0, 1, 0, 2, 1};
  for (index_t const batch : {1, 2, 5, 100}) {
    auto const found = accuracy(net, matrix_span<float const>(inputs.data(), 5, 2), labels, batch).value();
    CHECK(found.accuracy == Approx(0.6));
    CHECK(found.count == 5);
  }
}

TEST_CASE("accuracy: sizes, labels and logits that are wrong are named, and it can be cancelled") {
  auto const net = load<mlp>(one_layer({1, 0, 0, 1, 0, 1})).value();
  std::vector<float> inputs{2, 1, 1, 2};
  std::vector<std::uint8_t> labels{0, 1};
  matrix_span<float const> const x(inputs.data(), 2, 2);
  CHECK(accuracy(net, x.row_range(0, 0), labels).error().code == errc::missing);
  CHECK(accuracy(net, x.row_range(0, 1), labels).error().where == "labels");
  CHECK(accuracy(net, x.col_range(0, 1), labels).error().where == "inputs");
  auto stop = [](std::string_view, index_t, index_t) { return false; };
  CHECK(accuracy(net, x, labels, 1, progress(stop)).error().code == errc::cancelled);
  inputs[2] = std::numeric_limits<float>::infinity();
  CHECK_THAT(accuracy(net, x, labels).error().message(), ContainsSubstring("input 1"));
  labels[1] = 3;
  CHECK_THAT(accuracy(net, x, labels).error().message(), ContainsSubstring("below 3, found 3"));
}
