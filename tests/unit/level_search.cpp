// SPDX-License-Identifier: Apache-2.0
// The search of --allocation evopress: its state in a file, and that a search which was stopped goes on as if it had
// not been.
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>

#include <pare/io/bytes.hpp>
#include <pare/io/file.hpp>
#include <pare/nn/mlp.hpp>
#include <pare/score/magnitude.hpp>

#include "io_scratch.hpp"
#include "support/catch.hpp"
#include "support/level_search.hpp"

using namespace pare;
using pare::program::read_search_state;
using pare::program::search_identity;
using pare::program::write_search_state;
using pare::test::content;
using pare::test::scratch_folder;

TEST_CASE("level_search: a state comes back from its file, and only for the search that it is of") {
  scratch_folder const folder;
  auto const file = folder / "state";
  search_identity const identity{{"method", "alps"}, {"sparsity", "0.5"}};
  CHECK(read_search_state({}, identity).value() == evo_press_state{});
  CHECK(read_search_state(file, identity).value() == evo_press_state{});
  CHECK(read_search_state(folder / "a" / "b", identity).error().code == errc::io);

  evo_press_state const state{{3, -2, -1, 0}, 0.1 + 0.2, 7, 141};
  REQUIRE(write_search_state(file, identity, state));
  CHECK(read_search_state(file, identity).value() == state);
  auto const written = content(file);
  auto const refused = read_search_state(file, {{"method", "alps"}, {"sparsity", "0.7"}});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::mismatch);
  CHECK(refused.error().message().find("sparsity is \"0.5\" there and \"0.7\" here") != std::string::npos);
  CHECK(read_search_state(file, {{"method", "alps"}, {"sparsity", "0.5"}, {"seed", "0"}}).error().code ==
        errc::missing);
  CHECK(content(file) == written);

  evo_press_state unknown = state;
  unknown.fitness = std::numeric_limits<double>::infinity();  // JSON has no name for it: it is found again
  REQUIRE(write_search_state(file, identity, unknown));
  unknown.fitness.reset();
  CHECK(read_search_state(file, identity).value() == unknown);

  for (std::string_view const text :
       {"", "text", "[]", "{}", R"({"pare_search_state":2,"generation":0,"evaluations":0,"levels":[0]})",
        R"({"pare_search_state":1,"generation":-1,"evaluations":0,"levels":[0]})",
        R"({"pare_search_state":1,"generation":2147483647,"evaluations":0,"levels":[0]})",
        R"({"pare_search_state":1,"generation":0,"evaluations":9223372036854775807,"levels":[0]})",
        R"({"pare_search_state":1,"generation":0,"evaluations":0,"levels":[0.5]})",
        R"({"pare_search_state":1,"generation":0,"evaluations":0,"levels":[99999999999]})",
        R"({"pare_search_state":1,"generation":0,"evaluations":0,"levels":[]})",
        R"({"pare_search_state":1,"generation":0,"evaluations":0,"levels":[0],"fitness":"low"})"}) {
    INFO(text);
    auto const read = read_search_state(folder.write("other", text), {});
    REQUIRE_FALSE(read);
    CHECK(read.error().where.starts_with((folder / "other").string()));
  }
  CHECK(read_search_state(
            folder.write("other", R"({"pare_search_state":1,"generation":0,"evaluations":0,"levels":[5]})"), {})
            .value()
            .levels == std::vector<int>{5});
}

TEST_CASE("level_search: fingerprints tell networks and data apart by a single value") {
  program::data_set const text = std::string("abc");
  CHECK(program::fingerprint(text) == "e71fa2190541574b");  // FNV-1a's published value
  CHECK(program::fingerprint(program::data_set(std::string("abd"))) != program::fingerprint(text));
  program::labelled_images set{matrix<float>(2, 3), {0, 1}};
  auto const before = program::fingerprint(program::data_set(set));
  set.images(1, 2) = 1.0f;
  CHECK(program::fingerprint(program::data_set(set)) != before);

  auto m = program::load_model(std::string(PARE_EXAMPLE_DATA_DIR) + "/glyphs").value();
  auto const of_net = program::fingerprint(m.network);
  CHECK(program::fingerprint(any_network(m.network)) == of_net);
  linear* const l = layers(m.network)[1];
  mask keep(l->shape(), true);
  keep.set(3, 4, false);
  l->keep(keep);
  CHECK(program::fingerprint(m.network) != of_net);
}

TEST_CASE("level_search: improves on uniform levels; stopped anywhere it goes on from its file to the same end") {
  auto const m = program::load_model(std::string(PARE_EXAMPLE_DATA_DIR) + "/glyphs").value();
  program::data_set const images = program::read_images("glyphs", program::split::train, 40).value();
  auto const feed = [](mlp const&, auto&) -> result<void> { return {}; };
  auto const levels = solve_levels(std::get<mlp>(m.network), select_by<magnitude>{}, any_pattern(unstructured{}),
                                   sparsity(0.9), {.levels = 3}, feed)
                          .value();
  REQUIRE(levels.matrices().size() == 2);
  search_identity const id{{"network", program::fingerprint(m.network)}};
  program::level_search settings;
  settings.generations = 3;
  auto const whole = program::search_levels(m, levels, images, {}, id, settings).value();
  CHECK(whole.state.generation == 3);
  CHECK(*whole.state.fitness < whole.uniform);
  CHECK(std::reduce(whole.state.levels.begin(), whole.state.levels.end()) == 0);

  scratch_folder const folder;
  settings.state_file = folder / "state";
  index_t const all = whole.state.evaluations;
  for (index_t const stop_after : {index_t{0}, index_t{5}, all / 2, all - 1}) {
    std::filesystem::remove(settings.state_file);
    index_t asked = 0;
    auto stop = [&](std::string_view what, index_t, index_t) {
      return !what.starts_with("search") || asked++ < stop_after;
    };
    settings.report = progress(stop);
    auto const broken = program::search_levels(m, levels, images, {}, id, settings);
    REQUIRE_FALSE(broken);
    CHECK(broken.error().code == errc::cancelled);
    settings.report = {};
    auto const begun = read_search_state(settings.state_file, id).value();
    CHECK(begun.generation < 3);
    if (stop_after == all - 1) CHECK(begun.generation == 2);
    CHECK(std::filesystem::exists(settings.state_file) == (begun.generation > 0));
    CHECK(program::search_levels(m, levels, images, begun, id, settings).value().state == whole.state);
    CHECK(read_search_state(settings.state_file, id).value() == whole.state);
  }

  for (auto const& wrong : {std::vector<int>{0}, std::vector<int>{1, 0}, std::vector<int>{9, -9}}) {
    auto const refused = program::search_levels(m, levels, images, {wrong, 0.5, 1, 20}, id, settings);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::malformed);
  }
  CHECK(program::search_levels(m, levels, program::data_set(std::string("text")), {}, id, settings).error().code ==
        errc::mismatch);
}
