// SPDX-License-Identifier: Apache-2.0
// How far a network's outputs are from those of another: what a search over pruned networks minimises.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/reduce.hpp>
#include <pare/core/result.hpp>
#include <pare/nn/activation.hpp>
#include <pare/nn/feed.hpp>
#include <pare/nn/llama.hpp>
#include <pare/nn/loss.hpp>

namespace pare::inline PARE_ABI {

/// The mean over positions (of a classifier: images) of the Kullback-Leibler divergence KL(p || q) in nats, where p is
/// the softmax of the reference's logits, kept since construction, and q that of the network asked about.
///
/// Net: llama, resnet or mlp. A sample is a window of tokens, or an image. Memory: the samples, and one float for each
/// position and output. A pruned network's loss is not asked, so labels are not needed.
template <class Net>
class output_divergence {
  static constexpr bool is_text = std::same_as<Net, llama>;

 public:
  /// Sequences of tokens, which are cut into windows as feed() cuts them; images (N, inputs).
  using data = std::conditional_t<is_text, std::span<std::vector<int> const>, matrix_span<float const>>;

  /// Runs the reference. Errors: those of feed(); logits that are not finite; cancelled.
  [[nodiscard]] static result<output_divergence> from(Net const& reference, data samples, progress report = {}) {
    output_divergence out;
    PARE_TRY_VOID(out.take(reference, samples));
    index_t rows = 0;
    for (index_t s = 0; s < out.samples(); ++s) rows += out.positions_of(s);
    out.negative_entropy_.reserve(static_cast<std::size_t>(rows));
    auto const keep = [&](matrix_span<float> logits, index_t first) -> result<void> {
      if (out.probabilities_.rows() == 0) out.probabilities_ = matrix<float>(rows, logits.cols);
      for (index_t i = 0; i < logits.rows; ++i) out.keep_row(logits.row(i), out.probabilities_.row(first + i));
      if (!report("dense outputs", first + logits.rows, rows))
        return error{errc::cancelled, "dense outputs", "cancelled"};
      return {};
    };
    PARE_TRY_VOID(out.each_output(reference, out.samples(), keep));
    return out;
  }

  [[nodiscard]] index_t samples() const noexcept {
    if constexpr (is_text) {
      return std::ssize(samples_);
    } else {
      return samples_.rows();
    }
  }

  /// Of a network of the same shape, on the first `samples` samples. Costs a forward pass, with all logits.
  /// Pre: 1 <= samples <= samples(). Error: logits that are not finite.
  [[nodiscard]] result<double> operator()(Net const& net, index_t samples) const {
    PARE_EXPECTS(1 <= samples && samples <= this->samples(), "output_divergence: there are not so many samples");
    double total = 0.0;
    index_t count = 0;
    auto const add = [&](matrix_span<float> logits, index_t first) -> result<void> {
      PARE_EXPECTS(logits.cols == probabilities_.cols(), "output_divergence: the network is of another shape");
      for (index_t i = 0; i < logits.rows; ++i) total += row_divergence(logits.row(i), first + i);
      count += logits.rows;
      return {};
    };
    PARE_TRY_VOID(each_output(net, samples, add));
    return total / static_cast<double>(count);
  }

 private:
  output_divergence() = default;

  [[nodiscard]] result<void> take(Net const& net, data samples) {
    if constexpr (is_text) {
      PARE_TRY(auto const windows, detail::windows_of(net, samples));
      for (std::vector<int> const& s : samples)
        for (index_t first = 1; first < std::ssize(s); first += windows.per_window) {
          index_t const count = std::min(windows.per_window, std::ssize(s) - first);
          std::vector<int> window(1, s.front());
          window.insert(window.end(), s.begin() + first, s.begin() + first + count - 1);
          samples_.push_back(std::move(window));
        }
    } else {
      if (samples.rows == 0 || samples.cols != net.input_size())
        return error{errc::mismatch, "inputs",
                     "expected at least one, of " + std::to_string(net.input_size()) +
                         " values, which the network takes; found " + std::to_string(samples.rows) + " x " +
                         std::to_string(samples.cols)};
      samples_ = matrix<float>(samples);
    }
    return {};
  }

