// SPDX-License-Identifier: Apache-2.0
// What the pieces that have no name on the command line give, beside what they must beat: the tables of
// docs/methods.md.
//
//     pare_pieces [--data FOLDER] [--lenet FOLDER] [texts] [lenet] [resnet] [initialisation] [dare]
//
// All tables, or those that are named; a line is a share that goes, a column a method. LeNet-300-100 is what
// `pare_train --task mnist --hidden 300,100 -o lenet` writes; lenet and initialisation need it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <pare/allocate/drop_blocks.hpp>
#include <pare/allocate/global.hpp>
#include <pare/calibrate/block_similarity.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/io/tokenizer.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/feed.hpp>
#include <pare/nn/feed_gradients.hpp>
#include <pare/nn/llama_walk.hpp>
#include <pare/nn/mlp.hpp>
#include <pare/nn/resnet.hpp>
#include <pare/prune/bias_compensation.hpp>
#include <pare/prune/dare.hpp>
#include <pare/prune/grasp.hpp>
#include <pare/prune/lift.hpp>
#include <pare/prune/low_rank.hpp>
#include <pare/prune/prune.hpp>
#include <pare/prune/synflow.hpp>
#include <pare/score/channel_norm.hpp>
#include <pare/score/fluctuation.hpp>
#include <pare/score/fpgm.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/quick_selection.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/snip.hpp>
#include <pare/score/wanda.hpp>

#include "sparse_training/methods.hpp"
#include "support/data_set.hpp"
#include "support/must.hpp"

namespace {

using namespace pare;
using bench::must;
using program::labelled_images;

// ---- what all tables share

void print_head(std::string const& title, std::vector<char const*> const& columns) {
  std::printf("\n%s\n%-6s", title.c_str(), "");
  for (char const* const c : columns) std::printf(" %14s", c);
  std::printf("\n");
}

/// share: what goes.
void print_line(double share, std::vector<double> const& cells) {
  std::printf("%3.0f %% ", 100.0 * share);
  for (double const c : cells) std::printf(" %14.4g", c);
  std::printf("\n");
  std::fflush(stdout);
}

/// Of f(seed).
template <class F>
double mean_over_seeds(std::uint64_t count, F f) {
  double sum = 0.0;
  for (std::uint64_t seed = 0; seed < count; ++seed) sum += f(seed);
  return sum / static_cast<double>(count);
}

template <network N, criterion C, budget_allocator A = uniform>
N pruned(N net, C const& by, double share, calibration<typename C::needs> const& stats, A const& budget = {},
         any_pattern const& pattern = unstructured{}, prune_settings const& settings = {}) {
  must(prune(net, by, pattern, sparsity(share), stats, budget, settings));
  return net;
}

/// Whole columns of a matrix of so many rows: input channels.
any_pattern columns_of(index_t rows) { return any_pattern({rows, 1}, 0, 0); }

std::span<std::uint8_t const> labels_of(labelled_images const& set) { return set.labels; }

// ---- stories260K

struct text_task {
  llama net;
  tokenizer words;
  std::vector<std::vector<int>> calibration;
  std::string test;

