// SPDX-License-Identifier: Apache-2.0
// Gradients of a CIFAR ResNet, one image at a time.
#pragma once

#include <algorithm>
#include <vector>

#include <pare/nn/gradient.hpp>
#include <pare/nn/loss.hpp>
#include <pare/nn/resnet.hpp>

namespace pare::inline PARE_ABI {

/// A forward pass of one image that is kept for the way back. Memory: the output of every convolution, and two im2col
/// matrices to work in; the patches are laid out again on the way back. Allocates in the constructor only, besides what
/// the layers' products do. The network must outlive it.
///
/// Batch norms have fixed statistics: they scale gradients, and have none of their own here.
class resnet_tape {
 public:
  explicit resnet_tape(resnet const& net)
      : net_(&net), work_(net.widest()), image_(net.widest()), first_(net.widest()), d_columns_(work_.columns.shape()) {
    for (std::size_t i = 0; i < net.blocks_.size(); ++i) records_.emplace_back(net.widest());
  }

  /// Forward, the loss, and back for image after image. images (N, 3072) as resnet::forward takes them; returns the
  /// loss. After an error of the loss the tap has seen the images before that one.
  template <class T, logit_loss Loss, gradient_tap Tap>
  [[nodiscard]] result<double> backward(matrix_span<T> images, Loss&& loss, Tap&& tap) {
    PARE_EXPECTS(images.cols == resnet::input_size(), "resnet_tape::backward: images must be (N, 3072)");
    PARE_TRY_VOID(detail::expect_rows(loss, images.rows));
    matrix<float> logits(1, net_->classes());
    matrix<float> pooled(net_->classifier_.shape().cols, 1);
    double total = 0;
    for (index_t i = 0; i < images.rows; ++i) {
      forward(images.row_range(i, 1), pooled.span(), logits.span());
      PARE_TRY(double const value, loss(logits.span(), i));
      total += value;
      walk_back(pooled.span(), logits.span(), tap);
    }
    return total;
  }

 private:
  using map = resnet::feature_map;

  /// An image on its way, and the gradient by it.
  struct kept_map {
    explicit kept_map(index_t widest)
        : value{matrix<float>(widest, resnet::pixels)}, gradient(widest, resnet::pixels) {}
    map value;
    matrix<float> gradient;

    [[nodiscard]] matrix_span<float> d() noexcept { return {gradient.data(), value.channels, value.side * value.side}; }
  };
  /// The outputs of a block's two convolutions, after the activation.
  struct record {
    explicit record(index_t widest) : inner(widest), out(widest) {}
    kept_map inner, out;
  };

  template <class T>
  void forward(matrix_span<T> image, matrix_span<float> pooled, matrix_span<float> logits) {
    no_tap unseen;
    resnet::normalise(image, image_.value);
    resnet::convolve(net_->first_.conv, image_.value, 1, work_.columns, first_.value, unseen,
                     resnet::after(net_->first_.norm));
    kept_map* x = &first_;
    for (std::size_t i = 0; i < records_.size(); ++i) {
      auto const& b = net_->blocks_[i];
      auto& [inner, out] = records_[i];
      resnet::convolve(b.first.conv, x->value, b.stride, work_.columns, inner.value, unseen,
                       resnet::after(b.first.norm));
      matrix_span<float const> shortcut = x->value.span();
      if (b.stride != 1) {  // widen() works in place, and x is needed on the way back
        work_.x.channels = x->value.channels;
        work_.x.side = x->value.side;
        std::copy_n(shortcut.data, shortcut.rows * shortcut.cols, work_.x.storage.data());
        resnet::widen(work_.x, b.second.conv.shape().rows, work_.columns);
        shortcut = work_.x.span();
      }
      resnet::convolve(b.second.conv, inner.value, 1, work_.columns, out.value, unseen,
                       resnet::after(b.second.norm, shortcut));
      x = &out;
    }
    resnet::pool(x->value.span(), pooled);
    net_->classifier_.forward(pooled, logits.transposed());
  }

