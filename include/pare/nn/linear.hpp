// SPDX-License-Identifier: Apache-2.0
// A linear layer: weights that can be pruned, and the operand that multiplies.
#pragma once

#include <concepts>
#include <string>
#include <utility>
#include <vector>

#include <pare/format/dense.hpp>
#include <pare/format/regular.hpp>
#include <pare/kernel/prepare.hpp>

namespace pare::inline PARE_ABI {

/// What networks call before every linear layer with its input x (K, N), so that calibration can see it; the default
/// sees nothing.
struct no_tap {
  template <class Layer>
  void operator()(Layer const&, matrix_span<float const>) const noexcept {}
};

/// y = W x + b. The weights are dense with a mask; `prepare` makes a sparse operand of them where that is faster.
class linear {
 public:
  linear() = default;
  /// weight (M, K), all kept; bias (M) or empty. `name` is the weight tensor's in the checkpoint.
  linear(std::string name, matrix<float> weight, std::vector<float> bias = {})
      : name_(std::move(name)), weights_(std::move(weight)), bias_(std::move(bias)) {
    PARE_EXPECTS(bias_.empty() || std::ssize(bias_) == weights_.shape().rows,
                 "linear: the bias must have one value per output");
  }

  [[nodiscard]] std::string const& name() const noexcept { return name_; }
  [[nodiscard]] extents shape() const noexcept { return weights_.shape(); }  // (M, K)
  /// (M, K), pruned weights +0.
  [[nodiscard]] matrix_span<float const> weight() const noexcept { return weights_.values().span(); }
  [[nodiscard]] std::vector<float> const& bias() const noexcept { return bias_; }
  /// Weights and mask as a format.
  [[nodiscard]] dense<float> const& weights() const noexcept { return weights_; }

  /// Prunes: weights outside `mask` become +0 and are no longer stored. Pre: equal shapes. Drops the prepared operand.
  void keep(mask const& m) {
    PARE_EXPECTS(m.shape() == shape(), "linear::keep: the mask and the weights must have equal shapes");
    weights_ = dense<float>(weight(), m);
    operand_ = {};
  }
  /// New weights of the same shape, and which of them are kept (compensation moves both).
  void assign(matrix<float> const& weight, mask const& m) {
    PARE_EXPECTS(weight.shape() == shape() && m.shape() == shape(), "linear::assign: the shapes must stay");
    weights_ = dense<float>(weight.span(), m);
    operand_ = {};
  }

  /// Another bias (M), or none. Pre: one value per output.
  void assign_bias(std::vector<float> bias) {
    PARE_EXPECTS(bias.empty() || std::ssize(bias) == shape().rows, "linear: the bias must have one value per output");
    bias_ = std::move(bias);
  }

  /// The shape of the weight tensor in the checkpoint: (M, K), or (O, I, kh, kw) for a convolution, which some
  /// allocators look at. Pre: M * K elements.
  void tensor_shape(std::vector<index_t> dims) { dims_ = std::move(dims); }
  [[nodiscard]] std::vector<index_t> tensor_shape() const {
    return dims_.empty() ? std::vector<index_t>{shape().rows, shape().cols} : dims_;
  }

  /// Lays the weights out for this machine (see pare::prepare); unprepared layers multiply densely.
  /// (A template, as bytes and forward are, so that formats and kernels are compiled only where networks run.)
  template <std::same_as<prepare_options> Options = prepare_options>
  void prepare(Options const& options) {
    if (weights_.keeps_all() && options.columns == 1) return;  // as it is, it is what one column wants
    with_regular_format(weights_,
                        [&](auto format) { operand_ = any_operand(pare::prepare(std::move(format), options)); });
  }
  /// Who multiplies; the default is the calling thread.
  void run_on(execution_ref exec) noexcept { exec_ = exec; }

  /// What multiplies: "dense", "bitmap", ...
  [[nodiscard]] char const* operand_name() const noexcept { return operand_ ? operand_.name() : weights_.name(); }
  /// Bytes of the weights in their canonical format, and of the bias.
  template <weight_value T = float>
  [[nodiscard]] std::size_t bytes() const {
    std::size_t n = bias_.size() * sizeof(float);
    with_regular_format<T>(weights_, [&](auto const& format) { n += format.bytes(); });
    return n;
  }

  /// y = act(scale * (W x) + b + ...). x (K, N) and y (M, N), any strides (token-major data as .transposed()). The
  /// layer's bias takes the epilogue's place for one: e.bias must be empty where the layer has its own.
  template <std::same_as<layer_epilogue> Epilogue = layer_epilogue>
  void forward(matrix_span<float const> x, matrix_span<float> y, Epilogue e = {}) const {
    if (!bias_.empty()) {
      PARE_EXPECTS(e.bias.empty(), "linear::forward: the layer has a bias of its own");
      e.bias = bias_;
    }
    if (operand_) {
      operand_.multiply(x, y, e, exec_);
    } else {
      execution_ref exec = exec_;
      matmul(weights_, x, y, e, exec);
    }
  }

  /// dx = W^T delta + added: the gradient of a loss by the input x from delta (M, N), its gradient by the output
  /// W x + b. dx (K, N); added (K, N), which may be dx itself, or none; any strides. Always multiplies with the float
  /// weights, whatever operand forward() uses. O(M K N) and a transposed copy of the weights.
  template <std::same_as<layer_epilogue> Epilogue = layer_epilogue>
  void backward(matrix_span<float const> delta, matrix_span<float> dx, matrix_span<float const> added = {}) const {
    PARE_EXPECTS(added.data == nullptr || added.shape() == dx.shape(),
                 "linear::backward: what is added must have the shape of dx");
    Epilogue const e{.added = added};
    execution_ref exec = exec_;
    matmul(dense<float>(matrix<float>(weight().transposed())), delta, dx, e, exec);
  }

 private:
  std::string name_;
  dense<float> weights_;
  std::vector<float> bias_;
  std::vector<index_t> dims_;  // empty: (M, K)
  any_operand operand_;
  execution_ref exec_;
};

}  // namespace pare::inline PARE_ABI
