// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <string>
#include <vector>

#include <pare/allocate/erk.hpp>
#include <pare/allocate/global.hpp>
#include <pare/prune/pipeline.hpp>
#include <pare/prune/prune.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/random_score.hpp>
#include <pare/score/wanda.hpp>

#include "support/catch.hpp"
#include "support/memory.hpp"
#include "support/samples.hpp"
#include "support/toy_network.hpp"

using pare::any_pattern;
using pare::errc;
using pare::extents;
using pare::index_t;
using pare::magnitude;
using pare::mask;
using pare::matrix;
using pare::sparsity;
using pare::test::toy_network;

namespace {

toy_network make_network(std::uint64_t seed = 51) {
  pare::random_source random(seed);
  toy_network net;
  net.parts.emplace_back("model.0.up", pare::test::random_matrix(random, {16, 8}));
  net.parts.emplace_back("model.0.down", pare::test::random_matrix(random, {8, 16}));
  net.parts.emplace_back("model.1.up", pare::test::random_matrix(random, {24, 8}));
  net.parts.emplace_back("head", pare::test::random_matrix(random, {5, 24}));
  return net;
}

template <class C>
pare::calibration<typename C::needs> no_statistics(toy_network const& net) {
  return pare::calibration<typename C::needs>(net);
}

bool all_dense(toy_network const& net) {
  for (auto const* l : net.layers())
    if (!l->weights().keeps_all()) return false;
  return true;
}

bool unchanged(toy_network const& net, std::uint64_t seed = 51) {
  auto const fresh = make_network(seed);
  for (std::size_t l = 0; l < net.parts.size(); ++l)
    if (!pare::test::same_bits(net.parts[l].weight(), fresh.parts[l].weight())) return false;
  return all_dense(net);
}

}  // namespace

TEST_CASE("prune: each chosen layer loses exactly its share, and keeps its largest weights") {
  auto net = make_network();
  auto const before = make_network();
  auto const done = pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.3}, no_statistics<magnitude>(net));
  REQUIRE(done);
  REQUIRE(done->size() == 3);
  for (std::size_t l = 0; l < 3; ++l) {
    auto const& layer = net.parts[l];
    auto const expected =
        pare::select(pare::score(before.parts[l].weight(), magnitude{}), pare::unstructured{}, sparsity{0.3});
    CHECK((*done)[l].name == layer.name());
    CHECK((*done)[l].shape == layer.shape());
    CHECK((*done)[l].kept == expected.count());
    CHECK(pare::kept(layer.weights()) == expected);
    matrix<float> masked(before.parts[l].weight());
    pare::apply(expected, masked);
    CHECK(pare::test::same_bits(layer.weight(), masked));
  }
  CHECK(net.parts[3].weights().keeps_all());  // dense by default
}

TEST_CASE("prune: all_layers prunes the layers that are dense by default too") {
  auto net = make_network();
  pare::prune_settings settings;
  settings.all_layers = true;
  auto const done =
      pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.5}, no_statistics<magnitude>(net), {}, settings);
  REQUIRE(done);
  CHECK(done->size() == 4);
  CHECK(net.parts[3].weights().nnz() == 60);
}

TEST_CASE("prune: wanda uses its layer's statistics and compares within rows") {
  auto net = make_network();
  pare::calibration<pare::wanda::needs> stats(net);
  pare::random_source random(52);
  for (auto const* l : std::as_const(net).layers()) {
    auto x = pare::test::random_matrix(random, {l->shape().cols, 9});
    for (index_t n = 0; n < 9; ++n) x(1, n) *= 1000.0f;
    stats(*l, x.span());
  }
  REQUIRE(pare::prune(net, pare::wanda{}, pare::unstructured{}, sparsity{0.75}, stats));
  for (std::size_t l = 0; l < 3; ++l) {
    auto const keep = pare::kept(net.parts[l].weights());
    for (index_t r = 0; r < keep.rows(); ++r) {
      REQUIRE(keep.row_count(r) == keep.cols() / 4);
      REQUIRE(keep(r, 1));  // the loud input
    }
  }
}

