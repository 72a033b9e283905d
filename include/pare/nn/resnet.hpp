// SPDX-License-Identifier: Apache-2.0
// Residual networks for 32 x 32 colour images (He et al. 2015, section 4.2): depth 6n + 2, three stages, shortcuts
// without weights. Tensor names and preprocessing as in github.com/akamaster/pytorch_resnet_cifar10.
//
// Depth and widths are read from the tensors; no configuration is needed. Activations are feature-major
// (channels, pixels), one image at a time.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/result.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/nn/im2col.hpp>
#include <pare/nn/linear.hpp>
#include <pare/nn/norm.hpp>
#include <pare/nn/read_linear.hpp>
#include <pare/core/reduce.hpp>

namespace pare::inline PARE_ABI {

class resnet {
 public:
  static constexpr index_t channels = 3;
  static constexpr index_t side = 32;
  static constexpr index_t pixels = side * side;

  /// Reads the network. Errors: missing or misshapen tensors, by name; stages whose widths the weightless shortcut
  /// cannot join; shortcuts with weights or a fourth stage (unsupported).
  [[nodiscard]] static result<resnet> load(checkpoint const& file) {
    PARE_TRY_VOID(refuse_relatives(file));
    resnet net;
    PARE_TRY(auto const first, filter_shape(file, "conv1"));
    if (first.cols != channels * taps)
      return error{
          errc::mismatch, detail::tensor_place("conv1.weight"),
          "expected " + std::to_string(channels) + " input channels, found " + std::to_string(first.cols / taps)};
    PARE_TRY(net.first_, unit::load(file, "conv1", "bn1", first));
    index_t width = first.rows;
    for (index_t s = 1; s <= stages; ++s) {
      index_t count = 0;
      for (;; ++count) {
        std::string const prefix = "layer" + std::to_string(s) + "." + std::to_string(count) + ".";
        if (count > 0 && !file.contains(prefix + "conv1.weight")) break;
        PARE_TRY(auto b, block::load(file, prefix, width, s > 1 && count == 0 ? 2 : 1));
        width = b.second.conv.shape().rows;
        net.blocks_.push_back(std::move(b));
      }
      PARE_TRY_VOID(refuse_gaps(file, s, count));
    }
    auto const classifier = file.shape("linear.weight");
    index_t const classes = classifier && classifier->size() == 2 ? std::max(classifier->front(), index_t{1}) : 10;
    PARE_TRY(net.classifier_, read_linear(file, "linear", {classes, width}, has_bias::yes));
    return net;
  }

  /// Layers with weights along the longest path: 20, 32, ...
  [[nodiscard]] index_t depth() const noexcept { return 2 * std::ssize(blocks_) + 2; }
  /// Values of one image.
  [[nodiscard]] static constexpr index_t input_size() noexcept { return channels * pixels; }
  [[nodiscard]] index_t classes() const noexcept { return classifier_.shape().rows; }

  /// The linear layers in forward order, convolutions as (O, I*9). The pointers are valid until the network is
  /// moved or destroyed.
  [[nodiscard]] std::vector<linear*> layers() {
    std::vector<linear*> all{&first_.conv};
    for (block& b : blocks_)
      for (linear* l : {&b.first.conv, &b.second.conv}) all.push_back(l);
    all.push_back(&classifier_);
    return all;
  }
  [[nodiscard]] std::vector<linear const*> layers() const {
    auto const all = const_cast<resnet&>(*this).layers();
    return {all.begin(), all.end()};
  }
  /// The first convolution and the classifier hold few weights, and pruning them costs most.
  [[nodiscard]] bool keeps_dense_by_default(linear const& layer) const noexcept {
    return &layer == &first_.conv || &layer == &classifier_;
  }

  /// logits (N, classes) of images (N, 3072): red, green and blue planes, values 0..255 as the CIFAR files have them.
  /// Pre: matching shapes. Allocates its workspace once per call.
  template <class T, class Tap = no_tap>
    requires std::same_as < std::remove_const_t<T>,
  float > ||
      std::same_as<std::remove_const_t<T>, std::uint8_t> void forward(matrix_span<T> images, matrix_span<float> logits,
                                                                      Tap&& tap = {}) const {
    PARE_EXPECTS(images.cols == input_size(), "resnet::forward: images must be (N, 3072)");
    PARE_EXPECTS(logits.rows == images.rows && logits.cols == classes(),
                 "resnet::forward: logits must be (N, classes)");
    workspace work(widest());
    for (index_t i = 0; i < images.rows; ++i) {
      normalise(images.row_range(i, 1), work.x);
      forward_image(work, logits.row_range(i, 1), tap);
    }
  }

 private:
  friend class resnet_tape;
  friend class resnet_walk;

