// SPDX-License-Identifier: Apache-2.0
#include "support/model.hpp"

#include <cmath>
#include <utility>

#include <pare/io/checkpoint.hpp>
#include <pare/nn/evaluate.hpp>

namespace pare::program {

namespace fs = std::filesystem;

result<model> load_model(fs::path const& path) {
  PARE_TRY(auto const file, checkpoint::open(path));
  auto network = load_network(file);
  if (!network) return in(path.string(), std::move(network.error()));
  model m{path, *std::move(network), {}, {}};
  if (auto const* const net = std::get_if<llama>(&m.network)) {
    fs::path const folder = fs::is_directory(path) ? path : path.parent_path();
    fs::path const words = folder / "tokenizer.bin";
    if (!fs::exists(words))
      return error{errc::missing, folder.string(), "a language model needs its tokenizer.bin beside the weights"};
    PARE_TRY(m.words, tokenizer::open(words, net->config().vocab_size));
  }
  if (auto const* const net = std::get_if<mlp>(&m.network)) m.task = net->config().task;
  return m;
}

result<void> check_data(model const& m, data_set const& data) {
  return std::visit(
      [&]<class Net>(Net const& net) -> result<void> {
        if constexpr (std::same_as<Net, llama>) {
          if (!std::holds_alternative<std::string>(data))
            return error{errc::mismatch, m.path.string(),
                         "this is a language model: it is evaluated on a text (--text FILE)"};
        } else {
          auto const* const set = std::get_if<labelled_images>(&data);
          if (set == nullptr)
            return error{errc::mismatch, m.path.string(),
                         "this is a classifier: it is evaluated on images (--data SOURCE)"};
          if (set->images.cols() != net.input_size())
            return error{errc::mismatch, m.path.string(),
                         "takes images of " + std::to_string(net.input_size()) + " values, found some of " +
                             std::to_string(set->images.cols())};
        }
        return {};
      },
      m.network);
}

result<evaluation> evaluate(model const& m, data_set const& data, index_t chunk, index_t batch, progress report) {
  PARE_TRY_VOID(check_data(m, data));
  return std::visit(
      [&]<class Net>(Net const& net) -> result<evaluation> {
        if constexpr (std::same_as<Net, llama>) {
          PARE_TRY(auto const r,
                   perplexity(net, *m.words, std::get<std::string>(data), {.chunk_bytes = chunk, .report = report}));
          return evaluation{true, r.perplexity, r.tokens, r.windows, r.seconds};
        } else {
          auto const& set = std::get<labelled_images>(data);
          PARE_TRY(auto const r, accuracy(net, set.images.span(), set.labels, batch, report));
          return evaluation{false, r.accuracy, r.count, 0, r.seconds};
        }
      },
      m.network);
}

result<double> compare_logits(model const& m, data_set const& data, std::vector<int> const& tokens,
                              matrix_span<float const> reference) {
  matrix<float> logits(reference.shape());
  result<void> const run = std::visit(
      [&]<class Net>(Net const& net) -> result<void> {
        auto const expect = [&](index_t rows, index_t outputs) -> result<void> {
          if (reference.rows >= 1 && reference.rows <= rows && reference.cols == outputs) return {};
          return error{errc::mismatch, "reference logits",
                       "expected at most " + std::to_string(rows) + " rows of " + std::to_string(outputs) + ", found " +
                           std::to_string(reference.rows) + " x " + std::to_string(reference.cols)};
        };
        if constexpr (std::same_as<Net, llama>) {
          if (tokens.empty()) return error{errc::missing, "options", "a language model needs --tokens with --logits"};
          PARE_TRY_VOID(expect(std::ssize(tokens), net.config().vocab_size));
          if (std::ssize(tokens) != reference.rows || std::ssize(tokens) > net.config().max_positions)
            return error{errc::mismatch, "tokens",
                         "expected one row of logits for each, and at most " +
                             std::to_string(net.config().max_positions) + ", found " + std::to_string(tokens.size())};
          llama_session session(net, std::ssize(tokens));
          PARE_TRY_VOID(session.forward(tokens, logits.span()));
        } else {
          auto const* const set = std::get_if<labelled_images>(&data);
          if (set == nullptr || set->images.cols() != net.input_size())
            return error{errc::mismatch, "data", "reference logits of a classifier need its images: pass --data"};
          PARE_TRY_VOID(expect(set->images.rows(), net.classes()));
          net.forward(set->images.span().row_range(0, reference.rows), logits.span());
        }
        return {};
      },
      m.network);
  if (!run) return run.error();
  double most = 0.0;
  for (index_t r = 0; r < reference.rows; ++r)
    for (index_t c = 0; c < reference.cols; ++c) {
      double const d = std::abs(static_cast<double>(logits(r, c)) - static_cast<double>(reference(r, c)));
      if (!(d <= most)) most = d;  // NaN is kept
    }
  return most;
}

}  // namespace pare::program
