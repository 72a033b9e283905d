// SPDX-License-Identifier: Apache-2.0
// Any of the networks that pare knows, chosen by what a file says about itself.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <pare/core/result.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/io/json.hpp>
#include <pare/nn/linear.hpp>
#include <pare/nn/llama.hpp>
#include <pare/nn/mlp.hpp>
#include <pare/nn/resnet.hpp>

namespace pare::inline PARE_ABI {

/// One of the known networks; use std::visit, or the functions below for what all have in common.
using any_network = std::variant<llama, resnet, mlp>;

/// The names of the alternatives, as "model_type" in a configuration has them.
[[nodiscard]] constexpr std::string_view kind(llama const&) noexcept { return "llama"; }
[[nodiscard]] constexpr std::string_view kind(resnet const&) noexcept { return "resnet"; }
[[nodiscard]] constexpr std::string_view kind(mlp const&) noexcept { return "mlp"; }
[[nodiscard]] inline std::string_view kind(any_network const& net) {
  return std::visit([](auto const& n) { return kind(n); }, net);
}

/// The linear layers in forward order; valid until the network is moved or destroyed.
[[nodiscard]] inline std::vector<linear*> layers(any_network& net) {
  return std::visit([](auto& n) { return n.layers(); }, net);
}
[[nodiscard]] inline std::vector<linear const*> layers(any_network const& net) {
  return std::visit([](auto const& n) { return n.layers(); }, net);
}
/// Whether pruning leaves a layer alone unless it is asked for.
[[nodiscard]] inline bool keeps_dense_by_default(any_network const& net, linear const& layer) {
  return std::visit([&](auto const& n) { return n.keeps_dense_by_default(layer); }, net);
}

namespace detail {
template <class Network>
result<any_network> load_as(checkpoint const& file) {
  PARE_TRY(auto net, Network::load(file));
  return any_network(std::move(net));
}
}  // namespace detail

/// Loads the network in a checkpoint: by "model_type" of its configuration, without one by its tensors.
/// Errors: those of the network's load(); a network of another kind.
[[nodiscard]] inline result<any_network> load_network(checkpoint const& file) {
  constexpr std::string_view supported = "pare runs networks of the kinds \"llama\", \"resnet\" and \"mlp\"";
  nlohmann::json const& config = file.config();
  if (config.is_object() && !config.empty()) {
    PARE_TRY(auto const type, get_string(config, "model_type"));
    if (type == "llama") return detail::load_as<llama>(file);
    if (type == "resnet") return detail::load_as<resnet>(file);
    if (type == "mlp") return detail::load_as<mlp>(file);
    return error{errc::unsupported, "key \"model_type\"", std::string(supported) + ", found " + in_quotes(type)};
  }
  if (file.contains("model.embed_tokens.weight"))
    return error{errc::missing, "config.json",
                 "a language model's sizes stand in its config.json; give the folder that holds both files"};
  if (file.contains("layer1.0.conv1.weight")) return detail::load_as<resnet>(file);
  auto perceptron = detail::load_as<mlp>(file);
  if (!perceptron)
    return error{perceptron.error().code, perceptron.error().where,
                 perceptron.error().what + " (without a config.json the tensors say what the network is; " +
                     std::string(supported) + ")"};
  return perceptron;
}

/// Loads the network in a file or a folder.
[[nodiscard]] inline result<any_network> load_network(std::filesystem::path const& path) {
  auto const file = checkpoint::open(path);
  if (!file) return file.error();
  auto net = load_network(*file);
  if (!net) return in(path.string(), std::move(net.error()));
  return net;
}

}  // namespace pare::inline PARE_ABI
