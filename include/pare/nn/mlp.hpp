// SPDX-License-Identifier: Apache-2.0
// Multi-layer perceptrons: linear layers with one activation between them.
//
// Format: config.json {"model_type": "mlp", "layer_sizes": [784, 300, 100, 10], "activation": "relu",
// "input_scale", "input_mean", "input_std" (numbers, default 1, 0, 1), "classes" (names), "task"} and the tensors
// fc1.weight (300, 784), fc1.bias (300), fc2.weight, ... Without "layer_sizes" the layers are the file's 2-D
// weights in natural name order (fc2 before fc10), which must chain, with ReLU between them.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/io/json.hpp>
#include <pare/nn/activation.hpp>
#include <pare/nn/linear.hpp>
#include <pare/nn/read_linear.hpp>

namespace pare::inline PARE_ABI {

/// What a perceptron's configuration says besides the sizes.
struct mlp_config {
  pare::activation activation = pare::activation::relu;
  float input_scale = 1.0f;  // the network sees (x * input_scale - input_mean) / input_std
  float input_mean = 0.0f;
  float input_std = 1.0f;
  std::vector<std::string> classes;  // names of the outputs; may be empty
  std::string task = "classification";
};

/// True where a run of digits counts as one number: fc2 comes before fc10.
[[nodiscard]] inline bool natural_less(std::string_view a, std::string_view b) noexcept {
  auto const digit = [](char c) { return c >= '0' && c <= '9'; };
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (!digit(a[i]) || !digit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
      continue;
    }
    while (i < a.size() && a[i] == '0') ++i;
    while (j < b.size() && b[j] == '0') ++j;
    std::size_t const first_a = i;
    std::size_t const first_b = j;
    while (i < a.size() && digit(a[i])) ++i;
    while (j < b.size() && digit(b[j])) ++j;
    auto const x = a.substr(first_a, i - first_a);
    auto const y = b.substr(first_b, j - first_b);
    if (x.size() != y.size()) return x.size() < y.size();  // no leading zeros: longer is larger
    if (x != y) return x < y;
  }
  if ((i < a.size()) != (j < b.size())) return j < b.size();
  return a < b;  // equal up to leading zeros: any fixed order
}

class mlp {
 public:
  static constexpr bool columns_are_samples = true;  // of its inputs and gradients, see network.hpp

  /// Reads the network, see the top of this file. Errors: wrong configuration values, by key; missing or misshapen
  /// tensors, by name; without a configuration, weights that do not chain.
  [[nodiscard]] static result<mlp> load(checkpoint const& file) {
    bool const has_sizes = file.config().is_object() && file.config().contains("layer_sizes");
    return has_sizes ? load_configured(file) : load_inferred(file);
  }

  [[nodiscard]] mlp_config const& config() const noexcept { return config_; }
  [[nodiscard]] index_t input_size() const noexcept { return layers_.front().shape().cols; }
  [[nodiscard]] index_t classes() const noexcept { return layers_.back().shape().rows; }

  /// The linear layers in forward order. The pointers are valid until the network is moved or destroyed.
  [[nodiscard]] std::vector<linear*> layers() {
    std::vector<linear*> all;
    for (linear& l : layers_) all.push_back(&l);
    return all;
  }
  [[nodiscard]] std::vector<linear const*> layers() const {
    std::vector<linear const*> all;
    for (linear const& l : layers_) all.push_back(&l);
    return all;
  }
  /// The output layer is small, and pruning it costs most.
  [[nodiscard]] bool keeps_dense_by_default(linear const& layer) const noexcept { return &layer == &layers_.back(); }

  /// logits (N, classes) of inputs (N, K), floats or bytes on the scale that input_scale expects.
  /// Pre: matching shapes. Allocates its workspace once per call.
  template <class T, class Tap = no_tap>
    requires std::is_arithmetic_v<T>
  void forward(matrix_span<T> inputs, matrix_span<float> logits, Tap&& tap = {}) const {
    PARE_EXPECTS(inputs.cols == input_size(), "mlp::forward: inputs must be (N, first layer size)");
    PARE_EXPECTS(logits.rows == inputs.rows && logits.cols == classes(), "mlp::forward: logits must be (N, classes)");
    index_t widest = input_size();
    for (linear const& l : layers_) widest = std::max(widest, l.shape().rows);
    matrix<float> from(inputs.rows, widest);
    matrix<float> to(inputs.rows, widest);
    normalise(inputs, from.span());
    for (linear const& layer : layers_) {
      auto const x = from.span().col_range(0, layer.shape().cols).transposed();  // (K, N)
      tap(layer, matrix_span<float const>(x));
      if (&layer == &layers_.back()) {
        layer.forward(x, logits.transposed());
      } else {
        auto const y = to.span().col_range(0, layer.shape().rows).transposed();  // (M, N)
        layer.forward(x, y, activated());
        std::swap(from, to);
      }
    }
  }

