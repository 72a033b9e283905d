// SPDX-License-Identifier: Apache-2.0
// Runs a network over a whole data set for what its taps see: calibration.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>
#include <pare/nn/linear.hpp>
#include <pare/nn/llama.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// How sequences that start with BOS are cut: into windows of at most so many predicted tokens.
struct token_windows {
  index_t per_window = 0;
  index_t all = 0;      // predicted tokens
  index_t longest = 0;  // predicted tokens of the longest window
};
/// Error: no token to predict.
inline result<token_windows> windows_of(llama const& net, std::span<std::vector<int> const> sequences) {
  token_windows w{std::max<index_t>(net.config().max_positions - 1, 1)};
  for (std::vector<int> const& s : sequences) {
    w.all += std::max<index_t>(std::ssize(s) - 1, 0);
    w.longest = std::max(w.longest, std::min(std::ssize(s) - 1, w.per_window));
  }
  if (w.all == 0) return error{errc::missing, "calibration text", "expected at least one token to predict, found none"};
  return w;
}

/// visit(window, done) -> result<void> with the tokens of every window: BOS, and what predicts the rest of it.
/// `done` counts the predicted tokens, this window's included.
template <class Visit>
result<void> for_each_window(std::span<std::vector<int> const> sequences, index_t per_window, Visit&& visit) {
  std::vector<int> window;
  index_t done = 0;
  for (std::vector<int> const& s : sequences)
    for (index_t first = 1; first < std::ssize(s); first += per_window) {
      index_t const count = std::min(per_window, std::ssize(s) - first);
      window.assign(1, s.front());
      window.insert(window.end(), s.begin() + first, s.begin() + first + count - 1);
      done += count;
      PARE_TRY_VOID(visit(std::span<int const>(window), done));
    }
  return {};
}

/// Errors where inputs (N, K) of a classifier are not what it takes.
template <class Network>
result<void> require_inputs(Network const& net, matrix_span<float const> inputs) {
  if (inputs.rows > 0 && inputs.cols == net.input_size()) return {};
  return error{errc::mismatch, "calibration inputs",
               "expected at least one, of " + std::to_string(net.input_size()) +
                   " values, which the network takes; found " + std::to_string(inputs.rows) + " x " +
                   std::to_string(inputs.cols)};
}
inline constexpr index_t inputs_at_once = 64;  // of a classifier
}  // namespace detail

/// Runs a language model over sequences of tokens, each of which starts with BOS; what is longer than the context is
/// cut into windows that start with BOS again, as perplexity does. The output layer sees the last position of a window
/// only, all other layers see every position but a sequence's last token, which predicts nothing.
/// Errors: no token to predict from; tokens outside the vocabulary; cancelled.
template <class Tap>
[[nodiscard]] result<void> feed(llama const& net, std::span<std::vector<int> const> sequences, Tap&& tap,
                                progress report = {}) {
  PARE_TRY(auto const windows, detail::windows_of(net, sequences));
  llama_session session(net, windows.longest);
  matrix<float> logits(1, net.config().vocab_size);
  return detail::for_each_window(sequences, windows.per_window,
                                 [&](std::span<int const> window, index_t done) -> result<void> {
                                   session.reset();
                                   PARE_TRY_VOID(session.forward(window, logits.span(), tap));
                                   if (report("calibrate", done, windows.all)) return {};
                                   return error{errc::cancelled, "calibrate", "cancelled"};
                                 });
}

/// Runs a classifier over inputs (N, K) as its forward() takes them, 64 at once.
/// Errors: no inputs, or of another size than the network takes; cancelled.
template <class Network, class Tap>
[[nodiscard]] result<void> feed(Network const& net, matrix_span<float const> inputs, Tap&& tap, progress report = {}) {
  PARE_TRY_VOID(detail::require_inputs(net, inputs));
  constexpr index_t batch = detail::inputs_at_once;
  matrix<float> logits(batch, net.classes());
  for (index_t first = 0; first < inputs.rows; first += batch) {
    index_t const count = std::min(batch, inputs.rows - first);
    net.forward(inputs.row_range(first, count), logits.span().row_range(0, count), tap);
    if (!report("calibrate", first + count, inputs.rows)) return error{errc::cancelled, "calibrate", "cancelled"};
  }
  return {};
}

}  // namespace pare::inline PARE_ABI
