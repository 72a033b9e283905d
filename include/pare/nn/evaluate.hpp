// SPDX-License-Identifier: Apache-2.0
// How good a network is: perplexity of a language model on a text, accuracy of a classifier on images.
//
// Perplexity is exp of the mean of -ln p over every token but BOS, each predicted exactly once. What is longer than
// the context is cut into windows of at most max_position_embeddings tokens, BOS included, and every window starts
// with BOS again: positions and attention restart there.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>
#include <pare/io/tokenizer.hpp>
#include <pare/nn/llama.hpp>
#include <pare/nn/loss.hpp>
#include <pare/core/reduce.hpp>

namespace pare::inline PARE_ABI {

struct perplexity_options {
  index_t chunk_bytes = 0;  // cut the text into chunks of that many bytes, each encoded on its own; 0 = do not cut
  progress report{};        // told predicted tokens of all tokens
};

struct perplexity_report {
  double perplexity = 0;
  double mean_nll = 0;  // nats per token
  index_t tokens = 0;   // predicted ones
  index_t windows = 0;
  double seconds = 0;
};

struct accuracy_report {
  double accuracy = 0;  // in [0, 1]
  index_t count = 0;
  double seconds = 0;
};

namespace detail {
/// Seconds since it was made.
class stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// The summed -ln p of all tokens of a window but its first. logits: (a number of rows, vocab) to work in.
inline result<double> window_nll(llama_session& session, std::span<int const> window, matrix<float>& logits) {
  session.reset();
  index_t const predicted = std::ssize(window) - 1;
  auto const at = [&](index_t i) { return window[static_cast<std::size_t>(i)]; };
  double total = 0;
  for (index_t first = 0; first < predicted; first += logits.rows()) {
    index_t const count = std::min(logits.rows(), predicted - first);
    auto const rows = logits.span().row_range(0, count);
    auto const tokens = window.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    PARE_TRY_VOID(session.forward(tokens, rows));
    for (index_t i = 0; i < count; ++i) {
      if (!all_finite(rows.row(i), rows.cols))
        return error{
            errc::not_finite, "logits",
            "expected finite logits, found NaN or Inf at position " + std::to_string(first + i) + " of a window"};
      total += negative_log_likelihood({rows.row(i), static_cast<std::size_t>(rows.cols)}, at(first + i + 1));
    }
  }
  return total;
}
}  // namespace detail

/// Perplexity on sequences of tokens, each of which starts with BOS (its first token, whatever it is).
/// Errors: nothing to predict; token ids outside the vocabulary; logits or a perplexity that are not finite; cancelled.
[[nodiscard]] inline result<perplexity_report> perplexity(llama const& net, std::span<std::vector<int> const> sequences,
                                                          progress report = {}) {
  detail::stopwatch const clock;
  index_t const per_window = net.config().max_positions - 1;
  if (per_window < 1)
    return error{errc::out_of_range, "key \"max_position_embeddings\"",
                 "expected at least 2 positions to predict a token from another, found 1"};
  index_t all = 0;
  index_t longest = 0;
  for (std::vector<int> const& s : sequences) {
    index_t const predicted = std::max<index_t>(std::ssize(s) - 1, 0);
    all += predicted;
    longest = std::max(longest, std::min(predicted, per_window));
    for (int const token : s)
      if (token < 0 || token >= net.config().vocab_size)
        return error{errc::out_of_range, "tokens",
                     "expected token ids below the network's vocabulary size " +
                         std::to_string(net.config().vocab_size) + ", found " + std::to_string(token)};
  }
  if (all == 0) return error{errc::missing, "text", "expected at least one token to predict, found none"};

  constexpr index_t rows_at_once = 256;  // bounds the memory for the logits of large vocabularies
  llama_session session(net, longest);
  matrix<float> logits(std::min(longest, rows_at_once), net.config().vocab_size);
  std::vector<int> window;
  perplexity_report out;
  double total = 0;
  for (std::vector<int> const& s : sequences) {
    for (index_t first = 1; first < std::ssize(s); first += per_window) {
      index_t const count = std::min(per_window, std::ssize(s) - first);
      window.assign(1, s.front());
      window.insert(window.end(), s.begin() + first, s.begin() + first + count);
      PARE_TRY(auto const nll, detail::window_nll(session, window, logits));
      total += nll;
      out.tokens += count;
      ++out.windows;
      if (!report("perplexity", out.tokens, all))
        return error{errc::cancelled, "perplexity",
                     "stopped after " + std::to_string(out.tokens) + " of " + std::to_string(all) + " tokens"};
    }
  }
  out.mean_nll = total / static_cast<double>(out.tokens);
  out.perplexity = std::exp(out.mean_nll);
  if (!std::isfinite(out.perplexity))
    return error{errc::not_finite, "perplexity",
                 "expected a finite number, found exp of a mean loss of " + std::to_string(out.mean_nll) +
                     " nats: the network predicts this text as good as impossible"};
  out.seconds = clock.seconds();
  return out;
}

/// A text as sequences of tokens: chunks of so many bytes (0: the text as a whole), each encoded on its own and started
/// by BOS. Pre: chunk_bytes >= 0. Errors: an empty text; text that the tokenizer cannot encode.
[[nodiscard]] inline result<std::vector<std::vector<int>>> encode_chunks(tokenizer const& words, std::string_view text,
                                                                         index_t chunk_bytes) {
  PARE_EXPECTS(chunk_bytes >= 0, "encode_chunks: chunk_bytes must not be negative");
  if (text.empty()) return error{errc::missing, "text", "expected text to predict, found an empty one"};
  std::size_t const step = chunk_bytes > 0 ? static_cast<std::size_t>(chunk_bytes) : text.size();
  std::vector<std::vector<int>> sequences;
  for (std::size_t first = 0; first < text.size(); first += step) {
    auto tokens = words.encode(text.substr(first, step));
    if (!tokens) return in("text from byte " + std::to_string(first), std::move(tokens.error()));
    sequences.push_back(*std::move(tokens));
  }
  return sequences;
}

/// Perplexity on a text. Errors: those of encode_chunks, and those above. Pre: chunk_bytes >= 0.
[[nodiscard]] inline result<perplexity_report> perplexity(llama const& net, tokenizer const& words,
                                                          std::string_view text, perplexity_options options = {}) {
  PARE_TRY(auto const sequences, encode_chunks(words, text, options.chunk_bytes));
  return perplexity(net, sequences, options.report);
}

/// Fraction of inputs whose largest logit is that of their label (the first of equal ones). Network: resnet or mlp.
/// inputs (N, K) as its forward() takes them; labels: N class numbers; `batch` inputs go through at once.
/// Pre: batch > 0. Errors: no inputs, sizes that do not match, labels outside the classes, logits that are not
/// finite, cancelled.
template <class Network, class T>
[[nodiscard]] result<accuracy_report> accuracy(Network const& net, matrix_span<T> inputs,
                                               std::span<std::uint8_t const> labels, index_t batch = 64,
                                               progress report = {}) {
  PARE_EXPECTS(batch > 0, "accuracy: the batch must not be empty");
  detail::stopwatch const clock;
  if (inputs.rows == 0) return error{errc::missing, "inputs", "expected at least one input, found none"};
  if (std::ssize(labels) != inputs.rows)
    return error{
        errc::mismatch, "labels",
        "expected " + std::to_string(inputs.rows) + ", one for each input, found " + std::to_string(labels.size())};
  if (inputs.cols != net.input_size())
    return error{errc::mismatch, "inputs",
                 "expected " + std::to_string(net.input_size()) + " values each, which the network takes, found " +
                     std::to_string(inputs.cols)};
  for (std::uint8_t const label : labels)
    if (label >= net.classes())
      return error{errc::out_of_range, "labels",
                   "expected classes below " + std::to_string(net.classes()) + ", found " + std::to_string(label)};

  matrix<float> logits(std::min(batch, inputs.rows), net.classes());
  index_t right = 0;
  for (index_t first = 0; first < inputs.rows; first += batch) {
    index_t const count = std::min(batch, inputs.rows - first);
    net.forward(inputs.row_range(first, count), logits.span().row_range(0, count));
    for (index_t i = 0; i < count; ++i) {
      if (!all_finite(logits.row(i), logits.cols()))
        return error{errc::not_finite, "logits",
                     "expected finite logits, found NaN or Inf for input " + std::to_string(first + i)};
      right += argmax(logits.row(i), logits.cols()) == labels[static_cast<std::size_t>(first + i)] ? 1 : 0;
    }
    if (!report("accuracy", first + count, inputs.rows))
      return error{errc::cancelled, "accuracy",
                   "stopped after " + std::to_string(first + count) + " of " + std::to_string(inputs.rows) + " inputs"};
  }
  return accuracy_report{static_cast<double>(right) / static_cast<double>(inputs.rows), inputs.rows, clock.seconds()};
}

}  // namespace pare::inline PARE_ABI
