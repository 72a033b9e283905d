// SPDX-License-Identifier: Apache-2.0
// Channel permutation of a Llama model for N:M: the same function, of which a pattern keeps more.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Cholesky>
#include <Eigen/Core>

#include <pare/calibrate/gram.hpp>
#include <pare/nn/llama.hpp>
#include <pare/prune/calibration.hpp>
#include <pare/select/permute.hpp>

namespace pare::inline PARE_ABI {

namespace detail {
/// w^2 / [H^-1]_jj of the damped Gram matrix H: by how much the layer's squared error grows without a weight, where all
/// others make up for it (OBS). Errors: no samples; a Gram matrix that is not finite.
inline result<matrix<float>> obs_scores(linear const& layer, gram const& g, double damping) {
  index_t const n = g.features();
  if (g.samples() == 0) return error{errc::missing, layer.name(), "no calibration sample was seen"};
  Eigen::MatrixXd h(n, n);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < n; ++j) h(i, j) = static_cast<double>(g(i, j));
  double const mean = h.diagonal().mean();
  h.diagonal().array() += mean > 0.0 ? damping * mean : 1.0;
  Eigen::LLT<Eigen::MatrixXd> const llt(h);
  if (!h.allFinite() || llt.info() != Eigen::Success)
    return error{errc::not_finite, layer.name(), "the Gram matrix of the inputs has no Cholesky factor"};
  Eigen::MatrixXd const inverse = llt.solve(Eigen::MatrixXd::Identity(n, n));
  auto const w = layer.weight();
  matrix<float> scores(w.shape());
  for (index_t i = 0; i < w.rows; ++i)
    for (index_t j = 0; j < w.cols; ++j) {
      auto const v = static_cast<double>(w(i, j));
      scores(i, j) = static_cast<float>(v * v / inverse(j, j));
    }
  return scores;
}

/// The layer with its weights, bias and mask in another order of rows or of columns.
inline void reorder_rows(linear& layer, std::vector<index_t> const& order) {
  mask const keep = kept(layer.weights());
  mask moved(keep.shape());
  for (index_t i = 0; i < keep.rows(); ++i)
    std::copy_n(keep.row_words(order[static_cast<std::size_t>(i)]), keep.words_per_row(), moved.row_words(i));
  std::vector<float> const bias = layer.bias().empty() ? std::vector<float>{} : permuted(layer.bias(), order);
  auto dims = layer.tensor_shape();
  layer = linear(layer.name(), permute_rows(layer.weight(), order), bias);
  layer.tensor_shape(std::move(dims));
  layer.keep(moved);
}
inline void reorder_columns(linear& layer, std::vector<index_t> const& order) {
  mask const keep = kept(layer.weights());
  mask moved(keep.shape());
  for (index_t i = 0; i < keep.rows(); ++i)
    for (index_t j = 0; j < keep.cols(); ++j) moved.set(i, j, keep(i, order[static_cast<std::size_t>(j)]));
  layer.assign(permute_columns(layer.weight(), order), moved);
}
}  // namespace detail

/// What only a friend of the network can move: the order of the residual stream.
struct llama_permutation {
  /// Position j of the residual stream holds what position order[j] did: embedding, norms, and all layers that read or
  /// write it. The network computes what it did. Pre: a permutation of hidden_size.
  static void reorder_hidden(llama& net, std::vector<index_t> const& order) {
    if (!net.config_.tied) net.embedding_ = permute_columns(net.embedding_, order);
    for (llama::block& b : net.blocks_) {
      b.attention_norm = permuted(b.attention_norm, order);
      b.feed_forward_norm = permuted(b.feed_forward_norm, order);
      for (linear* reads : {&b.q, &b.k, &b.v, &b.gate, &b.up}) detail::reorder_columns(*reads, order);
      for (linear* writes : {&b.o, &b.down}) detail::reorder_rows(*writes, order);
    }
    net.norm_ = permuted(net.norm_, order);
    detail::reorder_columns(net.head_, order);
  }
};