TEST_CASE("prune: N:M and blocks, as types and as run-time patterns, leave masks that the pattern admits") {
  for (any_pattern const p :
       {any_pattern(pare::n_of_m<2, 4>{}), any_pattern(pare::block<4, 2>{}), any_pattern(pare::n_of_m<1, 8>{})}) {
    auto net = make_network();
    REQUIRE(pare::prune(net, magnitude{}, p, sparsity{0.5}, no_statistics<magnitude>(net)));
    for (std::size_t l = 0; l < 3; ++l) {
      CHECK(pare::admits(p, pare::kept(net.parts[l].weights())));
      if (p.of() > 0) CHECK(net.parts[l].weights().nnz() * p.of() == net.parts[l].shape().size() * p.keep());
    }
  }
  auto one = make_network();
  auto other = make_network();
  REQUIRE(pare::prune(one, magnitude{}, pare::n_of_m<2, 4>{}, sparsity{0.0}, no_statistics<magnitude>(one)));
  REQUIRE(pare::prune(other, magnitude{}, any_pattern(pare::n_of_m<2, 4>{}), sparsity{0.0},
                      no_statistics<magnitude>(other)));
  for (std::size_t l = 0; l < 3; ++l) CHECK(pare::kept(one.parts[l].weights()) == pare::kept(other.parts[l].weights()));
}

TEST_CASE("prune: global allocation gives the masks of select_network, erk the densities of its formula") {
  auto net = make_network();
  auto const before = make_network();
  REQUIRE(pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.6}, no_statistics<magnitude>(net),
                      pare::global{}));
  std::vector<matrix<float>> scores;
  std::vector<pare::matrix_span<float const>> views;
  for (std::size_t l = 0; l < 3; ++l) scores.push_back(pare::score(before.parts[l].weight(), magnitude{}));
  for (auto const& s : scores) views.push_back(s.span());
  auto const masks = pare::select_network(views, pare::unstructured{}, sparsity{0.6});
  index_t kept = 0;
  for (std::size_t l = 0; l < 3; ++l) {
    CHECK(pare::kept(net.parts[l].weights()) == masks[l]);
    kept += masks[l].count();
  }
  CHECK(kept == 448 - 268);  // floor(0.6 * 448) = 268 of 16*8 + 8*16 + 24*8 go

  auto erk = make_network();
  REQUIRE(
      pare::prune(erk, magnitude{}, pare::unstructured{}, sparsity{0.6}, no_statistics<magnitude>(erk), pare::erk{}));
  double const eps = 0.4 * 448.0 / (24 + 24 + 32);
  CHECK(std::abs(static_cast<double>(erk.parts[0].weights().nnz()) - eps * 24) <= 1.0);
  CHECK(std::abs(static_cast<double>(erk.parts[2].weights().nnz()) - eps * 32) <= 1.0);
}

TEST_CASE("prune: the same seed gives the same network, and layers of one shape get masks of their own") {
  auto a = make_network();
  auto b = make_network();
  a.parts[1] = pare::linear("same shape", matrix<float>(a.parts[0].weight()));
  b.parts[1] = pare::linear("same shape", matrix<float>(b.parts[0].weight()));
  using pare::random_score;
  REQUIRE(pare::prune(a, random_score{9}, pare::unstructured{}, sparsity{0.5}, no_statistics<random_score>(a)));
  REQUIRE(pare::prune(b, random_score{9}, pare::unstructured{}, sparsity{0.5}, no_statistics<random_score>(b)));
  for (std::size_t l = 0; l < 3; ++l) CHECK(pare::kept(a.parts[l].weights()) == pare::kept(b.parts[l].weights()));
  CHECK(pare::kept(a.parts[0].weights()) != pare::kept(a.parts[1].weights()));
}

TEST_CASE("prune: a pattern that does not fit names every layer that it does not tile, and changes nothing") {
  auto net = make_network();
  auto const r = pare::prune(net, magnitude{}, pare::block<16, 1>{}, sparsity{0.5}, no_statistics<magnitude>(net));
  REQUIRE_FALSE(r);
  CHECK(r.error().code == errc::pattern_misfit);
  CHECK(r.error().where == "pattern block16x1");
  CHECK(r.error().what.find("model.0.down (8 x 16)") != std::string::npos);
  CHECK(r.error().what.find("model.1.up (24 x 8)") != std::string::npos);
  CHECK(r.error().what.find("model.0.up") == std::string::npos);
  CHECK(unchanged(net));
  pare::prune_settings settings;
  settings.skip = {"model.0.down", "model.1.*"};
  CHECK(
      pare::prune(net, magnitude{}, pare::block<16, 1>{}, sparsity{0.5}, no_statistics<magnitude>(net), {}, settings));
}

