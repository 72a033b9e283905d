// SPDX-License-Identifier: Apache-2.0
// The networks in double, straight from the formulas, as functions of their tensors: what forward and backward passes
// are compared with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "network/model_folder.hpp"

namespace pare::test {

using row = std::vector<double>;
using parameters = std::map<std::string, row>;

inline parameters in_double(model_folder const& f) {
  parameters p;
  for (auto const& [name, t] : f.tensors) p[name] = row(t.values.begin(), t.values.end());
  return p;
}

/// `name`.weight times x, plus `name`.bias where there is one.
inline row plain_linear(parameters const& p, std::string const& name, row const& x) {
  row const& w = p.at(name + ".weight");
  auto const bias = p.find(name + ".bias");
  row y(w.size() / x.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (bias != p.end()) y[i] = bias->second[i];
    for (std::size_t k = 0; k < x.size(); ++k) y[i] += w[i * x.size() + k] * x[k];
  }
  return y;
}

struct llama_sizes {
  index_t hidden = 10, intermediate = 14, layers = 2, query_heads = 4, key_heads = 2, head_size = 6, vocab = 23;
  bool tied = false;
  bool biases = true;
};

/// By default it has everything: grouped heads, heads that do not fill the hidden size, biases, and an output layer of
/// its own.
inline model_folder random_llama(llama_sizes const& s = {}) {
  model_folder f;
  f.config = {{"model_type", "llama"},
              {"hidden_size", s.hidden},
              {"intermediate_size", s.intermediate},
              {"num_hidden_layers", s.layers},
              {"num_attention_heads", s.query_heads},
              {"num_key_value_heads", s.key_heads},
              {"head_dim", s.head_size},
              {"vocab_size", s.vocab},
              {"max_position_embeddings", 700},
              {"rms_norm_eps", 1e-5},
              {"rope_theta", 500.0},
              {"tie_word_embeddings", s.tied},
              {"attention_bias", s.biases},
              {"mlp_bias", s.biases},
              {"bos_token_id", 1},
              {"eos_token_id", {2, 5}}};
  f.add("model.embed_tokens.weight", {s.vocab, s.hidden}, -1.0f, 1.0f);
  if (!s.tied) f.add("lm_head.weight", {s.vocab, s.hidden}, -1.0f, 1.0f);
  f.add("model.norm.weight", {s.hidden}, 0.5f, 1.5f);
  index_t const queries = s.query_heads * s.head_size;
  index_t const keys = s.key_heads * s.head_size;
  for (index_t i = 0; i < s.layers; ++i) {
    std::string const b = "model.layers." + std::to_string(i) + ".";
    f.add(b + "input_layernorm.weight", {s.hidden}, 0.5f, 1.5f);
    f.add(b + "post_attention_layernorm.weight", {s.hidden}, 0.5f, 1.5f);
    using shape_of_layer = std::pair<std::string, extents>;
    for (auto const& [name, e] :
         {shape_of_layer{"self_attn.q_proj", {queries, s.hidden}}, shape_of_layer{"self_attn.k_proj", {keys, s.hidden}},
          shape_of_layer{"self_attn.v_proj", {keys, s.hidden}}, shape_of_layer{"self_attn.o_proj", {s.hidden, queries}},
          shape_of_layer{"mlp.gate_proj", {s.intermediate, s.hidden}},
          shape_of_layer{"mlp.up_proj", {s.intermediate, s.hidden}},
          shape_of_layer{"mlp.down_proj", {s.hidden, s.intermediate}}}) {
      f.add(b + name + ".weight", {e.rows, e.cols});
      if (s.biases) f.add(b + name + ".bias", {e.rows});
    }
  }
  return f;
}

struct plain_sequence {
  std::vector<row> states;  // after the last norm
  std::vector<row> logits;
};

/// A Llama on tokens, position after position.
inline plain_sequence plain_llama(parameters const& p, nlohmann::json const& config, std::vector<int> const& tokens) {
  auto const size = [&](char const* key) { return config.at(key).get<std::size_t>(); };
  std::size_t const hidden = size("hidden_size");
  std::size_t const heads = size("num_attention_heads");
  std::size_t const group = heads / size("num_key_value_heads");
  std::size_t const width = size("head_dim");
  double const theta = config.at("rope_theta");
  double const epsilon = config.at("rms_norm_eps");
  auto const normalise = [&](std::string const& name, row x) {
    double square = 0;
    for (double const v : x) square += v * v;
    double const scale = 1.0 / std::sqrt(square / static_cast<double>(x.size()) + epsilon);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= scale * p.at(name + ".weight")[i];
    return x;
  };
  auto const turn = [&](row const& x, std::size_t position) {
    row y = x;
    for (std::size_t head = 0; head < x.size(); head += width)
      for (std::size_t i = 0; i < width / 2; ++i) {
        double const angle =
            static_cast<double>(position) * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width));
        double const a = x[head + i];
        double const b = x[head + i + width / 2];
        y[head + i] = a * std::cos(angle) - b * std::sin(angle);
        y[head + i + width / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
    return y;
  };
  auto const add = [](row& to, row const& x) {
    for (std::size_t i = 0; i < x.size(); ++i) to[i] += x[i];
  };
  std::vector<row> stream;
  for (int const token : tokens) {
    row const& e = p.at("model.embed_tokens.weight");
    auto const first = e.begin() + token * static_cast<std::ptrdiff_t>(hidden);
    stream.emplace_back(first, first + static_cast<std::ptrdiff_t>(hidden));
  }
  for (std::size_t layer = 0; layer < size("num_hidden_layers"); ++layer) {
    std::string const b = "model.layers." + std::to_string(layer) + ".";
    std::vector<row> keys, values, queries;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      row const x = normalise(b + "input_layernorm", stream[t]);
      queries.push_back(turn(plain_linear(p, b + "self_attn.q_proj", x), t));
      keys.push_back(turn(plain_linear(p, b + "self_attn.k_proj", x), t));
      values.push_back(plain_linear(p, b + "self_attn.v_proj", x));
    }
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      row attended(heads * width, 0.0);
      for (std::size_t h = 0; h < heads; ++h) {
        row weight(t + 1);
        double total = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          double dot = 0;
          for (std::size_t d = 0; d < width; ++d) dot += queries[t][h * width + d] * keys[s][h / group * width + d];
          total += weight[s] = std::exp(dot / std::sqrt(static_cast<double>(width)));
        }
        for (std::size_t s = 0; s <= t; ++s)
          for (std::size_t d = 0; d < width; ++d)
            attended[h * width + d] += weight[s] / total * values[s][h / group * width + d];
      }
      add(stream[t], plain_linear(p, b + "self_attn.o_proj", attended));
      row const x = normalise(b + "post_attention_layernorm", stream[t]);
      row gate = plain_linear(p, b + "mlp.gate_proj", x);
      row const up = plain_linear(p, b + "mlp.up_proj", x);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
      add(stream[t], plain_linear(p, b + "mlp.down_proj", gate));
    }
  }
  std::string const head = p.count("lm_head.weight") > 0 ? "lm_head" : "model.embed_tokens";
  plain_sequence out;
  for (row const& x : stream) {
    out.states.push_back(normalise("model.norm", x));
    out.logits.push_back(plain_linear(p, head, out.states.back()));
  }
  return out;
}

