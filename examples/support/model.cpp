// SPDX-License-Identifier: Apache-2.0
#include "support/model.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include <pare/allocate/erk.hpp>
#include <pare/allocate/global.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/wanda.hpp>

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

result<evaluation> evaluate(model const& m, data_set const& data, index_t chunk, index_t batch, progress report) {
  return std::visit(
      [&]<class Net>(Net const& net) -> result<evaluation> {
        if constexpr (std::same_as<Net, llama>) {
          auto const* const text = std::get_if<std::string>(&data);
          if (text == nullptr)
            return error{errc::mismatch, m.path.string(),
                         "this is a language model: it is evaluated on a text (--text FILE)"};
          PARE_TRY(auto const r, perplexity(net, *m.words, *text, {.chunk_bytes = chunk, .report = report}));
          return evaluation{true, r.perplexity, r.tokens, r.windows, r.seconds};
        } else {
          auto const* const set = std::get_if<labelled_images>(&data);
          if (set == nullptr)
            return error{errc::mismatch, m.path.string(),
                         "this is a classifier: it is evaluated on images (--data SOURCE)"};
          PARE_TRY(auto const r, accuracy(net, set->images.span(), set->labels, batch, report));
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

namespace {

result<void> run_on_text(llama const& net, tokenizer const& words, std::string const& text, input_statistics& stats,
                         progress report) {
  PARE_TRY(auto const tokens, words.encode(text));  // BOS first
  auto const window = static_cast<std::size_t>(net.config().max_positions - 1);
  std::vector<int> piece;
  for (std::size_t first = 1; first < tokens.size(); first += window) {
    auto const count = std::min(window, tokens.size() - first);
    piece.assign(1, tokens.front());
    piece.insert(piece.end(), tokens.begin() + static_cast<index_t>(first),
                 tokens.begin() + static_cast<index_t>(first + count));
    llama_session session(net, std::ssize(piece));
    matrix<float> logits(1,
                         net.config().vocab_size);  // only the states before it matter; the output layer sees the last
    PARE_TRY_VOID(session.forward(piece, logits.span(), stats));
    if (!report("calibrate", static_cast<index_t>(first + count), std::ssize(tokens)))
      return error{errc::cancelled, "calibrate", "cancelled"};
  }
  return {};
}

template <class Net>
result<void> run_on_images(Net const& net, labelled_images const& set, input_statistics& stats, progress report) {
  if (set.images.cols() != net.input_size())
    return error{errc::mismatch, "calibration images",
                 "expected " + std::to_string(net.input_size()) + " values each, which the network takes, found " +
                     std::to_string(set.images.cols())};
  constexpr index_t batch = 64;
  matrix<float> logits(batch, net.classes());
  for (index_t first = 0; first < set.images.rows(); first += batch) {
    index_t const count = std::min(batch, set.images.rows() - first);
    net.forward(set.images.span().row_range(first, count), logits.span().row_range(0, count), stats);
    if (!report("calibrate", first + count, set.images.rows())) return error{errc::cancelled, "calibrate", "cancelled"};
  }
  return {};
}

}  // namespace

result<input_statistics> calibrate(model const& m, data_set const& data, progress report) {
  return std::visit(
      [&]<class Net>(Net const& net) -> result<input_statistics> {
        input_statistics stats(net);
        if constexpr (std::same_as<Net, llama>) {
          auto const* const text = std::get_if<std::string>(&data);
          if (text == nullptr)
            return error{errc::mismatch, m.path.string(), "this is a language model: it is calibrated on a text"};
          PARE_TRY_VOID(run_on_text(net, *m.words, *text, stats, report));
        } else {
          auto const* const set = std::get_if<labelled_images>(&data);
          if (set == nullptr)
            return error{errc::mismatch, m.path.string(), "this is a classifier: it is calibrated on images"};
          PARE_TRY_VOID(run_on_images(net, *set, stats, report));
        }
        return stats;
      },
      m.network);
}

namespace {

template <network Net, criterion C>
result<std::vector<pruned_layer>> prune_with(Net& net, C const& method, prune_request const& r,
                                             calibration<typename C::needs> const& stats) {
  auto const run = [&](auto const& allocator) {
    return pare::prune(net, method, r.what.pattern, r.what.target, stats, allocator, r.settings);
  };
  if (r.allocation == "uniform") return run(uniform{});
  if (r.allocation == "global") return run(global{});
  if (r.allocation == "erk") return run(erk{});
  return error{errc::unsupported, "allocation '" + r.allocation + "'", "expected uniform, global or erk"};
}

}  // namespace

result<std::vector<pruned_layer>> prune(model& m, prune_request const& r, input_statistics const* stats) {
  return std::visit(
      [&](auto& net) -> result<std::vector<pruned_layer>> {
        if (r.method == "magnitude") return prune_with(net, magnitude{}, r, calibration<magnitude::needs>(net));
        if (r.method == "random")
          return prune_with(net, random_score{r.seed}, r, calibration<random_score::needs>(net));
        if (r.method == "wanda") {
          if (stats == nullptr)
            return error{errc::missing, "method 'wanda'", "it needs calibration data: pass --calib"};
          return prune_with(net, wanda{}, r, *stats);
        }
        return error{errc::unsupported, "method '" + r.method + "'", "expected magnitude, wanda or random"};
      },
      m.network);
}

}  // namespace pare::program