TEST_CASE("prune: NaN and infinite weights are refused with their place, and nothing changes") {
  for (float const bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    auto net = make_network();
    matrix<float> w(net.parts[2].weight());
    w(23, 7) = bad;
    net.parts[2].assign(w, mask(w.shape(), true));
    auto const r = pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.5}, no_statistics<magnitude>(net));
    REQUIRE_FALSE(r);
    CHECK(r.error().code == errc::not_finite);
    CHECK(r.error().where == "model.1.up");
    CHECK(r.error().what == "the weight at row 23, column 7 is NaN or infinite");
    CHECK(all_dense(net));
  }
}

TEST_CASE("prune: NaN in the calibration data is refused as a score of the layer that saw it") {
  auto net = make_network();
  pare::calibration<pare::wanda::needs> stats(net);
  matrix<float> x(16, 1);
  x(3, 0) = std::numeric_limits<float>::quiet_NaN();
  stats(net.parts[1], x.span());
  auto const r = pare::prune(net, pare::wanda{}, pare::n_of_m<2, 4>{}, sparsity{0.5}, stats);
  REQUIRE_FALSE(r);
  CHECK(r.error().code == errc::not_finite);
  CHECK(r.error().message() == "model.0.down: the score at row 0, column 3 is NaN or infinite");
  CHECK(unchanged(net));
}

TEST_CASE("prune: a run-time N:M with a budget to share out is refused in a sentence") {
  auto net = make_network();
  auto const r = pare::prune(net, magnitude{}, any_pattern(pare::n_of_m<2, 4>{}), sparsity{0.5},
                             no_statistics<magnitude>(net), pare::erk{});
  REQUIRE_FALSE(r);
  CHECK(r.error().code == errc::unsupported);
  CHECK(r.error().where == "pattern 2:4");
  CHECK(unchanged(net));
}

TEST_CASE("prune: a skip pattern that matches nothing is an error, so is skipping everything") {
  auto net = make_network();
  pare::prune_settings settings;
  settings.skip = {"model.*", "modle.1.up"};
  auto const typo =
      pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.5}, no_statistics<magnitude>(net), {}, settings);
  REQUIRE_FALSE(typo);
  CHECK(typo.error().code == errc::missing);
  CHECK(typo.error().where == "skip 'modle.1.up'");
  settings.skip = {"*"};
  auto const all =
      pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.5}, no_statistics<magnitude>(net), {}, settings);
  REQUIRE_FALSE(all);
  CHECK(all.error().code == errc::missing);
  CHECK(unchanged(net));
}

TEST_CASE("layers_to_prune: skips by exact name and by pattern") {
  auto const net = make_network();
  auto const chosen = [&](std::vector<std::string> skip) {
    pare::prune_settings settings;
    settings.skip = std::move(skip);
    return pare::layers_to_prune(net, settings).value();
  };
  CHECK(chosen({}) == std::vector<std::size_t>{0, 1, 2});
  CHECK(chosen({"model.0.up"}) == std::vector<std::size_t>{1, 2});
  CHECK(chosen({"*.up"}) == std::vector<std::size_t>{1});
  CHECK(chosen({"model.*.d*n"}) == std::vector<std::size_t>{0, 2});
  CHECK(chosen({"*0*"}) == std::vector<std::size_t>{2});
  CHECK(chosen({"head"}) == std::vector<std::size_t>{0, 1, 2});
}

TEST_CASE("layers_to_prune: a star matches any run of characters, also an empty one") {
  using pare::matches_wildcard;
  static_assert(matches_wildcard("*", "") && matches_wildcard("", "") && matches_wildcard("a*", "a") &&
                matches_wildcard("*a", "a") && matches_wildcard("**a**", "bab"));
  static_assert(matches_wildcard("a*b*c", "a--b-b--c") && matches_wildcard("*ab", "aab") &&
                matches_wildcard("*.up", "x.up.up"));
  static_assert(!matches_wildcard("", "a") && !matches_wildcard("a", "") && !matches_wildcard("a*b", "ac") &&
                !matches_wildcard("a*", "ba") && !matches_wildcard("*.up", "x.up.down"));
  std::string const hostile(2000, 'a');
  CHECK_FALSE(matches_wildcard("*a*a*a*a*a*a*a*a*b", hostile));
}