/// Reorders the channels of the residual stream, the feed-forward channels of every block, and the value channels
/// within every key/value head, so that N:M keeps the most of the OBS scores of the layers that read them (ASP's
/// search, Pool & Yu 2021). What writes them is reordered alike, so that the network computes what it did; masks and
/// biases move along. Then prune it. To write it, save_pruned must be given all that moved (tensors_to_save::add_others).
///
/// stats:   the Gram matrices of the network as it is, which must be collected anew afterwards.
/// Returns: how many times the score that N:M would have kept it keeps now, over all these matrices; at least 1.
/// Errors:  a pattern that does not tile down_proj or the channels of a head; those of the statistics; cancelled. On
///          error the network is as it was.
template <sparsity_pattern P>
[[nodiscard]] result<double> permute_channels(llama& net, P const& pattern, calibration<statistics<gram>> const& stats,
                                              permute_options const& options = {}, double damping = 0.01) {
  constexpr std::size_t v = 2, o = 3, gate = 4, up = 5, down = 6;  // in a block's layers
  auto const reads_stream = [](std::size_t layer) {
    std::size_t const kind = layer % llama::layers_per_block;
    return kind != o && kind != down;
  };
  head_layout const heads = net.config().heads;
  index_t const queries = heads.query_heads / heads.key_heads;  // that share a head's values
  if (pattern.of() == 0)
    return error{errc::unsupported, "pattern " + to_string(any_pattern(pattern)), "only N:M depends on the order"};
  PARE_EXPECTS(stats.size() == std::as_const(net).layers().size(),
               "permute_channels: the statistics are of another network");
  for (linear const* l : std::as_const(net).layers())
    if (!fits(pattern, l->shape()))
      return error{errc::pattern_misfit, "pattern " + to_string(any_pattern(pattern)), "it does not tile " + l->name()};
  if (heads.size % pattern.of() != 0)
    return error{errc::pattern_misfit, "pattern " + to_string(any_pattern(pattern)),
                 "it does not tile the " + std::to_string(heads.size) + " channels of a head"};
  llama out = net;
  auto const layers = out.layers();
  double before = 0.0;
  double after = 0.0;

  index_t const hidden = net.config().hidden_size;
  index_t rows = 0;
  for (std::size_t l = 0; l + 1 < layers.size(); ++l)
    if (reads_stream(l)) rows += layers[l]->shape().rows;
  matrix<float> stream(rows, hidden);  // the scores of all layers that read the residual stream, below each other
  index_t row = 0;
  for (std::size_t l = 0; l + 1 < layers.size(); ++l) {
    if (!reads_stream(l)) continue;
    PARE_TRY(auto const scores, detail::obs_scores(*layers[l], stats[l].template get<gram>(), damping));
    for (index_t i = 0; i < scores.rows(); ++i) std::copy_n(scores.row(i), hidden, stream.row(row++));
  }
  PARE_TRY(auto const of_stream, find_permutation(stream.span(), pattern, options));
  before += of_stream.kept_before;
  after += of_stream.kept_after;
  for (std::size_t first = 0; first + down < layers.size(); first += llama::layers_per_block) {
    PARE_TRY(auto const of_down,
             detail::obs_scores(*layers[first + down], stats[first + down].template get<gram>(), damping));
    PARE_TRY(auto const found, find_permutation(of_down.span(), pattern, options));
    before += found.kept_before;
    after += found.kept_after;
    detail::reorder_columns(*layers[first + down], found.order);
    detail::reorder_rows(*layers[first + gate], found.order);
    detail::reorder_rows(*layers[first + up], found.order);

    PARE_TRY(auto const of_o, detail::obs_scores(*layers[first + o], stats[first + o].template get<gram>(), damping));
    std::vector<index_t> values;   // the order of v's rows
    std::vector<index_t> columns;  // of o's columns
    for (index_t head = 0; head < heads.key_heads; ++head) {
      matrix<float> shared(of_o.rows() * queries, heads.size);  // its query heads' columns of o, below each other
      for (index_t q = 0; q < queries; ++q)
        for (index_t i = 0; i < of_o.rows(); ++i)
          for (index_t j = 0; j < heads.size; ++j)
            shared(q * of_o.rows() + i, j) = of_o(i, (head * queries + q) * heads.size + j);
      PARE_TRY(auto const within, find_permutation(shared.span(), pattern, options));
      before += within.kept_before;
      after += within.kept_after;
      for (index_t const j : within.order) values.push_back(head * heads.size + j);
      for (index_t q = 0; q < queries; ++q)
        for (index_t const j : within.order) columns.push_back((head * queries + q) * heads.size + j);
    }
    detail::reorder_columns(*layers[first + o], columns);
    detail::reorder_rows(*layers[first + v], values);
  }
  llama_permutation::reorder_hidden(out, of_stream.order);
  net = std::move(out);
  return before > 0.0 ? after / before : 1.0;
}

}  // namespace pare::inline PARE_ABI
