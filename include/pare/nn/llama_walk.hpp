// SPDX-License-Identifier: Apache-2.0
// Texts on their way through a Llama, block by block.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <pare/core/matrix.hpp>
#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>
#include <pare/nn/feed.hpp>
#include <pare/nn/llama.hpp>
#include <pare/nn/network.hpp>

namespace pare::inline PARE_ABI {

/// The hidden states of all positions at a boundary of blocks; the last stage is the output layer. Memory: 4 bytes
/// times positions times hidden_size, and for one window what a block works in. See stage_walk. The network must
/// outlive it and stay where it is.
class llama_walk {
 public:
  /// Sequences, windows and errors as feed() has them: taps see the same, to the bit.
  [[nodiscard]] static result<llama_walk> start(llama const& net, std::span<std::vector<int> const> sequences,
                                                progress report = {}) {
    PARE_TRY(auto const windows, detail::windows_of(net, sequences));
    llama_walk walk(net, windows.all, windows.longest, report);
    result<void> const embedded = detail::for_each_window(
        sequences, windows.per_window, [&](std::span<int const> window, index_t done) -> result<void> {
          PARE_TRY_VOID(net.require_known(window));
          walk.work_.embed(window, walk.states_.span().row_range(done - std::ssize(window), std::ssize(window)));
          walk.ends_.push_back(done);
          return {};
        });
    if (!embedded) return embedded.error();
    return walk;
  }

  [[nodiscard]] std::size_t stage() const noexcept { return stage_; }
  /// What the next stage is given: the residual stream of all windows' positions, (positions, hidden). Valid until
  /// advance().
  [[nodiscard]] matrix_span<float const> states() const noexcept { return states_.span(); }
  template <class Tap>
  [[nodiscard]] result<void> show(Tap&& tap) {
    return run(tap, [this](matrix_span<float> states) {
      auto const copy = shown_.span().row_range(0, states.rows);
      std::copy_n(states.data, states.rows * states.cols, copy.data);
      return copy;
    });
  }
  template <class Tap>
  [[nodiscard]] result<void> advance(Tap&& tap) {
    PARE_TRY_VOID(run(tap, [](matrix_span<float> states) { return states; }));
    ++stage_;
    return {};
  }

 private:
  llama_walk(llama const& net, index_t positions, index_t longest, progress report)
      : net_(&net),
        states_(positions, net.config().hidden_size),
        shown_(longest, net.config().hidden_size),
        cache_(net.config().heads, longest),
        work_(net, longest),
        report_(report) {}

  /// Takes place(states) through the stage, for the states (T, hidden) of every window.
  template <class Tap, class Place>
  result<void> run(Tap& tap, Place place) {
    PARE_EXPECTS(stage_ <= net_->blocks_.size(), "llama_walk: there is no stage left");
    index_t first = 0;
    for (index_t const end : ends_) {
      auto const window = states_.span().row_range(first, end - first);
      if (stage_ == net_->blocks_.size()) {  // the output layer sees a window's last position only
        tap(net_->head_, work_.read_out(window.row_range(window.rows - 1, 1)).transposed());
      } else {
        auto const states = place(window);
        for (index_t p = 0; p < states.rows; p += llama_workspace::piece) {
          index_t const count = std::min(llama_workspace::piece, states.rows - p);
          work_.run(stage_, cache_, p, states.row_range(p, count), tap);
        }
      }
      first = end;
      if (!report_("calibrate", end, states_.rows())) return error{errc::cancelled, "calibrate", "cancelled"};
    }
    return {};
  }

  llama const* net_;
  std::size_t stage_ = 0;
  matrix<float> states_;       // (positions, hidden)
  std::vector<index_t> ends_;  // of windows, in rows of states_
  matrix<float> shown_;        // a window's states while a stage is shown
  attention_cache cache_;
  llama_workspace work_;
  progress report_;
};
static_assert(stage_walk<llama_walk>);

/// Texts before the first block of a network; see llama_walk::start.
[[nodiscard]] inline result<llama_walk> walk(llama const& net, std::span<std::vector<int> const> sequences,
                                             progress report = {}) {
  return llama_walk::start(net, sequences, report);
}

}  // namespace pare::inline PARE_ABI