  /// From d_logits (1, classes) to the first convolution.
  template <class Tap>
  void walk_back(matrix_span<float const> pooled, matrix_span<float const> d_logits, Tap& tap) {
    tap(net_->classifier_, pooled, d_logits.transposed());
    matrix_span<float> const d_pooled(d_columns_.data(), pooled.rows, 1);
    net_->classifier_.backward(d_logits.transposed(), d_pooled);
    kept_map& last = records_.empty() ? first_ : records_.back().out;
    auto const d_last = last.d();
    for (index_t c = 0; c < d_last.rows; ++c)
      std::fill_n(d_last.row(c), d_last.cols, d_pooled(c, 0) / static_cast<float>(d_last.cols));
    for (std::size_t i = records_.size(); i-- > 0;) {
      auto const& b = net_->blocks_[i];
      auto& [inner, out] = records_[i];
      kept_map& x = i == 0 ? first_ : records_[i - 1].out;
      through_relu(out);
      shortcut_back(out, b.stride, x);
      std::fill_n(inner.gradient.data(), inner.d().rows * inner.d().cols, 0.0f);
      convolution_back(b.second, out, inner, 1, tap);
      through_relu(inner);
      convolution_back(b.first, inner, x, b.stride, tap);
    }
    through_relu(first_);
    convolution_back(net_->first_, first_, image_, 1, tap);
  }

  /// The gradient by what entered the ReLU, from that by what left it.
  static void through_relu(kept_map& m) noexcept {
    auto const d = m.d();
    float const* const y = m.value.storage.data();
    for (index_t i = 0; i < d.rows * d.cols; ++i) d.data[i] = y[i] > 0.0f ? d.data[i] : 0.0f;
  }

  /// Sets the gradient by a block's input to what comes back through its shortcut.
  static void shortcut_back(kept_map& out, index_t stride, kept_map& x) noexcept {
    auto const from = out.d();
    auto const to = x.d();
    if (stride == 1) {
      std::copy_n(from.data, from.rows * from.cols, to.data);
      return;
    }
    // As resnet::widen: pixel (2 row, 2 col) of channel c went to pixel (row, col) of channel width / 4 + c.
    std::fill_n(to.data, to.rows * to.cols, 0.0f);
    index_t const half = out.value.side;
    for (index_t c = 0; c < to.rows; ++c)
      for (index_t row = 0; row < half; ++row)
        for (index_t col = 0; col < half; ++col)
          to(c, 2 * row * x.value.side + 2 * col) = from(from.rows / 4 + c, row * half + col);
  }

  /// From the gradient by the batch norm's output, which becomes that by the convolution's, to x's, which it adds to.
  template <class Tap>
  void convolution_back(resnet::unit const& u, kept_map& out, kept_map& x, index_t stride, Tap& tap) {
    auto const delta = out.d();
    for (index_t c = 0; c < delta.rows; ++c)
      for (index_t p = 0; p < delta.cols; ++p) delta(c, p) *= u.norm.scale[static_cast<std::size_t>(c)];
    auto const input = x.value.span();
    convolution const c{.height = x.value.side, .width = x.value.side, .stride = stride};
    matrix_span<float> const patches(work_.columns.data(), input.rows * resnet::taps, c.out_pixels());
    im2col(input, c, patches);
    tap(u.conv, matrix_span<float const>(patches), matrix_span<float const>(delta));
    if (&x == &image_) return;
    matrix_span<float> const d_patches(d_columns_.data(), patches.rows, patches.cols);
    u.conv.backward(delta, d_patches);
    col2im(d_patches, c, x.d());
  }

  resnet const* net_;
  resnet::workspace work_;  // its maps: the widened shortcut
  kept_map image_, first_;
  std::vector<record> records_;  // one per block
  matrix<float> d_columns_;
};

/// The loss of a residual network on images (N, 3072), and its gradients for the tap; see resnet_tape.
template <class T, logit_loss Loss, gradient_tap Tap>
[[nodiscard]] result<double> backward(resnet const& net, matrix_span<T> images, Loss&& loss, Tap&& tap) {
  return resnet_tape(net).backward(images, loss, tap);
}

}  // namespace pare::inline PARE_ABI
