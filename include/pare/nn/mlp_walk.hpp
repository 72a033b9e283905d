// SPDX-License-Identifier: Apache-2.0
// Inputs on their way through a perceptron, layer by layer.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>
#include <pare/nn/feed.hpp>
#include <pare/nn/mlp.hpp>
#include <pare/nn/network.hpp>

namespace pare::inline PARE_ABI {

/// What one layer sees of all inputs. Memory: 4 bytes times inputs times the layer's width. See stage_walk.
/// The network must outlive it and stay where it is.
class mlp_walk {
 public:
  /// Batches and errors as feed() has them: taps see the same, to the bit.
  [[nodiscard]] static result<mlp_walk> start(mlp const& net, matrix_span<float const> inputs, progress report = {}) {
    PARE_TRY_VOID(detail::require_inputs(net, inputs));
    mlp_walk walk(net, report);
    for (index_t first = 0; first < inputs.rows; first += detail::inputs_at_once) {
      index_t const count = std::min(detail::inputs_at_once, inputs.rows - first);
      net.normalise(inputs.row_range(first, count), walk.batches_.emplace_back(count, inputs.cols).span());
    }
    return walk;
  }

  [[nodiscard]] std::size_t stage() const noexcept { return stage_; }
  template <class Tap>
  [[nodiscard]] result<void> show(Tap&& tap) {
    return for_each_batch([&](linear const& layer, matrix<float>& x) { tap(layer, view(x)); });
  }
  template <class Tap>
  [[nodiscard]] result<void> advance(Tap&& tap) {
    PARE_TRY_VOID(for_each_batch([&](linear const& layer, matrix<float>& x) {
      tap(layer, view(x));
      if (&layer == &net_->layers_.back()) return;
      matrix<float> y(x.rows(), layer.shape().rows);
      layer.forward(view(x), y.span().transposed(), net_->activated());
      x = std::move(y);
    }));
    ++stage_;
    return {};
  }

 private:
  mlp_walk(mlp const& net, progress report) : net_(&net), report_(report) {}

  static matrix_span<float const> view(matrix<float> const& x) noexcept { return x.span().transposed(); }  // (K, N)

  template <class Visit>
  result<void> for_each_batch(Visit visit) {
    PARE_EXPECTS(stage_ < net_->layers_.size(), "mlp_walk: there is no stage left");
    for (std::size_t b = 0; b < batches_.size(); ++b) {
      visit(net_->layers_[stage_], batches_[b]);
      if (!report_("calibrate", static_cast<index_t>(b) + 1, std::ssize(batches_)))
        return error{errc::cancelled, "calibrate", "cancelled"};
    }
    return {};
  }

  mlp const* net_;
  std::size_t stage_ = 0;
  std::vector<matrix<float>> batches_;  // (N, K)
  progress report_;
};
static_assert(stage_walk<mlp_walk>);

/// Inputs (N, K), floats as mlp::forward takes them, before the first layer of a network.
[[nodiscard]] inline result<mlp_walk> walk(mlp const& net, matrix_span<float const> inputs, progress report = {}) {
  return mlp_walk::start(net, inputs, report);
}

}  // namespace pare::inline PARE_ABI