/// The layers fc1, fc2, ... on what the first one sees.
template <class Activation>
row plain_mlp(parameters const& p, row x, Activation activation) {
  for (int layer = 1; p.count("fc" + std::to_string(layer) + ".weight") > 0; ++layer) {
    if (layer > 1)
      for (double& v : x) v = activation(v);
    x = plain_linear(p, "fc" + std::to_string(layer), x);
  }
  return x;
}

inline void add_unit(model_folder& f, std::string const& conv, std::string const& norm, index_t out, index_t in) {
  f.add(conv + ".weight", {out, in, 3, 3});
  f.add(norm + ".weight", {out}, 0.5f, 1.5f);
  f.add(norm + ".bias", {out});
  f.add(norm + ".running_mean", {out});
  f.add(norm + ".running_var", {out}, 0.5f, 2.0f);
  f.add(norm + ".num_batches_tracked", {1});
}

/// A residual network of a depth and widths of no released model; the inner width of a stage's second block is its own.
inline model_folder random_resnet(std::vector<index_t> const& widths = {3, 5, 7}, index_t blocks = 2) {
  model_folder f;
  add_unit(f, "conv1", "bn1", widths[0], 3);
  index_t in = widths[0];
  for (std::size_t s = 0; s < 3; ++s)
    for (index_t b = 0; b < blocks; ++b) {
      std::string const prefix = "layer" + std::to_string(s + 1) + "." + std::to_string(b) + ".";
      index_t const inner = widths[s] + (b == 1 ? 1 : 0);
      add_unit(f, prefix + "conv1", prefix + "bn1", inner, in);
      add_unit(f, prefix + "conv2", prefix + "bn2", widths[s], inner);
      in = widths[s];
    }
  f.add("linear.weight", {7, in});
  f.add("linear.bias", {7});
  return f;
}

