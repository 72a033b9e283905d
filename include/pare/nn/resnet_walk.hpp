// SPDX-License-Identifier: Apache-2.0
// Images on their way through a residual network, convolution by convolution.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>
#include <pare/nn/feed.hpp>
#include <pare/nn/network.hpp>
#include <pare/nn/resnet.hpp>

namespace pare::inline PARE_ABI {

/// The feature maps of all images before one layer: what it sees and, inside a block, what its shortcut carries.
/// Memory: 4 bytes times images times channels times pixels, twice inside a block (128 KB an image for the first stage
/// of the CIFAR networks, half of that for the second). See stage_walk. The network must outlive it and stay where it
/// is.
class resnet_walk {
 public:
  /// Images and errors as feed() has them: taps see the same, to the bit.
  [[nodiscard]] static result<resnet_walk> start(resnet const& net, matrix_span<float const> images,
                                                 progress report = {}) {
    PARE_TRY_VOID(detail::require_inputs(net, images));
    resnet_walk walk(net, report);
    for (index_t i = 0; i < images.rows; ++i) {
      resnet::normalise(images.row_range(i, 1), walk.work_.x);
      walk.images_.push_back({kept(walk.work_.x), {}});
    }
    return walk;
  }

  [[nodiscard]] std::size_t stage() const noexcept { return stage_; }
  template <class Tap>
  [[nodiscard]] result<void> show(Tap&& tap) {
    return for_each_image([&](image&) {
      if (stage_ == classifier()) {
        (void)net_->pooled_of(work_, tap);
      } else if (stage_ == 0) {
        (void)resnet::patches_of(net_->first_.conv, work_.x, 1, work_.columns, tap);
      } else if (auto const& b = net_->blocks_[(stage_ - 1) / 2]; stage_ % 2 == 1) {
        (void)resnet::patches_of(b.first.conv, work_.x, b.stride, work_.columns, tap);
      } else {
        (void)resnet::patches_of(b.second.conv, work_.inner, 1, work_.columns, tap);
      }
    });
  }
  template <class Tap>
  [[nodiscard]] result<void> advance(Tap&& tap) {
    PARE_TRY_VOID(for_each_image([&](image& i) {
      if (stage_ == classifier()) {
        (void)net_->pooled_of(work_, tap);
        return;
      }
      net_->run_convolution(stage_, work_, tap);
      i = {kept(work_.x), stage_ % 2 == 1 ? kept(work_.inner) : map{}};
    }));
    ++stage_;
    return {};
  }

 private:
  /// A feature map in as much storage as it needs.
  struct map {
    matrix<float> values;  // (channels, side * side)
    index_t side = 0;
  };
  struct image {
    map x, inner;
  };

  resnet_walk(resnet const& net, progress report) : net_(&net), work_(net.widest()), report_(report) {}

  [[nodiscard]] std::size_t classifier() const noexcept { return 2 * net_->blocks_.size() + 1; }

  static map kept(resnet::feature_map& from) { return {matrix<float>(from.span()), from.side}; }
  static void restore(map const& from, resnet::feature_map& to) {
    to.channels = from.values.rows();
    to.side = from.side;
    std::copy_n(from.values.data(), from.values.size(), to.storage.data());
  }

  /// visit(image) with the image's maps in the workspace.
  template <class Visit>
  result<void> for_each_image(Visit visit) {
    PARE_EXPECTS(stage_ <= classifier(), "resnet_walk: there is no stage left");
    for (std::size_t i = 0; i < images_.size(); ++i) {
      restore(images_[i].x, work_.x);
      restore(images_[i].inner, work_.inner);
      visit(images_[i]);
      if (!report_("calibrate", static_cast<index_t>(i) + 1, std::ssize(images_)))
        return error{errc::cancelled, "calibrate", "cancelled"};
    }
    return {};
  }

  resnet const* net_;
  std::size_t stage_ = 0;
  std::vector<image> images_;
  resnet::workspace work_;
  progress report_;
};
static_assert(stage_walk<resnet_walk>);

/// Images (N, 3072), as resnet::forward takes them, before the first layer of a network.
[[nodiscard]] inline result<resnet_walk> walk(resnet const& net, matrix_span<float const> images,
                                              progress report = {}) {
  return resnet_walk::start(net, images, report);
}

}  // namespace pare::inline PARE_ABI
