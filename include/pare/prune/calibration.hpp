// SPDX-License-Identifier: Apache-2.0
// Statistics of every layer of a network, collected while it runs on calibration data.
#pragma once

#include <concepts>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include <pare/calibrate/statistics.hpp>
#include <pare/nn/network.hpp>

namespace pare::inline PARE_ABI {

/// One `Needs` (a statistics<...> list) per layer of a network, in the order of layers(). It is the tap that collects,
/// of a forward pass or of a backward pass:
///
///     calibration<wanda::needs> stats(net);
///     net.forward(tokens, logits, stats);
///
/// The network must stay where it is while collecting. Its activations are seen as they are: prune_in_stages collects
/// from a network whose first layers are pruned already.
///
/// Layers that read the same input (input_of: a transformer block's queries, keys and values) share their statistics
/// where all of these are of inputs: they are collected and stored once, from what the first of these layers is shown.
template <class Needs>
class calibration {
 public:
  using needs = Needs;

  template <network N>
  explicit calibration(N const& net) : columns_are_samples_(columns_are_samples<N>) {
    std::vector<std::size_t> all(net.layers().size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    take<N>(net.layers(), all);
  }
  /// Of some layers only, by their rising positions in layers(); the statistics of others are of no inputs and take no
  /// memory.
  template <network N>
  calibration(N const& net, std::span<std::size_t const> only) : columns_are_samples_(columns_are_samples<N>) {
    take<N>(net.layers(), only);
  }

  /// Adds a batch of a layer's inputs x (K, N). Layers that the network does not list are passed over.
  template <class Corpus = any_corpus>
  void add(linear const& layer, matrix_span<float const> x) {
    if (Needs* const to = find(layer)) to->template add<Corpus>(x);
  }
  /// Adds what a backward pass tells of a layer: its input x (K, N) and delta (M, N), see gradient_tap.
  template <class Corpus = any_corpus>
  void add(linear const& layer, matrix_span<float const> x, matrix_span<float const> delta) {
    if (Needs* const to = find(layer)) to->template add<Corpus>(gradient_batch{x, delta, columns_are_samples_});
  }
  /// Ends a sample of a backward pass, whose loss was a sum over so many positions. Nothing where the network's columns
  /// are samples of their own.
  template <class Corpus = any_corpus>
  void close(index_t positions) {
    if (columns_are_samples_) return;
    for (Needs& of_input : collected_) of_input.template close<Corpus>(positions);
  }

  /// As a tap, of any_corpus.
  void operator()(linear const& layer, matrix_span<float const> x) { add(layer, x); }
  void operator()(linear const& layer, matrix_span<float const> x, matrix_span<float const> delta) {
    add(layer, x, delta);
  }

  /// The tap that collects for the statistics of one corpus.
  template <class Corpus>
  struct corpus_tap {
    calibration* into;
    void operator()(linear const& layer, matrix_span<float const> x) const { into->template add<Corpus>(layer, x); }
    void operator()(linear const& layer, matrix_span<float const> x, matrix_span<float const> delta) const {
      into->template add<Corpus>(layer, x, delta);
    }
    void close(index_t positions) const { into->template close<Corpus>(positions); }
  };
  template <class Corpus>
  [[nodiscard]] corpus_tap<Corpus> from() noexcept {
    return {this};
  }

  /// Makes it what it would be had it seen the other's data too. Pre: of the same network.
  void merge(calibration const& other) {
    PARE_EXPECTS(other.where_ == where_ && other.collected_.size() == collected_.size(),
                 "calibration::merge: both must be of the same layers of the same network");
    for (std::size_t i = 0; i < collected_.size(); ++i) collected_[i].merge(other.collected_[i]);
  }
  /// Statistics of the l-th layer.
  [[nodiscard]] Needs const& operator[](std::size_t l) const noexcept { return collected_[where_[l]]; }
  /// The same to fill by hand: what layers share is filled for all of them.
  [[nodiscard]] Needs& operator[](std::size_t l) noexcept { return collected_[where_[l]]; }
  [[nodiscard]] std::size_t size() const noexcept { return where_.size(); }

 private:
  template <network N>
  void take(std::vector<linear const*> const& all, std::span<std::size_t const> only) {
    collected_.emplace_back(extents{});  // of the layers that are left out
    where_.resize(all.size(), 0);
    known_.resize(all.size(), nullptr);
    for (std::size_t i = 0; i < only.size(); ++i) {
      std::size_t const l = only[i];
      bool const shares = !Needs::needs_gradients && i > 0 && input_of<N>(only[i - 1]) == input_of<N>(l);
      if (!shares) {
        known_[l] = all[l];
        collected_.emplace_back(all[l]->shape());
      }
      where_[l] = collected_.size() - 1;
    }
  }

  [[nodiscard]] Needs* find(linear const& layer) noexcept {
    // Networks call their layers in the order of the list, or back, again and again: the next one is nearly always
    // near.
    for (std::size_t tried = 0; tried < known_.size(); ++tried, next_ = (next_ + 1) % known_.size())
      if (known_[next_] == &layer) return &collected_[where_[next_]];
    return nullptr;
  }

  std::vector<linear const*> known_;  // whose inputs are collected; null where another layer's are, or none
  std::vector<std::size_t> where_;    // of each layer, in collected_
  bool columns_are_samples_;
  std::size_t next_ = 0;
  std::vector<Needs> collected_;
};

namespace detail {

/// Collects the statistics of a stage; data as for prune_in_stages. `goes_on`: a walk then stands behind the stage, so
/// that it ran once; else before it, and the next call runs the stage with the weights that it has by then.
template <network N, class Needs, class Data>
[[nodiscard]] result<void> calibrate_stage(N const& net, std::size_t stage, Data& data, calibration<Needs>& into,
                                           bool goes_on) {
  if constexpr (std::same_as<Needs, statistics<>>) {
    return {};
  } else if constexpr (stage_walk<Data>) {
    static_assert(!Needs::needs_gradients, "a walk shows inputs only; gradients need a callable that runs backward");
    PARE_EXPECTS(data.stage() <= stage, "calibration: the walk has gone too far");
    while (data.stage() < stage) PARE_TRY_VOID(data.advance(no_tap{}));
    return goes_on ? data.advance(into) : data.show(into);
  } else {
    return data(net, into);
  }
}

}  // namespace detail

}  // namespace pare::inline PARE_ABI
