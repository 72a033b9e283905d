// SPDX-License-Identifier: Apache-2.0
// The whole way on real networks: calibrate, prune, run sparse, save, load, and the same answer at each step.
#include <pare/io/cifar.hpp>
#include <pare/io/npy.hpp>
#include <pare/io/save_pruned.hpp>
#include <pare/kernel/thread_pool.hpp>
#include <pare/nn/any_network.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/network.hpp>
#include <pare/prune/prune.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/wanda.hpp>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/data.hpp"

namespace {

using namespace pare;

/// A folder's name that is free, removed at the end.
struct scratch_folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() /
                               ("pare-pruned-" + std::to_string(std::rand()) + "-" + std::to_string(getpid()));
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

/// Saves the pruned layers of `net`, whose dense form is `source`, and opens what was written.
template <network Net>
checkpoint saved(Net const& net, std::filesystem::path const& source, std::filesystem::path const& out,
                 save_form form) {
  std::vector<mask> masks;
  std::vector<pruned_weight> weights;
  for (linear const* l : net.layers()) masks.push_back(kept(l->weights()));
  for (std::size_t i = 0; i < masks.size(); ++i)
    if (!masks[i].keeps_all()) weights.push_back({net.layers()[i]->name(), net.layers()[i]->weight(), &masks[i]});
  save_pruned(source, out, weights, form).value();
  return checkpoint::open(out).value();
}

template <class M>
bool same_bits(M const& a, M const& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

double largest_difference(matrix<float> const& a, matrix<float> const& b) {
  double most = 0.0;
  for (index_t i = 0; i < a.size(); ++i)
    most = std::max(most, std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
  return most;
}

/// Runs `forward` densely masked, sparse, on two threads, and from a saved file; all must agree.
template <network Net, class Forward>
void require_same_everywhere(Net& net, std::filesystem::path const& source, Forward forward) {
  matrix<float> const masked = forward(net);
  prepare(net, {.columns = 64, .may_be_dense = false});
  std::size_t sparse_layers = 0;
  for (linear const* l : net.layers()) sparse_layers += std::string(l->operand_name()) != "dense" ? 1 : 0;
  CHECK(sparse_layers > 0);
  matrix<float> const sparse = forward(net);
  CHECK(largest_difference(masked, sparse) < 1e-4);
  thread_pool pool(2);
  run_on(net, pool);
  CHECK(same_bits(forward(net), sparse));
  run_on(net, {});
  for (save_form const form : {save_form::sparse_bitmask, save_form::dense}) {
    scratch_folder const folder;
    auto again = Net::load(saved(net, source, folder.path, form)).value();
    CHECK(count_weights(again).kept <=
          count_weights(net).kept);  // a kept weight may be 0, which a dense file cannot tell
    CHECK(same_bits(forward(again), masked));
    prepare(again, {.columns = 64, .may_be_dense = false});
    if (form == save_form::sparse_bitmask) CHECK(same_bits(forward(again), sparse));
  }
}

}  // namespace

TEST_CASE("a pruned language model runs sparse and comes back from its file") {
  auto const folder = test::data("stories260K");
  if (!folder) return;
  auto const file = checkpoint::open(*folder).value();
  std::vector<int> const ids = read_npy_ints(*folder / "ref_tokens_once_upon_a_time.npy").value();
  auto const forward = [&](llama const& net) {
    matrix<float> logits(std::ssize(ids), net.config().vocab_size);
    net.forward(ids, logits.span());
    return logits;
  };
  auto const dense = llama::load(file).value();
  calibration<wanda::needs> stats(dense);
  matrix<float> logits(std::ssize(ids), dense.config().vocab_size);
  dense.forward(ids, logits.span(), stats);
  calibration<magnitude::needs> const none(dense);

  SECTION("Wanda, 2:4") {
    auto net = llama::load(file).value();
    auto const done = prune(net, wanda{}, n_of_m<2, 4>{}, sparsity(0.5), stats).value();
    CHECK(done.size() == 35);
    for (auto const& layer : done) CHECK(layer.kept * 2 == layer.shape.size());
    require_same_everywhere(net, *folder, forward);
  }
  SECTION("magnitude, 4x1 blocks, half of them") {
    auto net = llama::load(file).value();
    prune(net, magnitude{}, block<4, 1>{}, sparsity(0.5), none).value();
    require_same_everywhere(net, *folder, forward);
  }
  SECTION("magnitude, unstructured, 97 %") {
    auto net = llama::load(file).value();
    prune(net, magnitude{}, unstructured{}, sparsity(0.97), none).value();
    require_same_everywhere(net, *folder, forward);
  }
}

TEST_CASE("a pruned ResNet-20 runs sparse, comes back from its file, and still sees") {
  auto const path = test::data("cifar/resnet20.safetensors");
  auto const data = test::data("cifar/cifar10_train_0000-0999.bin");
  if (!path || !data) return;
  auto const images = read_cifar(*data).value();
  index_t const count = 24;
  matrix_span<std::uint8_t const> const inputs(images.pixels.data(), count, resnet::input_size());
  auto const forward = [&](resnet const& net) {
    matrix<float> logits(count, net.classes());
    net.forward(inputs, logits.span());
    return logits;
  };
  auto const file = checkpoint::open(*path).value();
  auto net = resnet::load(file).value();
  calibration<wanda::needs> stats(net);
  matrix<float> logits(count, net.classes());
  net.forward(inputs, logits.span(), stats);
  auto const done = prune(net, wanda{}, unstructured{}, sparsity(0.5), stats).value();
  CHECK(done.size() == 18);  // all but the first convolution and the classifier
  std::vector<std::uint8_t> const labels(images.labels.begin(), images.labels.begin() + count);
  CHECK(accuracy(net, inputs, labels).value().accuracy > 0.8);
  // The file has no configuration, so the saved one must name the network for load_network; resnet::load needs none.
  require_same_everywhere(net, *path, forward);
}