/// The logits of one image.
inline row plain_resnet(parameters const& p, std::vector<std::uint8_t> const& image) {
  struct map {
    index_t channels, side;
    row values;
    double at(index_t c, index_t y, index_t x) const {
      bool const inside = y >= 0 && x >= 0 && y < side && x < side;
      return inside ? values[static_cast<std::size_t>((c * side + y) * side + x)] : 0.0;
    }
  };
  auto const unit = [&](map const& x, std::string const& conv, std::string const& norm, index_t stride) {
    row const& w = p.at(conv + ".weight");
    row const& gain = p.at(norm + ".weight");
    map y{std::ssize(gain), x.side / stride, {}};
    for (std::size_t o = 0; o < gain.size(); ++o) {
      double const scale = gain[o] / std::sqrt(p.at(norm + ".running_var")[o] + 1e-5);
      double const shift = p.at(norm + ".bias")[o] - p.at(norm + ".running_mean")[o] * scale;
      for (index_t i = 0; i < y.side; ++i)
        for (index_t j = 0; j < y.side; ++j) {
          double v = 0;
          for (index_t c = 0; c < x.channels; ++c)
            for (index_t t = 0; t < 9; ++t)
              v += w[(o * static_cast<std::size_t>(x.channels) + static_cast<std::size_t>(c)) * 9 +
                     static_cast<std::size_t>(t)] *
                   x.at(c, i * stride + t / 3 - 1, j * stride + t % 3 - 1);
          y.values.push_back(v * scale + shift);
        }
    }
    return y;
  };
  auto const relu = [](map x) {
    for (double& v : x.values) v = std::max(v, 0.0);
    return x;
  };
  double const mean[] = {0.485, 0.456, 0.406};
  double const deviation[] = {0.229, 0.224, 0.225};
  map x{3, 32, {}};
  for (std::size_t i = 0; i < 3072; ++i) x.values.push_back((image[i] / 255.0 - mean[i / 1024]) / deviation[i / 1024]);
  x = relu(unit(x, "conv1", "bn1", 1));
  for (std::string const stage : {"layer1.", "layer2.", "layer3."})
    for (index_t b = 0; p.count(stage + std::to_string(b) + ".conv1.weight") > 0; ++b) {
      std::string const prefix = stage + std::to_string(b) + ".";
      index_t const stride = b == 0 && stage != "layer1." ? 2 : 1;
      auto y = unit(relu(unit(x, prefix + "conv1", prefix + "bn1", stride)), prefix + "conv2", prefix + "bn2", 1);
      index_t const pad = stride == 1 ? 0 : y.channels / 4;
      for (index_t c = 0; c < x.channels; ++c)
        for (index_t i = 0; i < y.side; ++i)
          for (index_t j = 0; j < y.side; ++j)
            y.values[static_cast<std::size_t>(((c + pad) * y.side + i) * y.side + j)] +=
                x.at(c, i * stride, j * stride);
      x = relu(y);
    }
  row pooled;
  for (index_t c = 0; c < x.channels; ++c) {
    double total = 0;
    for (index_t i = 0; i < x.side * x.side; ++i) total += x.at(c, i / x.side, i % x.side);
    pooled.push_back(total / static_cast<double>(x.side * x.side));
  }
  return plain_linear(p, "linear", pooled);
}

}  // namespace pare::test