  [[nodiscard]] index_t positions_of(index_t sample) const noexcept {
    if constexpr (is_text) {
      return std::ssize(samples_[static_cast<std::size_t>(sample)]);
    } else {
      return 1;
    }
  }

  /// Calls use(logits, number of their first row) until the first `samples` samples are through.
  template <class Use>
  [[nodiscard]] result<void> each_output(Net const& net, index_t samples, Use const& use) const {
    index_t row = 0;
    auto const pass_on = [&](matrix_span<float> logits) -> result<void> {
      for (index_t i = 0; i < logits.rows; ++i)
        if (!all_finite(logits.row(i), logits.cols))
          return error{errc::not_finite, "logits", "expected finite logits, found NaN or Inf"};
      PARE_TRY_VOID(use(logits, row));
      row += logits.rows;
      return {};
    };
    if constexpr (is_text) {
      constexpr index_t rows_at_once = 256;  // bounds the memory for the logits of large vocabularies
      index_t longest = 0;
      for (index_t s = 0; s < samples; ++s) longest = std::max(longest, positions_of(s));
      llama_session session(net, longest);
      matrix<float> logits(std::min(longest, rows_at_once), net.config().vocab_size);
      for (index_t s = 0; s < samples; ++s) {
        session.reset();
        std::span<int const> const window = samples_[static_cast<std::size_t>(s)];
        for (index_t first = 0; first < std::ssize(window); first += logits.rows()) {
          index_t const count = std::min(logits.rows(), std::ssize(window) - first);
          auto const rows = logits.span().row_range(0, count);
          PARE_TRY_VOID(
              session.forward(window.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)), rows));
          PARE_TRY_VOID(pass_on(rows));
        }
      }
    } else {
      constexpr index_t batch = 64;
      matrix<float> logits(std::min(batch, samples), net.classes());
      for (index_t first = 0; first < samples; first += batch) {
        index_t const count = std::min(batch, samples - first);
        auto const rows = logits.span().row_range(0, count);
        net.forward(samples_.span().row_range(first, count), rows);
        PARE_TRY_VOID(pass_on(rows));
      }
    }
    return {};
  }

  /// Keeps softmax(logits) as p, and sum p ln p.
  void keep_row(float const* logits, float* p) {
    index_t const n = probabilities_.cols();
    std::copy_n(logits, n, p);
    float top = 0.0f;
    double const total = detail::exponentials(p, n, top);
    auto const factor = static_cast<float>(1.0 / total);
    for (index_t i = 0; i < n; ++i) p[i] *= factor;
    double const expected =
        sum_of<double>(n, [&](index_t i) { return static_cast<double>(p[i]) * static_cast<double>(logits[i]); });
    negative_entropy_.push_back(expected - static_cast<double>(top) - std::log(total));
  }

  /// sum p (ln p - ln q). Replaces the logits.
  [[nodiscard]] double row_divergence(float* logits, index_t row) const {
    index_t const n = probabilities_.cols();
    float const* const p = probabilities_.row(row);
    double const expected =
        sum_of<double>(n, [&](index_t i) { return static_cast<double>(p[i]) * static_cast<double>(logits[i]); });
    float top = 0.0f;
    double const total = detail::exponentials(logits, n, top);
    return negative_entropy_[static_cast<std::size_t>(row)] + std::log(total) + static_cast<double>(top) - expected;
  }

  std::conditional_t<is_text, std::vector<std::vector<int>>, matrix<float>> samples_;
  matrix<float> probabilities_;           // (positions, outputs)
  std::vector<double> negative_entropy_;  // of each position: sum p ln p
};

}  // namespace pare::inline PARE_ABI
