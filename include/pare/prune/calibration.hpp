// SPDX-License-Identifier: Apache-2.0
// Statistics of every layer of a network, collected while it runs on calibration data.
#pragma once

#include <span>
#include <vector>

#include <pare/calibrate/statistics.hpp>
#include <pare/nn/network.hpp>

namespace pare::inline PARE_ABI {

/// One `Needs` (a statistics<...> list) per layer of a network, in the order of layers(). It is the tap that collects:
///
///     calibration<wanda::needs> stats(net);
///     net.forward(tokens, logits, stats);
///
/// The network must stay where it is while collecting. Its activations are seen as they are: prune_in_stages collects
/// from a network whose first layers are pruned already.
template <class Needs>
class calibration {
 public:
  template <network N>
  explicit calibration(N const& net) {
    for (linear const* l : net.layers()) {
      known_.push_back(l);
      layers_.emplace_back(l->shape().cols);
    }
  }
  /// Of some layers only, by their positions in layers(); the statistics of others are of no inputs and take no memory.
  template <network N>
  calibration(N const& net, std::span<std::size_t const> only) {
    auto const all = net.layers();
    known_.resize(all.size(), nullptr);
    for (std::size_t const l : only) known_[l] = all[l];
    for (linear const* l : known_) layers_.emplace_back(l == nullptr ? 0 : l->shape().cols);
  }

  /// Adds a batch of a layer's inputs x (K, N). Layers that the network does not list are passed over.
  void operator()(linear const& layer, matrix_span<float const> x) {
    // Networks call their layers in the order of the list, again and again: the next one is nearly always the right
    // one.
    for (std::size_t tried = 0; tried < known_.size(); ++tried, next_ = (next_ + 1) % known_.size())
      if (known_[next_] == &layer) return layers_[next_].add(x);
  }
  /// Makes it what it would be had it seen the other's data too. Pre: of the same network.
  void merge(calibration const& other) {
    PARE_EXPECTS(other.layers_.size() == layers_.size(), "calibration::merge: both must be of the same network");
    for (std::size_t l = 0; l < layers_.size(); ++l) layers_[l].merge(other.layers_[l]);
  }
  /// Statistics of the l-th layer.
  [[nodiscard]] Needs const& operator[](std::size_t l) const noexcept { return layers_[l]; }
  [[nodiscard]] std::size_t size() const noexcept { return layers_.size(); }

 private:
  std::vector<linear const*> known_;
  std::size_t next_ = 0;
  std::vector<Needs> layers_;
};

}  // namespace pare::inline PARE_ABI