  [[nodiscard]] double perplexity_of(llama const& n) const {
    auto const r = perplexity(n, words, test, {.chunk_bytes = 600});
    return r ? r->perplexity : HUGE_VAL;
  }
  [[nodiscard]] std::span<std::vector<int> const> data() const { return calibration; }
};

text_task read_text_task(std::string const& folder) {
  constexpr index_t calibration_end = 100'000, test_first = 200'000, test_end = 300'000;
  auto net = must(llama::load(must(checkpoint::open(folder + "/stories260K"))));
  auto words = must(tokenizer::open(folder + "/stories260K/tokenizer.bin", net.config().vocab_size));
  std::string const text = must(program::read_text(folder + "/text/tinystories_val.txt", test_end));
  auto calibration = must(encode_chunks(words, text.substr(0, calibration_end), 600));
  return {std::move(net), std::move(words), std::move(calibration), text.substr(test_first)};
}

void text_criteria(text_task const& t) {
  calibration<statistics<>> const none(t.net);
  calibration<wanda::needs> norms(t.net);
  must(feed(t.net, t.data(), norms));
  calibration<snip::needs> gradients(t.net);
  must(feed_gradients(t.net, t.data(), gradients));
  print_head("stories260K, single weights: perplexity",
             {"magnitude", "Wanda", "LIFT, rank 48", "rank 32", "rank 16", "SNIP, network"});
  for (double const share : {0.3, 0.5}) {
    std::vector<double> cells{t.perplexity_of(pruned(t.net, magnitude{}, share, none)),
                              t.perplexity_of(pruned(t.net, wanda{}, share, norms))};
    for (index_t const rank : {48, 32, 16})
      cells.push_back(t.perplexity_of(pruned(t.net, lift{.rank = rank}, share, none)));
    cells.push_back(t.perplexity_of(pruned(t.net, snip{}, share, gradients, global{})));
    print_line(share, cells);
  }
}

/// What the removed inputs of down_proj gave in the mean, in its bias.
llama compensated(llama net, llama const& dense, calibration<fluctuation::needs> const& seen) {
  for (std::size_t l = llama::layers_per_block - 1; l < net.layers().size(); l += llama::layers_per_block) {
    linear& down = *net.layers()[l];
    auto const& moments = seen[l].get<input_moments>();
    std::vector<double> means;
    for (index_t j = 0; j < moments.features(); ++j) means.push_back(moments.mean(j));
    std::vector<float> bias(static_cast<std::size_t>(down.shape().rows), 0.0f);
    compensate_bias(dense.layers()[l]->weight(), kept(down.weights()), means, bias);
    down.assign_bias(std::move(bias));
  }
  return net;
}

void text_channels(text_task const& t) {
  calibration<statistics<>> const none(t.net);
  calibration<channel_norm::needs> norms(t.net);
  must(feed(t.net, t.data(), norms));
  calibration<fluctuation::needs> moments(t.net);
  must(feed(t.net, t.data(), moments));
  // A channel that down_proj does not read is gone, whatever gate_proj and up_proj compute.
  prune_settings const only_down{.skip = {"*self_attn*", "*gate_proj*", "*up_proj*"}};
  any_pattern const channels = columns_of(t.net.config().hidden_size);
  print_head("stories260K, feed-forward channels: perplexity",
             {"random", "L2 norm", "CFSP", "wanda_base", "FLAP", "FLAP with bias", "ifv with bias"});
  for (double const share : {0.1, 0.25, 0.5}) {
    auto const without = [&](auto const& by, auto const& stats) {
      return pruned(t.net, by, share, stats, uniform{}, channels, only_down);
    };
    using norm = channel_norm::metric;
    fluctuation const ifv{.by = fluctuation::metric::ifv};
    print_line(share,
               {std::exp(mean_over_seeds(
                    5, [&](std::uint64_t s) { return std::log(t.perplexity_of(without(random_score{s}, none))); })),
                t.perplexity_of(without(channel_norm{.by = norm::mag_base}, norms)),
                t.perplexity_of(without(channel_norm{}, norms)),
                t.perplexity_of(without(channel_norm{.by = norm::wanda_base}, norms)),
                t.perplexity_of(without(fluctuation{}, moments)),
                t.perplexity_of(compensated(without(fluctuation{}, moments), t.net, moments)),
                t.perplexity_of(compensated(without(ifv, moments), t.net, moments))});
  }
}

/// ShortGPT's, one a block.
std::vector<double> block_influences(text_task const& t) {
  auto texts = must(walk(t.net, t.data()));
  std::vector<double> out;
  for (index_t b = 0; b < t.net.config().layers; ++b) {
    matrix<float> const before(texts.states());
    must(texts.advance(no_tap{}));
    block_similarity change;
    change.add(before.span(), texts.states());
    out.push_back(change.influence());
  }
  return out;
}

void text_blocks(text_task const& t) {
  calibration<statistics<>> const none(t.net);
  std::vector<double> const influences = block_influences(t);
  std::size_t const blocks = influences.size();
  auto const without = [&](std::vector<double> importances, int count) {
    double const share = static_cast<double>(count) / static_cast<double>(blocks);
    return t.perplexity_of(pruned(t.net, magnitude{}, share, none, drop_blocks{std::move(importances)}));
  };
  std::printf("\nstories260K, whole blocks: influence, and perplexity without it\n");
  for (std::size_t b = 0; b < blocks; ++b) {
    std::vector<double> importances(blocks, 1.0);
    importances[b] = 0.0;
    std::printf("block %zu %14.3f %14.4g\n", b + 1, influences[b], without(importances, 1));
  }
  double best = HUGE_VAL;
  for (std::size_t a = 0; a < blocks; ++a)
    for (std::size_t b = a + 1; b < blocks; ++b) {
      std::vector<double> importances(blocks, 1.0);
      importances[a] = importances[b] = 0.0;
      best = std::min(best, without(importances, 2));
    }
  std::printf("without the two of least influence %.4g, without the best two %.4g\n", without(influences, 2), best);
}

void texts(std::string const& folder) {
  text_task const t = read_text_task(folder);
  std::printf("stories260K: dense %.4g\n", t.perplexity_of(t.net));
  text_criteria(t);
  text_channels(t);
  text_blocks(t);
}

// ---- classifiers

template <network N>
struct image_task {
  N net;
  labelled_images calibration, test;

