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
}  // namespace detail

/// Runs a language model over sequences of tokens, each of which starts with BOS; what is longer than the context is
/// cut into windows that start with BOS again, as perplexity does. The output layer sees the last position of a window
/// only, all other layers see every position but a sequence's last token, which predicts nothing.
/// Errors: no token to predict from; tokens outside the vocabulary; cancelled.
template <class Tap>
[[nodiscard]] result<void> feed(llama const& net, std::span<std::vector<int> const> sequences, Tap&& tap,
                                progress report = {}) {
  PARE_TRY(auto const windows, detail::windows_of(net, sequences));
  auto const [per_window, all, longest] = windows;
  llama_session session(net, longest);
  matrix<float> logits(1, net.config().vocab_size);
  std::vector<int> window;
  index_t done = 0;
  for (std::vector<int> const& s : sequences)
    for (index_t first = 1; first < std::ssize(s); first += per_window) {
      index_t const count = std::min(per_window, std::ssize(s) - first);
      window.assign(1, s.front());
      window.insert(window.end(), s.begin() + first, s.begin() + first + count - 1);
      session.reset();
      PARE_TRY_VOID(session.forward(window, logits.span(), tap));
      done += count;
      if (!report("calibrate", done, all)) return error{errc::cancelled, "calibrate", "cancelled"};
    }
  return {};
}

/// Runs a classifier over inputs (N, K) as its forward() takes them, 64 at once.
/// Errors: no inputs, or of another size than the network takes; cancelled.
template <class Network, class Tap>
[[nodiscard]] result<void> feed(Network const& net, matrix_span<float const> inputs, Tap&& tap, progress report = {}) {
  if (inputs.rows == 0 || inputs.cols != net.input_size())
    return error{errc::mismatch, "calibration inputs",
                 "expected at least one, of " + std::to_string(net.input_size()) +
                     " values, which the network takes; found " + std::to_string(inputs.rows) + " x " +
                     std::to_string(inputs.cols)};
  constexpr index_t batch = 64;
  matrix<float> logits(batch, net.classes());
  for (index_t first = 0; first < inputs.rows; first += batch) {
    index_t const count = std::min(batch, inputs.rows - first);
    net.forward(inputs.row_range(first, count), logits.span().row_range(0, count), tap);
    if (!report("calibrate", first + count, inputs.rows)) return error{errc::cancelled, "calibrate", "cancelled"};
  }
  return {};
}

}  // namespace pare::inline PARE_ABI
