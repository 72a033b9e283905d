// SPDX-License-Identifier: Apache-2.0
// Runs a network over a whole data set and back, for what gradient taps see: calibration of gradient statistics.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <pare/core/progress.hpp>
#include <pare/nn/backward.hpp>
#include <pare/nn/feed.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// Tells the tap that a sample of so many positions is over, where it wants to know.
template <class Tap>
void close_sample(Tap& tap, index_t positions) {
  if constexpr (requires { tap.close(positions); }) tap.close(positions);
}
}  // namespace detail

/// The gradients of a language model's loss on sequences of tokens, each of which starts with BOS. A sample is a
/// sequence, or a window of one that is longer than the context (cut as perplexity cuts it); its loss is the *sum* of
/// -ln p over its predicted tokens, and `tap.close(predicted tokens)` ends it. Returns the mean loss of a token.
/// Errors: no token to predict; tokens outside the vocabulary; logits that are not finite; cancelled.
template <gradient_tap Tap>
[[nodiscard]] result<double> feed_gradients(llama const& net, std::span<std::vector<int> const> sequences, Tap&& tap,
                                            progress report = {}) {
  PARE_TRY(auto const windows, detail::windows_of(net, sequences));
  auto const [per_window, all, longest] = windows;
  llama_tape tape(net, longest + 1);
  matrix<float> logits(longest + 1, net.config().vocab_size);
  std::vector<int> window;
  double total = 0.0;
  index_t done = 0;
  for (std::vector<int> const& s : sequences)
    for (index_t first = 1; first < std::ssize(s); first += per_window) {
      index_t const count = std::min(per_window, std::ssize(s) - first);
      window.assign(1, s.front());
      window.insert(window.end(), s.begin() + first, s.begin() + first + count);
      PARE_TRY_VOID(tape.forward(window));
      auto const out = logits.span().row_range(0, count + 1);
      tape.logits(out);
      PARE_TRY(double const loss, next_token(window, reduction::sum)(out, index_t{0}));
      tape.backward_logits(out, tap);
      detail::close_sample(tap, count);
      total += loss;
      done += count;
      if (!report("gradients", done, all)) return error{errc::cancelled, "gradients", "cancelled"};
    }
  return total / static_cast<double>(all);
}

/// The gradients of InfoNCE (see backward of text_triplets), `batch` triplets at once, which are a sample each.
/// `negatives` may be empty. Returns the mean loss. Errors: those of backward; fewer than two triplets; cancelled.
template <gradient_tap Tap>
[[nodiscard]] result<double> feed_gradients(llama const& net, text_triplets const& texts, Tap&& tap, index_t batch,
                                            info_nce_options const& options = {}, progress report = {}) {
  index_t const all = std::ssize(texts.queries);
  bool const hard = !texts.negatives.empty();
  if (all < 2 || std::ssize(texts.positives) != all || (hard && std::ssize(texts.negatives) != all))
    return error{errc::mismatch, "calibration triplets",
                 "expected at least 2 queries and as many positives and negatives (or no negatives), found " +
                     std::to_string(all) + ", " + std::to_string(texts.positives.size()) + " and " +
                     std::to_string(texts.negatives.size())};
  PARE_EXPECTS(batch >= 1, "feed_gradients: a batch must have at least one triplet");
  double total = 0.0;
  index_t batches = 0;
  for (index_t first = 0; first < all; first += batch) {
    auto const count = static_cast<std::size_t>(std::min(batch, all - first));
    auto const at = static_cast<std::size_t>(first);
    PARE_TRY(double const loss,
             backward(net,
                      text_triplets{texts.queries.subspan(at, count), texts.positives.subspan(at, count),
                                    hard ? texts.negatives.subspan(at, count) : texts.negatives},
                      options, tap));
    detail::close_sample(tap, 1);
    total += loss;
    ++batches;
    if (!report("gradients", first + static_cast<index_t>(count), all))
      return error{errc::cancelled, "gradients", "cancelled"};
  }
  return total / static_cast<double>(batches);
}

/// The gradients of a classifier's cross-entropy on images (N, inputs), as many labels: every image is a sample. A
/// perceptron takes 64 at once, whose columns are samples; other networks one at a time. Returns the mean loss.
/// Errors: no images, or of another size than the network takes; labels of another number or out of range; logits that
/// are not finite; cancelled.
template <class Network, class T, std::integral Label, gradient_tap Tap>
[[nodiscard]] result<double> feed_gradients(Network const& net, matrix_span<T> images, std::span<Label const> labels,
                                            Tap&& tap, progress report = {}) {
  if (images.rows == 0 || images.cols != net.input_size())
    return error{errc::mismatch, "calibration inputs",
                 "expected at least one, of " + std::to_string(net.input_size()) +
                     " values, which the network takes; found " + std::to_string(images.rows) + " x " +
                     std::to_string(images.cols)};
  if (std::ssize(labels) != images.rows)
    return error{
        errc::mismatch, "calibration labels",
        "expected " + std::to_string(images.rows) + ", one for each input, found " + std::to_string(labels.size())};
  constexpr index_t batch = columns_are_samples<Network> ? 64 : 1;
  auto tape = [&] {
    if constexpr (columns_are_samples<Network>) {
      return mlp_tape(net, batch);
    } else {
      return resnet_tape(net);
    }
  }();
  double total = 0.0;
  for (index_t first = 0; first < images.rows; first += batch) {
    index_t const count = std::min(batch, images.rows - first);
    cross_entropy<Label> const loss(labels.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
                                    reduction::sum);
    PARE_TRY(double const value, tape.backward(images.row_range(first, count), loss, tap));
    if constexpr (!columns_are_samples<Network>) detail::close_sample(tap, 1);
    total += value;
    if (!report("gradients", first + count, images.rows)) return error{errc::cancelled, "gradients", "cancelled"};
  }
  return total / static_cast<double>(images.rows);
}

}  // namespace pare::inline PARE_ABI