TEST_CASE("prune: cancelling at any step leaves the network as it was") {
  for (index_t last = 0;; ++last) {
    auto net = make_network();
    index_t calls = 0;
    auto callee = [&](std::string_view, index_t done, index_t total) {
      CHECK((0 <= done && done <= total));
      return calls++ < last;
    };
    pare::prune_settings settings;
    settings.progress = pare::progress(callee);
    auto const r =
        pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.5}, no_statistics<magnitude>(net), {}, settings);
    if (r) {
      CHECK(last == 3);  // three layers; the last call reports the end
      break;
    }
    REQUIRE(r.error().code == errc::cancelled);
    REQUIRE(unchanged(net));
    REQUIRE(last < 100);
  }
}

TEST_CASE("prune: statistics of another network and the sparsity 1 are contract violations") {
  auto net = make_network();
  toy_network small;
  small.parts.emplace_back("only", matrix<float>(2, 2));
  CHECK_THROWS_AS(pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.5}, no_statistics<magnitude>(small)),
                  pare::contract_violation);
  CHECK_THROWS_AS(pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{1.0}, no_statistics<magnitude>(net)),
                  pare::contract_violation);
  CHECK(unchanged(net));
}

TEST_CASE("calibration: merges, and passes over layers that the network does not list") {
  auto const net = make_network();
  pare::random_source random(53);
  auto const x = pare::test::random_matrix(random, {8, 4});
  pare::calibration<pare::wanda::needs> a(net);
  pare::calibration<pare::wanda::needs> b(net);
  a(net.parts[0], x.span());
  b(net.parts[0], x.span());
  a(pare::linear("stranger", matrix<float>(2, 8)), x.span());
  a.merge(b);
  CHECK(a.size() == 4);
  CHECK(a[0].get<pare::input_norms>().samples() == 8);
  CHECK(a[0].get<pare::input_norms>().squared_norm(2) == Approx(2 * b[0].get<pare::input_norms>().squared_norm(2)));
  CHECK(a[2].get<pare::input_norms>().samples() == 0);
}

TEST_CASE("pipeline: equals its steps taken one by one") {
  pare::random_source random(54);
  auto const w = pare::test::random_matrix(random, {12, 16});
  auto const x = pare::test::random_matrix(random, {16, 5});
  pare::wanda::needs stats(16);
  stats.add(x.span());
  using layer_type = pare::pipeline<pare::wanda, pare::n_of_m<2, 4>, pare::n_of_m_packed<2, 4, float>, pare::relu>;
  auto const layer = layer_type::from(w, stats);
  auto const keep = pare::select(pare::score(w, pare::wanda{}, stats), pare::n_of_m<2, 4>{});
  CHECK(layer.keep() == keep);
  std::vector<float> const b(12, 0.25f);
  matrix<float> y(12, 5);
  matrix<float> expected(12, 5);
  auto const operand = pare::prepare(pare::compress<pare::n_of_m_packed<2, 4, float>>(w, keep));
  layer(x, y);
  pare::matmul(operand, x, expected, pare::relu{});
  CHECK(pare::test::same_bits(y, expected));
  layer(pare::bias{b}, x, y);
  pare::matmul(operand, x, expected, pare::bias{b} | pare::relu{});
  CHECK(pare::test::same_bits(y, expected));

  auto const free = pare::pipeline<pare::wanda, pare::unstructured, pare::bitmap<float>>::from(w, sparsity{0.5}, stats);
  for (index_t r = 0; r < 12; ++r) CHECK(free.keep().row_count(r) == 8);  // wanda's pool is the row
}

TEST_CASE("prune: holds the scores of one layer where nothing is compared between layers") {
  constexpr std::size_t layers = 10;
  constexpr index_t side = 1024;  // 4 MB of scores a layer
  toy_network net;
  for (std::size_t l = 0; l <= layers; ++l) {
    matrix<float> w(side, side);
    for (index_t i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>((i * 7919) % 1021) - 510.0f;
    net.parts.emplace_back("part." + std::to_string(l), std::move(w));
  }
  auto const stats = no_statistics<magnitude>(net);
  bool const measured = pare::test::reset_peak_memory();
  std::size_t const before = pare::test::memory_field("VmRSS");
  if (!measured || before == 0) {
    WARN("skipped: the peak memory is not told here");
    return;
  }
  REQUIRE(pare::prune(net, magnitude{}, pare::unstructured{}, sparsity{0.5}, stats));
  // One layer's scores, a copy of its weights with the mask, ten masks of 128 KB, and what an allocator keeps.
  std::size_t const one = std::size_t{side * side} * sizeof(float);
  CHECK(pare::test::memory_field("VmHWM") < before + 5 * one);
}