 private:
  friend class mlp_tape;
  friend class mlp_walk;

  /// What follows every layer but the last.
  [[nodiscard]] layer_epilogue activated() const noexcept { return {.act = config_.activation}; }

  /// What the first layer sees, in the first columns of x (N, at least K).
  template <class T>
  void normalise(matrix_span<T> inputs, matrix_span<float> x) const noexcept {
    for (index_t n = 0; n < inputs.rows; ++n)
      for (index_t k = 0; k < inputs.cols; ++k)
        x(n, k) = (static_cast<float>(inputs(n, k)) * config_.input_scale - config_.input_mean) / config_.input_std;
  }

  static result<mlp> load_inferred(checkpoint const& file) {
    std::vector<std::string> names = file.names();
    std::erase_if(names, [](std::string const& n) { return !n.ends_with(".weight"); });
    std::sort(names.begin(), names.end(), natural_less);
    if (names.empty()) return error{errc::missing, "", "expected 2-D tensors whose names end in .weight, found none"};
    mlp net;
    for (std::string const& name : names) {
      std::vector<index_t> const shape = file.shape(name).value_or(std::vector<index_t>{});
      if (shape.size() != 2 || shape[0] <= 0 || shape[1] <= 0)
        return error{errc::unsupported, detail::tensor_place(name),
                     "expected only weights of shape [M, K] in a network without a configuration, found shape " +
                         to_string(shape)};
      if (!net.layers_.empty() && shape[1] != net.classes())
        return error{errc::mismatch, detail::tensor_place(name),
                     "expected as many inputs as " + net.layers_.back().name() + " has outputs (" +
                         std::to_string(net.classes()) + "), found " + std::to_string(shape[1])};
      std::string const stem = name.substr(0, name.size() - std::string_view(".weight").size());
      auto const bias = file.contains(stem + ".bias") ? has_bias::yes : has_bias::no;
      PARE_TRY(auto layer, read_linear(file, stem, {shape[0], shape[1]}, bias));
      net.layers_.push_back(std::move(layer));
    }
    if (file.config().is_object()) {
      PARE_TRY(net.config_, read_config(file.config(), net.classes()));
    }
    return net;
  }

  static result<mlp> load_configured(checkpoint const& file) {
    nlohmann::json const& json = file.config();
    mlp net;
    PARE_TRY(auto const sizes, get_positives(json, "layer_sizes"));
    if (sizes.size() < 2)
      return error{errc::out_of_range, "key \"layer_sizes\"",
                   "expected at least two sizes, input and output, found " + std::to_string(sizes.size())};
    PARE_TRY(net.config_, read_config(json, sizes.back()));
    for (std::size_t i = 1; i < sizes.size(); ++i) {
      PARE_TRY(auto layer, read_linear(file, "fc" + std::to_string(i), {sizes[i], sizes[i - 1]}, has_bias::yes));
      net.layers_.push_back(std::move(layer));
    }
    return net;
  }

  static result<mlp_config> read_config(nlohmann::json const& json, index_t outputs) {
    mlp_config c;
    PARE_TRY(auto const activation, get_string(json, "activation", "relu"));
    auto const kind = parse_activation(activation);
    if (!kind) return in("key \"activation\"", kind.error());
    c.activation = *kind;
    PARE_TRY(c.input_scale, read_float(json, "input_scale", 1.0));
    PARE_TRY(c.input_mean, read_float(json, "input_mean", 0.0));
    PARE_TRY(c.input_std, read_float(json, "input_std", 1.0));
    if (!(c.input_std > 0.0f))
      return error{errc::out_of_range, "key \"input_std\"",
                   "expected a number above 0, found " + std::to_string(c.input_std)};
    if (json.contains("classes") && !json["classes"].is_null()) {
      PARE_TRY(c.classes, get_strings(json, "classes"));
      if (std::ssize(c.classes) != outputs)
        return error{errc::mismatch, "key \"classes\"",
                     "expected " + std::to_string(outputs) + " names, as many as outputs, found " +
                         std::to_string(c.classes.size())};
    }
    PARE_TRY(c.task, get_string(json, "task", "classification"));
    return c;
  }

  static result<float> read_float(nlohmann::json const& json, std::string_view key, double fallback) {
    PARE_TRY(auto const value, get_number(json, key, fallback));
    if (!(std::abs(value) <= 1e30))
      return error{errc::out_of_range, "key \"" + std::string(key) + "\"",
                   "expected a number within +-1e30, found " + std::to_string(value)};
    return static_cast<float>(value);
  }

  mlp_config config_;
  std::vector<linear> layers_;  // at least one
};

}  // namespace pare::inline PARE_ABI
