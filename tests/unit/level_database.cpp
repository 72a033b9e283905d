// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <utility>
#include <vector>

#include <pare/allocate/erk.hpp>
#include <pare/allocate/owl.hpp>
#include <pare/allocate/table.hpp>
#include <pare/prune/level_database.hpp>
#include <pare/prune/sparse_gpt.hpp>
#include <pare/prune/stages.hpp>
#include <pare/score/magnitude.hpp>
#include <pare/score/wanda.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"
#include "support/toy_network.hpp"

using pare::errc;
using pare::index_t;
using pare::matrix;
using pare::sparsity;
using pare::test::toy_network;

namespace {

toy_network chain(std::vector<pare::extents> const& shapes) {
  pare::random_source random(71);
  toy_network net;
  for (std::size_t l = 0; l < shapes.size(); ++l)
    net.parts.emplace_back("part." + std::to_string(l), pare::test::random_matrix(random, shapes[l]));
  return net;
}

matrix<float> outputs(toy_network const& net, auto&& tap) {
  pare::random_source random(72);
  matrix<float> x = pare::test::random_matrix(random, {net.parts.front().shape().cols, 48});
  for (index_t n = 0; n < x.cols(); ++n) x(0, n) *= 20.0f;
  for (pare::linear const& l : net.parts) {
    tap(l, x.span());
    matrix<float> y(l.shape().rows, x.cols());
    l.forward(x.span(), y.span());
    x = std::move(y);
  }
  return x;
}

auto const feed = [](toy_network const& net, auto& tap) -> pare::result<void> {
  (void)outputs(net, tap);
  return {};
};

}  // namespace

TEST_CASE("level_database: every level is what the method gives on the dense network, and costs the same everywhere") {
  toy_network const net = chain({{8, 6}, {12, 8}, {4, 12}, {3, 4}});  // 48, 96, 48 weights, and a dense head
  auto const db =
      pare::solve_levels(net, pare::sparse_gpt{}, pare::unstructured{}, sparsity{0.5}, {.levels = 3, .step = 8}, feed);
  REQUIRE(db);
  REQUIRE(db->matrices().size() == 3);
  // 24 of 48: 0, 8, 16, 24, 32, 40 removed (48 would be all of it); 48 of 96: 24 ... 72.
  std::vector<pare::level_range> const ranges = db->ranges();
  for (auto const& [m, low, high] : {std::tuple{0, -3, 2}, std::tuple{1, -3, 3}, std::tuple{2, -3, 2}}) {
    CHECK(ranges[static_cast<std::size_t>(m)].lowest == low);
    CHECK(ranges[static_cast<std::size_t>(m)].highest == high);
  }
  pare::calibration<pare::sparse_gpt::needs> stats(net);
  (void)outputs(net, stats);
  for (auto const& levels : {std::vector<int>{-3, 3, 0}, std::vector<int>{2, -1, -1}, std::vector<int>{0, 0, 0}}) {
    toy_network pruned = net;
    db->apply(pruned, levels);
    auto const shares = db->shares(levels);
    index_t kept = 0;
    for (std::size_t m = 0; m < 3; ++m) {
      auto const& matrix = db->matrices()[m];
      CHECK(matrix.name == net.parts[m].name());
      CHECK(shares[m].removed_of(matrix.units) == matrix.units / 2 + 8 * levels[m]);
      auto const expected =
          pare::sparse_gpt{}.prune(net.parts[m].weight(), stats[m], pare::unstructured{}, shares[m]).value();
      CHECK(pare::kept(pruned.parts[m].weights()) == expected.keep);
      CHECK(pare::test::same_bits(pruned.parts[m].weight(), expected.weights));
      kept += pruned.parts[m].weights().nnz();
    }
    CHECK(kept == 96);  // half of 192
    CHECK(pruned.parts[3].weights().keeps_all());
  }
  std::size_t bytes = 0;
  for (auto const& m : db->matrices())
    for (auto const& w : m.solved) bytes += w.bytes();
  CHECK(db->bytes() == bytes);
  toy_network pruned = net;
  CHECK_THROWS_AS(db->apply(pruned, std::vector<int>{3, -3, 0}), pare::contract_violation);
  CHECK_THROWS_AS(db->apply(pruned, std::vector<int>{0, 0}), pare::contract_violation);
  CHECK_THROWS_AS((void)db->shares(std::vector<int>{-4, 0, 0}), pare::contract_violation);
}

TEST_CASE(
    "level_database: the default step is half of what a layer of mean size could move; errors say what is wrong") {
  toy_network net = chain({{16, 20}, {40, 16}, {3, 40}});
  auto const db = pare::solve_levels(net, pare::select_by<pare::magnitude>{}, pare::unstructured{}, sparsity{0.6},
                                     {.levels = 4}, feed);
  REQUIRE(db);
  CHECK(db->step() == 24);  // 0.5 * 0.4 / 4 * (320 + 640) / 2
  CHECK(db->matrices()[1].solved.size() == 9);
  auto const blocks = pare::solve_levels(net, pare::select_by<pare::magnitude>{}, pare::block<4, 1>{}, sparsity{0.6},
                                         {.levels = 4}, feed);
  CHECK(blocks->step() == 6);
  CHECK(blocks->matrices()[0].units == 80);

  auto const fixed =
      pare::solve_levels(net, pare::select_by<pare::magnitude>{}, pare::n_of_m<2, 4>{}, sparsity{0.5}, {}, feed);
  CHECK(fixed.error().code == errc::unsupported);
  auto const fails = [](toy_network const&, auto&) -> pare::result<void> {
    return pare::error{errc::io, "data", "gone"};
  };
  CHECK(pare::solve_levels(net, pare::sparse_gpt{}, pare::unstructured{}, sparsity{0.5}, {}, fails).error().code ==
        errc::io);
  auto stop = [](std::string_view, index_t done, index_t) { return done == 0; };
  pare::prune_settings settings;
  settings.progress = pare::progress(stop);
  CHECK(pare::solve_levels(net, pare::sparse_gpt{}, pare::unstructured{}, sparsity{0.5}, {}, feed, settings)
            .error()
            .code == errc::cancelled);
}