  static constexpr index_t stages = 3;
  static constexpr index_t taps = 9;  // 3 x 3

  /// A convolution without bias and the batch norm after it.
  struct unit {
    linear conv;
    batch_norm norm;

    static result<unit> load(checkpoint const& file, std::string const& conv, std::string const& norm, extents shape) {
      unit u;
      PARE_TRY(u.conv, read_linear(file, conv, shape, has_bias::no));
      PARE_TRY(u.norm, batch_norm::load(file, norm, shape.rows));
      return u;
    }
  };

  struct block {
    unit first, second;
    index_t stride = 1;

    static result<block> load(checkpoint const& file, std::string const& prefix, index_t width, index_t stride) {
      block b;
      b.stride = stride;
      PARE_TRY(auto const inner, filter_shape(file, prefix + "conv1"));
      PARE_TRY(auto const outer, filter_shape(file, prefix + "conv2"));
      PARE_TRY(b.first, unit::load(file, prefix + "conv1", prefix + "bn1", {inner.rows, width * taps}));
      PARE_TRY(b.second, unit::load(file, prefix + "conv2", prefix + "bn2", {outer.rows, inner.rows * taps}));
      bool const joins = stride == 1 ? outer.rows == width : width + 2 * (outer.rows / 4) == outer.rows;
      if (!joins)
        return error{errc::mismatch, detail::tensor_place(prefix + "conv2.weight"),
                     stride == 1
                         ? "expected as many output channels as the block's input has (" + std::to_string(width) +
                               "), found " + std::to_string(outer.rows)
                         : "expected output channels C with C = " + std::to_string(width) +
                               " + 2 * (C / 4), which is what the shortcut gives, found " + std::to_string(outer.rows)};
      return b;
    }
  };

  /// An image on its way: channels x (height * width), in storage for the largest stage.
  struct feature_map {
    matrix<float> storage;
    index_t channels = 0;
    index_t side = 0;

    [[nodiscard]] matrix_span<float> span() noexcept { return {storage.data(), channels, side * side}; }
  };

  struct workspace {
    explicit workspace(index_t widest)
        : x{matrix<float>(widest, pixels)},
          inner{matrix<float>(widest, pixels)},
          out{matrix<float>(widest, pixels)},
          columns(widest * taps, pixels) {}
    feature_map x, inner, out;
    matrix<float> columns;  // storage of the im2col matrix
  };

  /// What follows a convolution: relu(norm(v) + added), `added` being the shortcut's values where there is one.
  static layer_epilogue after(batch_norm const& norm, matrix_span<float const> added = {}) noexcept {
    return {.scale = norm.scale, .bias = norm.shift, .added = added, .act = activation::relu};
  }

  /// The shape (O, I*9) of a 3 x 3 filter tensor.
  static result<extents> filter_shape(checkpoint const& file, std::string const& name) {
    std::string const tensor = name + ".weight";
    auto const shape = file.shape(tensor);
    if (!shape)
      return error{errc::missing, detail::tensor_place(tensor), "expected shape [O, I, 3, 3], found no tensor"};
    if (shape->size() != 4 || (*shape)[2] != 3 || (*shape)[3] != 3 || (*shape)[0] <= 0 || (*shape)[1] <= 0)
      return error{errc::mismatch, detail::tensor_place(tensor),
                   "expected shape [O, I, 3, 3], found " + to_string(*shape)};
    return extents{(*shape)[0], (*shape)[1] * taps};
  }

  /// Networks that look alike but compute something else would load in part and be wrong in silence.
  static result<void> refuse_relatives(checkpoint const& file) {
    for (std::string const& name : file.names())
      if (name.find(".shortcut.") != name.npos || name.find(".downsample.") != name.npos || name.starts_with("layer4."))
        return error{errc::unsupported, detail::tensor_place(name),
                     "expected a CIFAR ResNet of three stages whose shortcuts have no weights, found this tensor"};
    return {};
  }

  /// Blocks count from 0 without a gap; a later one would be ignored otherwise.
  static result<void> refuse_gaps(checkpoint const& file, index_t stage, index_t count) {
    std::string const prefix = "layer" + std::to_string(stage) + ".";
    for (std::string const& name : file.names()) {
      if (!name.starts_with(prefix)) continue;
      index_t number = -1;
      char const* const end = name.data() + name.size();
      auto const parsed = std::from_chars(name.data() + prefix.size(), end, number);
      bool const known = parsed.ec == std::errc{} && parsed.ptr != end && *parsed.ptr == '.' && number < count;
      if (!known)
        return error{errc::missing, detail::tensor_place(prefix + std::to_string(count) + ".conv1.weight"),
                     "expected it because the file has " + name + ", found none"};
    }
    return {};
  }

