// SPDX-License-Identifier: Apache-2.0
// Pruning for a domain: what methods that know the domain, or the domain and what is general, cost in either.
//
//     pare_domains [--data FOLDER] [--sparsity S] [--calib BYTES] [--test BYTES] [--embeddings] [--structured]
//
// General data is TinyStories, the domains are three other texts; a Llama of 260,000 parameters is pruned for each, and
// its perplexity is taken on other parts of both texts, within matrices and with one pool over the network. With
// --embeddings: the mean of the final states as a sentence's embedding, calibrated with InfoNCE on triplets of general
// and of chemical sentences, measured by Spearman's correlation on STS-B. With --structured: whole
// heads and feed-forward channels on TinyStories alone, by FLAP and by what it must beat.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <pare/allocate/global.hpp>
#include <pare/io/checkpoint.hpp>
#include <pare/io/file.hpp>
#include <pare/io/tokenizer.hpp>
#include <pare/nn/evaluate.hpp>
#include <pare/nn/feed.hpp>
#include <pare/nn/feed_gradients.hpp>
#include <pare/nn/llama_walk.hpp>
#include <pare/prune/alps.hpp>
#include <pare/prune/d_pruner.hpp>
#include <pare/prune/stages.hpp>
#include <pare/prune/structured_llama.hpp>
#include <pare/score/gaprune.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/normalise.hpp>
#include <pare/score/obd.hpp>
#include <pare/score/wanda.hpp>

#include "support/must.hpp"

namespace {

using namespace pare;
using bench::must;
using texts = std::vector<std::vector<int>>;

std::string read(std::string const& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Bytes [first, first + count), less the parts of characters at both ends.
std::string part(std::string const& text, std::size_t first, std::size_t count) {
  if (first >= text.size()) return {};
  std::string out = text.substr(first, count);
  auto const inside = [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) == 0x80u; };
  while (!out.empty() && inside(out.front())) out.erase(0, 1);
  while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0x80u) != 0) out.pop_back();
  return out;
}

struct options {
  std::string data = PARE_DATA_DIR;
  double sparsity = 0.5;
  std::size_t calibration = 100'000;
  std::size_t test = 100'000;
  bool embeddings = false;
  bool structured = false;
};

/// The network, and how its quality is measured: pairs of figures, one of the domain and one of general data.
struct task {
  llama const& net;
  sparsity target;
  std::function<std::pair<double, double>(llama const&)> measure;
};

/// Prunes by a criterion, in matrices and over the network. collect(stats) fills the statistics.
template <criterion C, class Collect>
void row(task const& t, char const* name, C const& by, Collect collect) {
  calibration<typename C::needs> stats(t.net);
  collect(stats);
  std::printf("  %-18s", name);
  for (bool const over_network : {false, true}) {
    llama pruned = t.net;
    if (over_network) {
      must(prune(pruned, by, unstructured{}, t.target, stats, global{}));
    } else {
      must(prune(pruned, by, unstructured{}, t.target, stats));
    }
    auto const [domain, general] = t.measure(pruned);
    std::printf("  %10.3f %10.3f", domain, general);
  }
  std::printf("\n");
  std::fflush(stdout);
}

/// The same by a solver, stage by stage, with data(network); there is no pool over the network.
template <layer_pruner P, class Data>
void solver_row(task const& t, char const* name, P const& by, Data data) {
  llama pruned = t.net;
  auto const shares = must(share_out(pruned, unstructured{}, t.target, uniform{}));
  must(prune_in_stages(pruned, by, unstructured{}, shares, data(pruned)));
  auto const [domain, general] = t.measure(pruned);
  std::printf("  %-18s  %10.3f %10.3f\n", name, domain, general);
  std::fflush(stdout);
}