  [[nodiscard]] double accuracy_of(N const& n) const {
    return 100.0 * must(accuracy(n, test.images.span(), test.labels, 100)).accuracy;
  }
};

/// Magnitude, the same with one pool over the network, LIFT, SNIP.
template <network N>
std::vector<double> by_criteria(image_task<N> const& t, double share) {
  calibration<statistics<>> const none(t.net);
  calibration<snip::needs> gradients(t.net);
  must(feed_gradients(t.net, t.calibration.images.span(), labels_of(t.calibration), gradients));
  return {t.accuracy_of(pruned(t.net, magnitude{}, share, none)),
          t.accuracy_of(pruned(t.net, magnitude{}, share, none, global{})),
          t.accuracy_of(pruned(t.net, lift{.rank = 32}, share, none)),
          t.accuracy_of(pruned(t.net, snip{}, share, gradients, global{}))};
}

/// The input that a perceptron's first layer sees as ones.
matrix<float> input_of_ones(mlp const& net) {
  matrix<float> ones(1, net.input_size());
  mlp_config const& c = net.config();
  std::fill_n(ones.data(), ones.size(), (c.input_std + c.input_mean) / c.input_scale);
  return ones;
}

mlp by_synflow(mlp net, double share, prune_settings const& settings = {}) {
  must(synflow(net, input_of_ones(net).span(), unstructured{}, sparsity(share), 100, settings));
  return net;
}

/// GraSP with one pool over the network, of the loss of logits / temperature.
mlp by_grasp(mlp net, labelled_images const& images, float temperature, double share,
             prune_settings const& settings = {}) {
  auto const loss_gradients = [&](mlp const& n, auto&& tap) {
    return backward(n, images.images.span(), tempered(cross_entropy(images.labels, reduction::sum), temperature), tap);
  };
  auto const stats = must(grasp_gradients(net, loss_gradients));
  return pruned(std::move(net), grasp{}, share, stats, global{}, unstructured{}, settings);
}

/// u v + added.
matrix<float> product(low_rank const& f, matrix_span<float const> added = {}) {
  matrix<float> out(f.u.rows(), f.v.cols());
  linear("u", f.u).forward(f.v.span(), out.span(), {.added = added});
  return out;
}

/// The rank at which the factors of w hold a share of its weights.
index_t rank_for(matrix_span<float const> w, double share) {
  return static_cast<index_t>(share * static_cast<double>(w.rows * w.cols) / static_cast<double>(w.rows + w.cols));
}

/// The network with approximate(layer's number, weights) in all layers that are pruned by default.
template <class F>
mlp approximated(mlp net, F approximate) {
  auto const layers = net.layers();
  for (std::size_t l = 0; l < layers.size(); ++l)
    if (!net.keeps_dense_by_default(*layers[l]))
      layers[l]->assign(approximate(l, layers[l]->weight()), mask(layers[l]->shape(), true));
  return net;
}

/// SVD, FWSVD, and LOST with half of the parameters in the factors and half as single weights, then as whole columns.
std::vector<double> by_factors(image_task<mlp> const& t, double share) {
  double const stays = 1.0 - share;
  calibration<statistics<fisher>> information(t.net);
  must(feed_gradients(t.net, t.calibration.images.span(), labels_of(t.calibration), information));
  auto const svd = [&](std::size_t, auto w) { return product(must(truncated_svd(w, rank_for(w, stays)))); };
  auto const weighted = [&](std::size_t l, auto w) {
    fisher const& f = information[l].get<fisher>();
    matrix<float> diagonal(w.shape());
    for (index_t i = 0; i < w.rows; ++i)
      for (index_t j = 0; j < w.cols; ++j) diagonal(i, j) = static_cast<float>(f(i, j));
    return product(must(fwsvd(w, diagonal.span(), rank_for(w, stays))));
  };
  auto const lost = [&](bool columns) {
    return [=](std::size_t, auto w) {
      auto const pattern = columns ? columns_of(w.rows) : any_pattern(unstructured{});
      auto const split = must(split_low_rank_sparse(w, rank_for(w, stays / 2.0), pattern, sparsity(1.0 - stays / 2.0)));
      return product(split.low, split.sparse.span());
    };
  };
  return {t.accuracy_of(approximated(t.net, svd)), t.accuracy_of(approximated(t.net, weighted)),
          t.accuracy_of(approximated(t.net, lost(false))), t.accuracy_of(approximated(t.net, lost(true)))};
}

void lenet_criteria(image_task<mlp> const& t) {
  print_head("LeNet-300-100: accuracy", {"magnitude", "mag., network", "LIFT, rank 32", "SNIP, network", "SynFlow",
                                         "GraSP, network", "SVD (TRP)", "FWSVD", "LOST", "LOST, columns"});
  for (double const share : {0.5, 0.9}) {
    std::vector<double> cells = by_criteria(t, share);
    cells.push_back(t.accuracy_of(by_synflow(t.net, share)));
    cells.push_back(t.accuracy_of(by_grasp(t.net, t.calibration, 200.0f, share)));
    for (double const c : by_factors(t, share)) cells.push_back(c);
    print_line(share, cells);
  }
}

void lenet_pixels(image_task<mlp> const& t) {
  calibration<statistics<>> const none(t.net);
  calibration<channel_norm::needs> const unseen(t.net);  // the norm of weights asks for norms of inputs, and reads none
  prune_settings const only_first{.skip = {"fc2*", "fc3*"}};
  any_pattern const pixels = columns_of(t.net.layers().front()->shape().rows);
  print_head("LeNet-300-100 without pixels: accuracy", {"QuickSelection", "random", "L2 norm"});
  for (double const share : {0.5, 0.7, 0.9}) {
    auto const without = [&](auto const& by, auto const& stats) {
      return t.accuracy_of(pruned(t.net, by, share, stats, uniform{}, pixels, only_first));
    };
    print_line(share, {without(quick_selection{}, none),
                       mean_over_seeds(20, [&](std::uint64_t s) { return without(random_score{s}, none); }),
                       without(channel_norm{.by = channel_norm::metric::mag_base}, unseen)});
  }
}

void lenet(std::string const& mnist, std::string const& folder) {
  image_task<mlp> const t{must(mlp::load(must(checkpoint::open(folder)))),
                          must(program::read_images(mnist, program::split::train, 1000)),
                          must(program::read_images(mnist, program::split::test))};
  std::printf("LeNet-300-100: dense %.4g\n", t.accuracy_of(t.net));
  lenet_criteria(t);
  lenet_pixels(t);
}

/// Without a share of the filters of each convolution but the first: rows, whose lengths differ from layer to layer.
template <criterion C>
resnet without_filters(resnet net, C by, double share) {
  for (linear* const l : net.layers()) {
    if (net.keeps_dense_by_default(*l)) continue;
    if constexpr (requires { by.seed; }) ++by.seed;
    any_pattern const filters({1, l->shape().cols}, 0, 0);
    l->keep(select(score(l->weight(), by), filters, sparsity(share), scope::matrix));
  }
  return net;
}

void resnet_tables(std::string const& cifar) {
  image_task<resnet> const t{must(resnet::load(must(checkpoint::open(cifar + "/resnet20.safetensors")))),
                             must(program::read_images(cifar, program::split::train, 300)),
                             must(program::read_images(cifar, program::split::test, 1000))};
  std::printf("ResNet-20: dense %.4g\n", t.accuracy_of(t.net));
  print_head("ResNet-20: accuracy", {"magnitude", "mag., network", "LIFT, rank 32", "SNIP, network"});
  print_line(0.5, by_criteria(t, 0.5));
  print_head("ResNet-20 without filters: accuracy", {"FPGM", "L1 norm", "random"});
  for (double const share : {0.1, 0.2, 0.3})
    print_line(share,
               {t.accuracy_of(without_filters(t.net, fpgm{}, share)),
                t.accuracy_of(without_filters(t.net, magnitude{}, share)), mean_over_seeds(5, [&](std::uint64_t s) {
                  return t.accuracy_of(without_filters(t.net, random_score{100 * s}, share));
                })});
}

// ---- perceptrons that are trained here, as pare_sparse_training trains them

std::vector<index_t> const lenet_sizes{784, 300, 100, 10};

/// An experiment before its training.
demo::experiment experiment_on(demo::task const& data, std::uint64_t seed) {
  random_source random(seed);
  return {.data = &data, .start = demo::draw_mlp(lenet_sizes, random), .training = {.steps = 800, .seed = seed}};
}

/// The network `shape` with the weights of another.
mlp with_weights(mlp shape, demo::mlp_weights const& of) {
  auto const layers = shape.layers();
  for (std::size_t l = 0; l < layers.size(); ++l) *layers[l] = linear(layers[l]->name(), of.weights[l], of.biases[l]);
  return shape;
}

std::vector<mask> masks_of(mlp const& net) {
  std::vector<mask> out;
  for (linear const* const l : net.layers()) out.push_back(kept(l->weights()));
  return out;
}

/// Masks by methods of initialisation before a training that never changes them.
void initialisation(std::string const& mnist, std::string const& folder) {
  constexpr std::uint64_t seeds = 3;
  demo::task const data = must(demo::mnist_task(mnist));
  labelled_images const images = must(program::read_images(mnist, program::split::train, 1000));
  mlp const shape = must(mlp::load(must(checkpoint::open(folder))));
  prune_settings const all{.all_layers = true};
  print_head("before training: accuracy after it, mean of three seeds",
             {"SNIP", "GraSP, T 200", "GraSP, T 1", "SynFlow", "magnitude"});
  for (double const share : {0.8, 0.9, 0.98}) {
    std::vector<double> cells(5, 0.0);
    for (std::uint64_t n = 1; n <= seeds; ++n) {
      demo::experiment const e = experiment_on(data, random_source(n).bits());
      mlp const start = with_weights(shape, e.start);
      calibration<snip::needs> gradients(start);
      must(feed_gradients(start, images.images.span(), labels_of(images), gradients));
      calibration<statistics<>> const none(start);
      std::vector<mlp> const sparse{pruned(start, snip{}, share, gradients, global{}, unstructured{}, all),
                                    by_grasp(start, images, 200.0f, share, all),
                                    by_grasp(start, images, 1.0f, share, all), by_synflow(start, share, all),
                                    pruned(start, magnitude{}, share, none, global{}, unstructured{}, all)};
      for (std::size_t m = 0; m < sparse.size(); ++m)
        cells[m] += 100.0 * demo::train_masked(e, masks_of(sparse[m])).accuracy / static_cast<double>(seeds);
    }
    print_line(share, cells);
  }
}

/// Digits with black and white exchanged, to within the normalisation.
demo::task exchanged(demo::task t) {
  for (demo::samples* const s : {&t.train, &t.test})
    for (index_t i = 0; i < s->images.size(); ++i) s->images.data()[i] = -s->images.data()[i];
  return t;
}

/// base with what is left of the changes to `tuned`, divided by q.
demo::mlp_weights merged(demo::mlp_weights const& base, demo::mlp_weights const& tuned, double dropped, dare_draw draw,
                         double q, std::uint64_t seed) {
  demo::mlp_weights out = tuned;
  for (std::size_t l = 0; l < out.weights.size(); ++l) {
    matrix<float> const delta = delta_of(tuned.weights[l].span(), base.weights[l].span());
    mask const keep = dare_mask(delta.span(), sparsity(dropped), draw, seed + l);
    out.weights[l] = dare_merge(base.weights[l].span(), delta.span(), keep, q);
  }
  return out;
}

/// A network trained on the digits and tuned to others, of whose changes most are dropped.
void dare(std::string const& mnist) {
  demo::task const data = must(demo::mnist_task(mnist));
  demo::task const other = exchanged(data);
  auto const base = demo::train_dense(experiment_on(data, 5)).network;
  auto const tuned =
      demo::train_dense({.data = &other, .start = base, .training = {.steps = 400, .learning_rate = 3e-4, .seed = 10}})
          .network;
  auto const accuracy_of = [&](demo::mlp_weights const& w) {
    return 100.0 * demo::accuracy(w, other.test.images, other.test.labels);
  };
  std::printf("\nDARE: accuracy on the other digits before tuning %.4g, tuned %.4g\n", accuracy_of(base),
              accuracy_of(tuned));
  print_head("DARE: accuracy, of random masks the mean of three seeds", {"DARE", "not rescaled", "magnitude"});
  for (double const share : {0.5, 0.9, 0.98}) {
    auto const by_draw = [&](dare_draw draw, double q, std::uint64_t seed) {
      return accuracy_of(merged(base, tuned, share, draw, q, seed));
    };
    auto const random = [&](double q) {
      return mean_over_seeds(3, [&](std::uint64_t s) { return by_draw(dare_draw::bernoulli, q, 100 * s); });
    };
    print_line(share, {random(1.0 - share), random(1.0), by_draw(dare_draw::magnitude, 1.0, 0)});
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view names[] = {"texts", "lenet", "resnet", "initialisation", "dare"};
  std::string data = PARE_DATA_DIR, lenet_folder = "lenet";
  std::vector<std::string_view> chosen;
  for (int i = 1; i < argc; ++i) {
    std::string_view const a = argv[i];
    if (a == "--data" && i + 1 < argc) {
      data = argv[++i];
    } else if (a == "--lenet" && i + 1 < argc) {
      lenet_folder = argv[++i];
    } else if (std::find(std::begin(names), std::end(names), a) != std::end(names)) {
      chosen.push_back(a);
    } else {
      std::fprintf(stderr,
                   "usage: %s [--data FOLDER] [--lenet FOLDER] [texts] [lenet] [resnet] [initialisation] [dare]\n",
                   argv[0]);
      return 2;
    }
  }
  auto const wants = [&](std::string_view name) {
    return chosen.empty() || std::find(chosen.begin(), chosen.end(), name) != chosen.end();
  };
  if (wants("texts")) texts(data);
  if (wants("lenet")) lenet(data + "/mnist", lenet_folder);
  if (wants("resnet")) resnet_tables(data + "/cifar");
  if (wants("initialisation")) initialisation(data + "/mnist", lenet_folder);
  if (wants("dare")) dare(data + "/mnist");
  return 0;
}