TEST_CASE("evo_press: on a network, beats the uniform allocation at the same number of weights") {
  // The first layer has a loud input and the second is nearly of rank one: they do not bear pruning alike.
  toy_network net = chain({{16, 12}, {16, 16}, {16, 16}, {4, 16}});
  matrix<float> one(16, 16);
  for (index_t r = 0; r < 16; ++r)
    for (index_t c = 0; c < 16; ++c) one(r, c) = net.parts[1].weight()(r, c) * (r < 2 ? 3.0f : 0.05f);
  net.parts[1].assign(one, pare::mask(one.shape(), true));
  auto const db =
      pare::solve_levels(net, pare::sparse_gpt{}, pare::unstructured{}, sparsity{0.5}, {.levels = 4, .step = 16}, feed)
          .value();
  matrix<float> const dense = outputs(net, pare::no_tap{});
  toy_network pruned = net;
  auto const fitness = [&](std::span<int const> levels, int stage) {
    db.apply(pruned, levels);
    matrix<float> const y = outputs(pruned, pare::no_tap{});
    double sum = 0.0;
    for (index_t r = 0; r < y.rows(); ++r)
      for (index_t c = 0; c < (stage == 0 ? 16 : y.cols()); ++c) {
        double const d = static_cast<double>(y(r, c)) - static_cast<double>(dense(r, c));
        sum += d * d;
      }
    return sum;
  };
  double const uniform = fitness(std::vector<int>(3, 0), 1);
  pare::evo_press_state state;
  REQUIRE(pare::evo_press{.generations = 15, .offspring = 8, .survivors = {2, 1}}.search(state, db.ranges(), fitness));
  CHECK(*state.fitness < 0.7 * uniform);
  db.apply(pruned, state.levels);
  index_t kept = 0;
  for (std::size_t m = 0; m < 3; ++m) kept += pruned.parts[m].weights().nnz();
  CHECK(kept == (192 + 256 + 256) / 2);

  // The same shares for prune_in_stages, behind pruned stages.
  toy_network staged = net;
  auto const done =
      pare::prune_in_stages(staged, pare::sparse_gpt{}, pare::unstructured{}, db.shares(state.levels), feed);
  REQUIRE(done);
  for (std::size_t m = 0; m < 3; ++m) CHECK((*done)[m].kept == pruned.parts[m].weights().nnz());
}

TEST_CASE("share_out: by scores, by name, and N:M takes uniform only") {
  toy_network const net = chain({{16, 12}, {16, 16}, {4, 16}});
  pare::calibration<pare::wanda::needs> stats(net);
  (void)outputs(net, stats);
  pare::owl const by{.outlier = 2.0, .window = 0.1};
  auto const shares = pare::share_out(net, pare::wanda{}, stats, pare::unstructured{}, sparsity{0.5}, by);
  REQUIRE(shares);
  std::vector<matrix<float>> scores;
  std::vector<pare::layer_info> infos;
  for (std::size_t l = 0; l < 2; ++l) scores.push_back(pare::score(net.parts[l].weight(), pare::wanda{}, stats[l]));
  for (std::size_t l = 0; l < 2; ++l)
    infos.push_back(
        {net.parts[l].name(), {scores[l].rows(), scores[l].cols()}, scores[l].size(), scores[l].span(), -1});
  CHECK(*shares == by.allocate(infos, sparsity{0.5}));
  CHECK_FALSE((*shares)[0] == (*shares)[1]);

  pare::table const named{{{"part.0", sparsity{0.25}}}};
  auto const listed = pare::share_out(net, pare::unstructured{}, sparsity{0.5}, named).value();
  CHECK(listed[0].value == 0.25);
  CHECK(listed[1].value == Approx((0.5 * 448 - 48) / 256));
  CHECK(pare::share_out(net, pare::unstructured{}, sparsity{0.9}, named).error().code == errc::out_of_range);

  CHECK(pare::share_out(net, pare::n_of_m<2, 4>{}, sparsity{0.5}, pare::erk{}).error().code == errc::unsupported);
  CHECK(pare::share_out(net, pare::wanda{}, stats, pare::n_of_m<2, 4>{}, sparsity{0.5}, by).error().code ==
        errc::unsupported);
  CHECK(pare::share_out(net, pare::n_of_m<2, 4>{}, sparsity{0.5}, pare::uniform{}).value().size() == 2);
  CHECK(pare::share_out(net, pare::magnitude{}, pare::calibration<pare::magnitude::needs>(net), pare::block<5, 1>{},
                        sparsity{0.5}, pare::uniform{})
            .error()
            .code == errc::pattern_misfit);
}
