// SPDX-License-Identifier: Apache-2.0
// Statistics of every layer of a network, collected while it runs on calibration data.
#pragma once

#include <span>
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
template <class Needs>
class calibration {
 public:
  using needs = Needs;

  template <network N>
  explicit calibration(N const& net) : columns_are_samples_(columns_are_samples<N>) {
    for (linear const* l : net.layers()) {
      known_.push_back(l);
      layers_.emplace_back(l->shape());
    }
  }
  /// Of some layers only, by their positions in layers(); the statistics of others are of no inputs and take no memory.
  template <network N>
  calibration(N const& net, std::span<std::size_t const> only) : columns_are_samples_(columns_are_samples<N>) {
    auto const all = net.layers();
    known_.resize(all.size(), nullptr);
    for (std::size_t const l : only) known_[l] = all[l];
    for (linear const* l : known_) layers_.emplace_back(l == nullptr ? extents{} : l->shape());
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
    for (std::size_t l = 0; l < layers_.size(); ++l)
      if (known_[l] != nullptr) layers_[l].template close<Corpus>(positions);
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
    PARE_EXPECTS(other.layers_.size() == layers_.size(), "calibration::merge: both must be of the same network");
    for (std::size_t l = 0; l < layers_.size(); ++l) layers_[l].merge(other.layers_[l]);
  }
  /// Statistics of the l-th layer.
  [[nodiscard]] Needs const& operator[](std::size_t l) const noexcept { return layers_[l]; }
  [[nodiscard]] Needs& operator[](std::size_t l) noexcept { return layers_[l]; }
  [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }

 private:
  [[nodiscard]] Needs* find(linear const& layer) noexcept {
    // Networks call their layers in the order of the list, or back, again and again: the next one is nearly always
    // near.
    for (std::size_t tried = 0; tried < known_.size(); ++tried, next_ = (next_ + 1) % known_.size())
      if (known_[next_] == &layer) return &layers_[next_];
    return nullptr;
  }

  std::vector<linear const*> known_;
  bool columns_are_samples_;
  std::size_t next_ = 0;
  std::vector<Needs> layers_;
};

}  // namespace pare::inline PARE_ABI
