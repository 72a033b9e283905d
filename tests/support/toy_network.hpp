// SPDX-License-Identifier: Apache-2.0
// The smallest network: a list of linear layers, of which the last is left dense by default.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <pare/nn/network.hpp>

namespace pare::test {

struct toy_network {
  std::vector<linear> parts;

  [[nodiscard]] std::vector<linear*> layers() {
    std::vector<linear*> out;
    for (linear& l : parts) out.push_back(&l);
    return out;
  }
  [[nodiscard]] std::vector<linear const*> layers() const {
    std::vector<linear const*> out;
    for (linear const& l : parts) out.push_back(&l);
    return out;
  }
  [[nodiscard]] bool keeps_dense_by_default(linear const& layer) const { return &layer == &parts.back(); }
};
static_assert(network<toy_network>);

}  // namespace pare::test
