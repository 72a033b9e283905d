// SPDX-License-Identifier: Apache-2.0
// Which tensors of a pruned network save_pruned must write anew.
#pragma once

#include <algorithm>
#include <concepts>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <pare/io/checkpoint.hpp>
#include <pare/io/save_pruned.hpp>
#include <pare/nn/llama.hpp>
#include <pare/prune/prune.hpp>

namespace pare::inline PARE_ABI {

/// The tensors of a network that differ from its checkpoint's. It holds masks and refers to the network's values, so
/// the network must outlive it and stay as it is. Memory: a bit a weight.
class tensors_to_save {
 public:
  /// The weights of the layers that were pruned, with their masks; of a Llama their biases too, and those that its
  /// configuration does not have, because they make up for what was pruned (prune_units).
  template <network N>
  tensors_to_save(N const& net, std::span<pruned_layer const> done) {
    for (linear const* l : net.layers()) {
      if (std::none_of(done.begin(), done.end(), [&](pruned_layer const& p) { return p.name == l->name(); })) continue;
      add_masked(*l);
      if constexpr (std::same_as<N, llama>) add_bias(*l);
    }
    if constexpr (std::same_as<N, llama>) {
      new_attention_bias_ = !net.config().attention_bias && add_new_biases(net, 0, 4);
      new_mlp_bias_ = !net.config().mlp_bias && add_new_biases(net, 4, llama::layers_per_block);
    }
  }
  tensors_to_save(tensors_to_save const&) = delete;
  tensors_to_save& operator=(tensors_to_save const&) = delete;

  /// All others too: for a network whose channels were reordered (permute_channels). `file`: where the network came
  /// from; what is compressed there keeps its mask, all else is dense.
  void add_others(llama const& net, checkpoint const& file) {
    for (linear const* l : net.layers()) {
      if (!holds(l->name())) {
        if (file.is_compressed(l->name())) {
          add_masked(*l);
        } else {
          weights_.push_back({l->name(), l->weight()});
        }
      }
      add_bias(*l);
    }
    std::string const embedding = "model.embed_tokens.weight";
    std::string const head = "lm_head.weight";
    for (std::size_t i = 0; i < net.blocks_.size(); ++i) {
      std::string const block = "model.layers." + std::to_string(i) + ".";
      add_vector(block + "input_layernorm.weight", net.blocks_[i].attention_norm);
      add_vector(block + "post_attention_layernorm.weight", net.blocks_[i].feed_forward_norm);
    }
    add_vector("model.norm.weight", net.norm_);
    if (!net.config().tied) weights_.push_back({embedding, net.embedding_.span()});
    // some files store tied weights twice
    if (net.config().tied && file.contains(head)) weights_.push_back({head, net.head_.weight()});
  }

  [[nodiscard]] std::span<pruned_weight const> weights() const noexcept { return weights_; }

  /// What save_pruned is to write as config.json: null, the source's, unless there are new biases.
  [[nodiscard]] nlohmann::json config(checkpoint const& file) const {
    if (!new_attention_bias_ && !new_mlp_bias_) return nullptr;
    nlohmann::json out = file.config();
    if (new_attention_bias_) out["attention_bias"] = true;
    if (new_mlp_bias_) out["mlp_bias"] = true;
    return out;
  }

 private:
  [[nodiscard]] bool holds(std::string const& name) const {
    return std::any_of(weights_.begin(), weights_.end(), [&](pruned_weight const& w) { return w.name == name; });
  }
  void add_masked(linear const& layer) {
    masks_.push_back(kept(layer.weights()));
    weights_.push_back({layer.name(), layer.weight(), &masks_.back()});
  }
  [[nodiscard]] static std::string bias_of(linear const& layer) {
    constexpr std::string_view ending = "weight";
    return layer.name().substr(0, layer.name().size() - ending.size()) + "bias";
  }
  void add_bias(linear const& layer) {
    if (!layer.bias().empty() && !holds(bias_of(layer))) add_vector(bias_of(layer), layer.bias());
  }
  /// The biases of layers [first, last) of every block where any of them has one; where others have none, zeros, for
  /// the configuration knows all or none.
  bool add_new_biases(llama const& net, std::size_t first, std::size_t last) {
    auto const layers = net.layers();
    auto const in_group = [&](std::size_t l) {
      std::size_t const of_block = l % llama::layers_per_block;
      return l + 1 < layers.size() && of_block >= first && of_block < last;
    };
    bool any = false;
    for (std::size_t l = 0; l < layers.size(); ++l) any = any || (in_group(l) && !layers[l]->bias().empty());
    for (std::size_t l = 0; any && l < layers.size(); ++l) {
      if (!in_group(l)) continue;
      if (layers[l]->bias().empty()) {
        zeros_.emplace_back(static_cast<std::size_t>(layers[l]->shape().rows), 0.0f);
        add_vector(bias_of(*layers[l]), zeros_.back());
      } else {
        add_bias(*layers[l]);
      }
    }
    return any;
  }
  void add_vector(std::string name, std::vector<float> const& values) {
    weights_.push_back({std::move(name), {values.data(), std::ssize(values), 1}});
  }

  std::deque<mask> masks_;  // their elements stay where they are
  std::deque<std::vector<float>> zeros_;
  std::vector<pruned_weight> weights_;
  bool new_attention_bias_ = false;
  bool new_mlp_bias_ = false;
};

}  // namespace pare::inline PARE_ABI
