// SPDX-License-Identifier: Apache-2.0
// LAMP: scores of one layer that are comparable with those of others (Lee et al. 2021, arXiv 2010.07611).
#pragma once

#include <pare/score/rank.hpp>

namespace pare::inline PARE_ABI {

/// s_i / sum_{j >= i} s_j over the matrix's scores in ascending order; 0 where that sum is 0. The paper's criterion is
/// `magnitude{} | power{2.0} | lamp_share{}`, compared in scope::network: within one layer the order stays as it was.
/// Pre: no score is negative. O(n log n).
struct lamp_share {
  void apply(score_sink<float> scores) const {
    detail::for_each_pool(scores, scope::matrix, [](score_sink<float> s) {
      auto const order = detail::ascending(s);
      PARE_EXPECTS(order.empty() || order.front().score >= 0.0f, "lamp_share: scores must not be negative");
      std::vector<double> rest(order.size() + 1, 0.0);  // rest[i]: the sum from i on, the smallest terms added last
      for (std::size_t i = order.size(); i-- > 0;) rest[i] = rest[i + 1] + static_cast<double>(order[i].score);
      detail::rewrite_in_order(s, order, [&](std::size_t i) {
        return rest[i] == 0.0 ? 0.0f : static_cast<float>(static_cast<double>(order[i].score) / rest[i]);
      });
    });
  }
};

}  // namespace pare::inline PARE_ABI