  /// The most channels of any feature map.
  [[nodiscard]] index_t widest() const noexcept {
    index_t most = std::max(channels, first_.conv.shape().rows);
    for (block const& b : blocks_) most = std::max({most, b.first.conv.shape().rows, b.second.conv.shape().rows});
    return most;
  }

  template <class T>
  static void normalise(matrix_span<T> image, feature_map& out) noexcept {
    constexpr std::array<float, 3> mean{0.485f, 0.456f, 0.406f};
    constexpr std::array<float, 3> deviation{0.229f, 0.224f, 0.225f};
    out.channels = channels;
    out.side = side;
    auto const x = out.span();
    for (index_t c = 0; c < channels; ++c) {
      auto const i = static_cast<std::size_t>(c);
      for (index_t p = 0; p < pixels; ++p)
        x(c, p) = (static_cast<float>(image(0, c * pixels + p)) / 255.0f - mean[i]) / deviation[i];
    }
  }

  /// The patches of x, which are the convolution's input, in `columns`.
  template <class Tap>
  static matrix_span<float const> patches_of(linear const& conv, feature_map& x, index_t stride, matrix<float>& columns,
                                             Tap& tap) {
    convolution const c{.height = x.side, .width = x.side, .stride = stride};
    matrix_span<float> const patches(columns.data(), x.channels * taps, c.out_pixels());
    im2col(x.span(), c, patches);
    tap(conv, matrix_span<float const>(patches));
    return patches;
  }

  /// out = epilogue(conv(x)).
  template <class Tap>
  static void convolve(linear const& conv, feature_map& x, index_t stride, matrix<float>& columns, feature_map& out,
                       Tap& tap, layer_epilogue const& epilogue) {
    auto const patches = patches_of(conv, x, stride, columns, tap);
    out.channels = conv.shape().rows;
    out.side = (x.side + stride - 1) / stride;
    conv.forward(patches, out.span(), epilogue);
  }

  /// The shortcut between stages, in place: every second pixel, and equally many zero channels on both sides.
  static void widen(feature_map& x, index_t width, matrix<float>& scratch) noexcept {
    index_t const half = (x.side + 1) / 2;
    index_t const before = width / 4;
    matrix_span<float> const y(scratch.data(), width, half * half);
    std::fill_n(y.data, width * half * half, 0.0f);
    auto const from = x.span();
    for (index_t c = 0; c < x.channels; ++c)
      for (index_t row = 0; row < half; ++row)
        for (index_t col = 0; col < half; ++col) y(before + c, row * half + col) = from(c, 2 * row * x.side + 2 * col);
    x.channels = width;
    x.side = half;
    std::copy_n(y.data, width * half * half, x.storage.data());
  }

  /// pooled (channels, 1): the mean of each channel.
  static void pool(matrix_span<float const> map, matrix_span<float> pooled) noexcept {
    for (index_t c = 0; c < map.rows; ++c)
      pooled(c, 0) = sum_of<float>(map.cols, [&](index_t p) { return map(c, p); }) / static_cast<float>(map.cols);
  }

  /// The l-th layer of an image, which is not the classifier: its input is in x, that of a block's second convolution
  /// in `inner` beside the shortcut's values in x.
  template <class Tap>
  void run_convolution(std::size_t l, workspace& work, Tap& tap) const {
    auto& [x, inner, out, columns] = work;
    if (l == 0) {
      convolve(first_.conv, x, 1, columns, out, tap, after(first_.norm));
      std::swap(x, out);
      return;
    }
    block const& b = blocks_[(l - 1) / 2];
    if (l % 2 == 1) {
      convolve(b.first.conv, x, b.stride, columns, inner, tap, after(b.first.norm));
      if (b.stride != 1) widen(x, b.second.conv.shape().rows, columns);
    } else {
      convolve(b.second.conv, inner, 1, columns, out, tap, after(b.second.norm, x.span()));
      std::swap(x, out);
    }
  }

  /// The classifier's input, in the workspace.
  template <class Tap>
  matrix_span<float const> pooled_of(workspace& work, Tap& tap) const {
    auto const map = work.x.span();
    matrix_span<float> const pooled(work.columns.data(), map.rows, 1);
    pool(map, pooled);
    tap(classifier_, matrix_span<float const>(pooled));
    return pooled;
  }

  template <class Tap>
  void forward_image(workspace& work, matrix_span<float> logits, Tap& tap) const {
    for (std::size_t l = 0; l <= 2 * blocks_.size(); ++l) run_convolution(l, work, tap);
    classifier_.forward(pooled_of(work, tap), logits.transposed());
  }

  unit first_;
  std::vector<block> blocks_;
  linear classifier_;
};

}  // namespace pare::inline PARE_ABI
