// SPDX-License-Identifier: Apache-2.0
#include "support/model.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <type_traits>
#include <utility>

#include <pare/allocate/erk.hpp>
#include <pare/allocate/global.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/feed.hpp>
#include <pare/prune/alps.hpp>
#include <pare/prune/sparse_gpt.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/ria.hpp>
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

/// Runs the data through a network for what `tap` sees.
template <class Net, class Tap>
result<void> feed_data(model const& m, Net const& net, data_set const& data, index_t chunk, Tap& tap, progress report) {
  if constexpr (std::same_as<Net, llama>) {
    auto const* const text = std::get_if<std::string>(&data);
    if (text == nullptr)
      return error{errc::mismatch, m.path.string(), "this is a language model: it is calibrated on a text"};
    PARE_TRY(auto const sequences, encode_chunks(*m.words, *text, chunk));
    return feed(net, sequences, tap, report);
  } else {
    auto const* const set = std::get_if<labelled_images>(&data);
    if (set == nullptr)
      return error{errc::mismatch, m.path.string(), "this is a classifier: it is calibrated on images"};
    return feed(net, set->images.span(), tap, report);
  }
}

}  // namespace

result<input_statistics> calibrate(model const& m, data_set const& data, index_t chunk, progress report) {
  return std::visit(
      [&](auto const& net) -> result<input_statistics> {
        input_statistics stats(net);
        PARE_TRY_VOID(feed_data(m, net, data, chunk, stats, report));
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

/// Stage by stage, by an allocation that looks at shapes only.
template <network Net, layer_pruner P>
result<std::vector<pruned_layer>> prune_stages(model const& m, Net& net, P const& method, prune_request const& r,
                                               data_set const& data) {
  auto const run = [&](auto const& allocator) -> result<std::vector<pruned_layer>> {
    PARE_TRY(auto const shares, share_out(net, r.what.pattern, r.what.target, allocator, r.settings));
    auto const feed = [&](Net const& n, auto& tap) { return feed_data(m, n, data, r.chunk, tap, r.settings.progress); };
    return prune_in_stages(net, method, r.what.pattern, shares, feed, r.stream, r.settings);
  };
  if (r.allocation == "uniform") return run(uniform{});
  if (r.allocation == "erk") return run(erk{});
  return error{errc::unsupported, "allocation '" + r.allocation + "'",
               "expected uniform or erk: " + r.method + " gives no scores that could be compared between layers"};
}

error unknown_method(std::string const& name) {
  std::string known;
  for (std::string_view const m : method_names) known += (known.empty() ? "" : ", ") + std::string(m);
  return {errc::unsupported, "method '" + name + "'", "expected one of " + known};
}

}  // namespace

result<std::vector<pruned_layer>> prune(model& m, prune_request const& r, input_statistics const* stats) {
  return std::visit(
      [&](auto& net) -> result<std::vector<pruned_layer>> {
        if (r.method == "magnitude") return prune_with(net, magnitude{}, r, calibration<magnitude::needs>(net));
        if (r.method == "random")
          return prune_with(net, random_score{r.seed}, r, calibration<random_score::needs>(net));
        if (stats == nullptr && needs_data(r.method))
          return error{errc::missing, "method '" + r.method + "'", "it needs calibration data: pass --calib"};
        if (r.method == "wanda") return prune_with(net, wanda{}, r, *stats);
        if (r.method == "ria") return prune_with(net, ria{}, r, *stats);
        return unknown_method(r.method);
      },
      m.network);
}

result<std::vector<pruned_layer>> prune(model& m, prune_request const& r, data_set const* data) {
  if (!needs_data(r.method)) return prune(m, r, static_cast<input_statistics const*>(nullptr));
  if (std::find(std::begin(method_names), std::end(method_names), r.method) == std::end(method_names))
    return unknown_method(r.method);
  if (data == nullptr)
    return error{errc::missing, "method '" + r.method + "'", "it needs calibration data: pass --calib"};
  bool const scores = r.method == "wanda" || r.method == "ria";
  if (scores && r.allocation == "global") {
    PARE_TRY(auto const stats, calibrate(m, *data, r.chunk, r.settings.progress));
    return prune(m, r, &stats);
  }
  return std::visit(
      [&](auto& net) {
        if (r.method == "wanda") return prune_stages(m, net, select_by<wanda>{}, r, *data);
        if (r.method == "ria") return prune_stages(m, net, select_by<ria>{}, r, *data);
        if (r.method == "alps") return prune_stages(m, net, alps{}, r, *data);
        bool const by_rows = r.method == "sparsegpt-row";
        return prune_stages(m, net, sparse_gpt{.compares = by_rows ? sparse_gpt::pool::row : sparse_gpt::pool::block},
                            r, *data);
      },
      m.network);
}

}  // namespace pare::program