/// All criteria; `general` and `domain` run one corpus' loss back into a tap.
template <class General, class Domain>
void criteria(task const& t, General general, Domain domain) {
  auto const both = [&](auto& stats) {
    general(stats.template from<general_corpus>());
    domain(stats.template from<domain_corpus>());
  };
  auto const of_domain = [&](auto& stats) { domain(stats.template from<any_corpus>()); };
  row(t, "magnitude", magnitude{}, [](auto&) {});
  row(t, "wanda (domain)", wanda{}, of_domain);
  row(t, "fisher (domain)", position_obd{}, of_domain);
  row(t, "gaprune", gaprune{}, both);
  row(t, "gaprune-scaled", gaprune_scaled{}, both);
  row(t, "gaprune-row", gaprune_row_aligned{}, both);
}

void domains(options const& o, llama const& net, tokenizer const& words) {
  constexpr index_t chunk = 600;
  std::string const everyday = read(o.data + "/text/tinystories_val.txt");
  texts const general = must(encode_chunks(words, part(everyday, 0, o.calibration), chunk));
  std::string const general_test = part(everyday, 400'000, o.test);
  auto const perplexity_on = [&](llama const& n, std::string const& text) {
    auto const r = perplexity(n, words, text, {.chunk_bytes = chunk});
    return r ? r->perplexity : HUGE_VAL;
  };
  for (char const* const name : {"wizard_of_oz", "tinyshakespeare", "chebi20_descriptions"}) {
    std::string const text = read(o.data + "/text/" + name + ".txt");
    std::size_t const calibrate = std::min(o.calibration, text.size() * 2 / 3);
    texts const domain = must(encode_chunks(words, part(text, 0, calibrate), chunk));
    std::string const test = part(text, calibrate, o.test);
    std::printf("%s: perplexity of domain and general text; dense %.2f and %.3f\n  %-18s  %10s %10s  %10s %10s\n", name,
                perplexity_on(net, test), perplexity_on(net, general_test), "", "matrix", "general", "network",
                "general");
    task const t{net, sparsity(o.sparsity),
                 [&](llama const& n) { return std::pair(perplexity_on(n, test), perplexity_on(n, general_test)); }};
    criteria(
        t, [&](auto tap) { must(feed_gradients(net, std::span<std::vector<int> const>(general), tap)); },
        [&](auto tap) { must(feed_gradients(net, std::span<std::vector<int> const>(domain), tap)); });
    solver_row(t, "d-pruner", d_pruner{}, [&](llama const&) {
      return [&](llama const& n, auto& stats) -> result<void> {
        PARE_TRY_VOID(feed(n, std::span<std::vector<int> const>(general), stats.template from<general_corpus>()));
        PARE_TRY_VOID(
            feed_gradients(n, std::span<std::vector<int> const>(domain), stats.template from<domain_corpus>()));
        return {};
      };
    });
    solver_row(t, "alps (domain)", alps{},
               [&](llama const& n) { return must(walk(n, std::span<std::vector<int> const>(domain))); });
  }
}

/// One score for each unit: the L2 norm of its weights, standardised in its group.
std::vector<std::vector<double>> magnitudes(llama const& net) {
  std::vector<matrix_span<float const>> weights;
  for (linear const* l : net.layers()) weights.push_back(l->weight());
  std::vector<std::vector<double>> out;
  for (coupled_units const& group : structured_units(net)) {
    auto const norms =
        unit_scores(group, weights, {.elements = unit_scoring::reduction::l2, .members = unit_scoring::reduction::l2});
    matrix<float> z(1, std::ssize(norms));
    for (index_t u = 0; u < z.cols(); ++u) z(0, u) = static_cast<float>(norms[static_cast<std::size_t>(u)]);
    zscore{}.apply(z.span());
    out.emplace_back(z.data(), z.data() + z.size());
  }
  return out;
}

std::vector<std::vector<double>> draws(llama const& net, std::uint64_t seed) {
  random_source random(seed);
  std::vector<std::vector<double>> out;
  for (coupled_units const& group : structured_units(net))
    for (double& s : out.emplace_back(group.units.size())) s = static_cast<double>(random.uniform());
  return out;
}

void structured(options const& o, llama const& net, tokenizer const& words) {
  std::string const text = read(o.data + "/text/tinystories_val.txt");
  texts const seen = must(encode_chunks(words, part(text, 0, o.calibration), 600));
  std::string const test = part(text, 400'000, o.test);
  calibration<flap_pruner::needs> stats(net);
  must(feed(net, std::span<std::vector<int> const>(seen), stats));
  auto const measure = [&](llama const& n) {
    return must(perplexity(n, words, test, {.chunk_bytes = 600})).perplexity;
  };
  std::printf("perplexity without whole heads and channels; dense %.3f\n  %-18s  %10s %10s\n", measure(net), "",
              "plain", "with bias");
  for (double const target : {0.1, 0.2, 0.3}) {
    auto const row = [&](char const* name, std::vector<std::vector<double>> const& scores) {
      std::printf("  %-18s", name);
      for (auto const* means : {static_cast<calibration<flap_pruner::needs> const*>(nullptr),
                                static_cast<calibration<flap_pruner::needs> const*>(&stats)}) {
        llama pruned = net;
        must(prune_units(pruned, scores, sparsity(target), means));
        std::printf("  %9.3f", measure(pruned));
      }
      std::printf("\n");
    };
    std::printf("  %.0f %% of the weights of all blocks\n", 100.0 * target);
    row("flap", flap_pruner{}.scores(net, stats));
    row("magnitude", magnitudes(net));
    for (std::uint64_t const seed : {1u, 2u, 3u}) row("random", draws(net, seed));
  }
}

/// Ranks from 0, equal values share the mean of theirs.
std::vector<double> ranks(std::vector<double> const& v) {
  std::vector<std::size_t> order(v.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return v[a] < v[b]; });
  std::vector<double> out(v.size());
  for (std::size_t i = 0; i < order.size();) {
    std::size_t j = i;
    while (j < order.size() && v[order[j]] == v[order[i]]) ++j;
    for (std::size_t k = i; k < j; ++k) out[order[k]] = 0.5 * static_cast<double>(i + j - 1);
    i = j;
  }
  return out;
}

double correlation(std::vector<double> const& a, std::vector<double> const& b) {
  auto const n = static_cast<double>(a.size());
  double const mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  double const mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0.0, aa = 0.0, bb = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return ab / std::sqrt(aa * bb);
}

struct triplets {
  texts queries, positives, negatives;
  [[nodiscard]] text_triplets view() const { return {queries, positives, negatives}; }
};

void embeddings(options const& o, llama const& net, tokenizer const& words) {
  index_t const most = net.config().max_positions;
  auto const tokens = [&](std::string const& text) {
    auto t = must(words.encode(text));
    if (std::ssize(t) > most) t.resize(static_cast<std::size_t>(most));
    return t;
  };
  auto const read_triplets = [&](char const* name) {
    triplets out;
    for (auto const& t : nlohmann::json::parse(read(o.data + "/gaprune-samples/" + name))) {
      out.queries.push_back(tokens(t.at("query").get<std::string>()));
      out.positives.push_back(tokens(t.at("positive").get<std::string>()));
      out.negatives.push_back(tokens(t.at("negative").get<std::string>()));
    }
    return out;
  };
  triplets const general = read_triplets("general-example.json");
  triplets const domain = read_triplets("chem-example.json");
  info_nce_options const loss{.pooling = pooling::mean};

  struct pair_of_sentences {
    std::vector<int> a, b;
  };
  std::vector<pair_of_sentences> pairs;
  std::vector<double> expected;
  for (char const* const file : {"sts-dev.csv", "sts-test.csv"}) {
    std::ifstream in(o.data + "/stsb/" + file);
    for (std::string line; std::getline(in, line);) {
      std::vector<std::string> cells;
      for (std::size_t at = 0; at <= line.size();) {
        std::size_t const end = std::min(line.find('\t', at), line.size());
        cells.push_back(line.substr(at, end - at));
        at = end + 1;
      }
      if (cells.size() < 7) continue;
      expected.push_back(std::strtod(cells[4].c_str(), nullptr));
      pairs.push_back({tokens(cells[5]), tokens(cells[6])});
    }
  }
  auto const embed = [&](llama_tape& tape, std::vector<int> const& text) {
    must(tape.forward(text));
    auto const states = tape.states();
    std::vector<double> mean(static_cast<std::size_t>(states.cols), 0.0);
    for (index_t t = 0; t < states.rows; ++t)
      for (index_t k = 0; k < states.cols; ++k) mean[static_cast<std::size_t>(k)] += static_cast<double>(states(t, k));
    return mean;
  };
  auto const spearman = [&](llama const& n) {
    llama_tape tape(n, most);
    std::vector<double> cosines;
    for (auto const& p : pairs) {
      auto const a = embed(tape, p.a);
      auto const b = embed(tape, p.b);
      cosines.push_back(std::inner_product(a.begin(), a.end(), b.begin(), 0.0) /
                        std::sqrt(std::inner_product(a.begin(), a.end(), a.begin(), 0.0) *
                                  std::inner_product(b.begin(), b.end(), b.begin(), 0.0)));
    }
    return correlation(ranks(cosines), ranks(expected));
  };
  auto const ignore = [](linear const&, matrix_span<float const>, matrix_span<float const>) {};
  auto const domain_loss = [&](llama const& n) { return must(backward(n, domain.view(), loss, ignore)); };
  std::printf(
      "embeddings: InfoNCE of %zu chemical triplets (calibrated on them), Spearman of %zu STS-B pairs; dense "
      "%.3f and %.4f\n  %-18s  %10s %10s  %10s %10s\n",
      domain.queries.size(), pairs.size(), domain_loss(net), spearman(net), "", "matrix", "Spearman", "network",
      "Spearman");
  task const t{net, sparsity(o.sparsity), [&](llama const& n) { return std::pair(domain_loss(n), spearman(n)); }};
  constexpr index_t batch = 4;
  criteria(
      t, [&](auto tap) { must(feed_gradients(net, general.view(), tap, batch, loss)); },
      [&](auto tap) { must(feed_gradients(net, domain.view(), tap, batch, loss)); });
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    std::string_view const a = argv[i];
    auto const value = [&] { return i + 1 < argc ? argv[++i] : ""; };
    if (a == "--data") {
      o.data = value();
    } else if (a == "--sparsity") {
      o.sparsity = std::strtod(value(), nullptr);
    } else if (a == "--calib") {
      o.calibration = std::strtoul(value(), nullptr, 10);
    } else if (a == "--test") {
      o.test = std::strtoul(value(), nullptr, 10);
    } else if (a == "--embeddings") {
      o.embeddings = true;
    } else if (a == "--structured") {
      o.structured = true;
    } else {
      std::fprintf(stderr,
                   "usage: %s [--data FOLDER] [--sparsity S] [--calib BYTES] [--test BYTES] [--embeddings] "
                   "[--structured]\n",
                   argv[0]);
      return 2;
    }
  }
  if (!(o.sparsity >= 0.0 && o.sparsity < 1.0)) {
    std::fprintf(stderr, "pare_domains: the sparsity must lie in [0, 1)\n");
    return 2;
  }
  auto const net = must(llama::load(must(checkpoint::open(o.data + "/stories260K"))));
  auto const words = must(tokenizer::open(o.data + "/stories260K/tokenizer.bin", net.config().vocab_size));
  if (o.embeddings) {
    embeddings(o, net, words);
  } else if (o.structured) {
    structured(o, net, words);
  } else {
    domains(o, net, words);
  }
  return 0;
}
