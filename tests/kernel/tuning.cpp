// SPDX-License-Identifier: Apache-2.0
// Tuning tables: what was measured once is taken again, and text that is none is refused by its line.
#include <string>
#include <vector>

#include <pare/kernel/prepare.hpp>
#include <pare/kernel/thread_pool.hpp>
#include <pare/kernel/tuning.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::bitmap;
using pare::errc;
using pare::extents;
using pare::index_t;
using pare::layer_of;
using pare::tuned_layer;
using pare::tuning;

namespace {

std::string const head = "pare tuning 1\n";

template <class F>
F half_full(extents shape) {
  pare::random_source random(91);
  auto const w = pare::test::random_matrix(random, shape);
  pare::mask keep(shape);
  for (index_t r = 0; r < shape.rows; ++r)
    for (index_t c = 0; c < shape.cols; ++c) keep.set(r, c, (r / 4 + c / 4) % 2 == 0);
  return pare::compress<F>(w, keep);
}

tuning table_of(tuned_layer layer, char const* operand) {
  tuning table;
  table.set(std::move(layer), operand);
  return table;
}

}  // namespace

TEST_CASE("tuning: fractions are known by steps, finer where little is left") {
  struct {
    double fraction;
    int step;
  } const known[] = {{0.0, 0},   {0.004, 0},  {0.006, 1},  {0.05, 5},   {0.094, 9},  {0.0951, 10}, {0.1, 10},
                     {0.12, 10}, {0.126, 15}, {0.474, 45}, {0.476, 50}, {0.524, 50}, {0.974, 95},  {1.0, 100}};
  for (auto const& k : known) CHECK(tuned_layer::step(k.fraction) == k.step);
}

TEST_CASE("tuning: a layer is its shape, format, density and use") {
  auto const format = half_full<bitmap<float>>({32, 48});
  tuned_layer const layer = layer_of(format, 7, 0.33, 2);
  CHECK(layer.arch == pare::active_arch());
  CHECK(layer.format == "bitmap");
  CHECK(layer.dtype == "f32");
  CHECK((layer.outputs == 32 && layer.inputs == 48 && layer.density == 50));
  CHECK((layer.columns == 7 && layer.zero_inputs == 35 && layer.threads == 2));
  CHECK(layer_of(half_full<pare::bsr<4, 4, pare::bf16>>({32, 48}), 1).format == "bsr:block4x4");
  CHECK(layer_of(half_full<pare::bsr<4, 4, pare::bf16>>({32, 48}), 1).dtype == "bf16");
  CHECK(layer_of(half_full<pare::n_of_m_packed<4, 8, float>>({32, 48}), 1).format == "n_of_m:4:8");
  CHECK(layer_of(half_full<pare::quantised<128>>({32, 48}), 1).dtype == "int8g128");
  CHECK(layer_of(bitmap<float>(), 1).density == 0);
  CHECK_THROWS_AS(layer_of(format, 0), pare::contract_violation);
  CHECK_THROWS_AS(layer_of(format, 1, 0.0, 0), pare::contract_violation);
  CHECK_THROWS_AS(layer_of(format, 1, 1.1), pare::contract_violation);
}

TEST_CASE("tuning: text holds all of a table") {
  tuning table;
  CHECK(tuning::parse(table.to_text()).value() == table);
  auto const format = half_full<bitmap<float>>({32, 48});
  table.set(layer_of(format, 1), "bitmap_stream");
  table.set(layer_of(format, 128, 0.5, 2), "row_pairs");
  table.set(layer_of(half_full<pare::n_of_m_packed<4, 8, float>>({8, 16}), 3), "dense");
  tuned_layer elsewhere = layer_of(format, 1);
  elsewhere.arch = "neon64";
  table.set(elsewhere, "csr");
  table.set(elsewhere, "sliced_ell");  // takes its place
  CHECK(table.size() == 4);
  auto const read = tuning::parse(table.to_text());
  REQUIRE(read);
  CHECK(*read == table);
  CHECK(read->to_text() == table.to_text());
  CHECK(read->find(elsewhere) == "sliced_ell");
  CHECK(read->find(layer_of(format, 128, 0.5, 2)) == "row_pairs");
  CHECK(read->find(layer_of(format, 128)).empty());
  CHECK_THROWS_AS(table.set(elsewhere, "none of this name"), pare::contract_violation);
  // What could not be read back would cost all other layers of the file.
  for (auto const spoil : {+[](tuned_layer& l) { l.format = "my format"; }, +[](tuned_layer& l) { l.format = ""; },
                           +[](tuned_layer& l) { l.dtype = "f32\n"; }, +[](tuned_layer& l) { l.arch = "#x"; },
                           +[](tuned_layer& l) { l.density = 13; }, +[](tuned_layer& l) { l.outputs = -1; },
                           +[](tuned_layer& l) { l.columns = 0; }}) {
    tuned_layer spoilt = elsewhere;
    spoil(spoilt);
    CHECK_THROWS_AS(table.set(spoilt, "dense"), pare::contract_violation);
  }

  auto const by_hand =
      tuning::parse(head + "\n# a remark\n  avx2   csr f32 3 5 10 1 0 1 csr  \n#\navx2 csr f32 3 5 9 1 0 1 csr");
  REQUIRE(by_hand);
  CHECK(by_hand->size() == 2);
  CHECK(by_hand->find({"avx2", "csr", "f32", 3, 5, 10, 1, 0, 1}) == "csr");
}

TEST_CASE("tuning: text that is no table is refused by its line") {
  struct {
    std::string text;
    int line;
    char const* rule;
  } const bad[] = {
      {"", 1, "first line"},
      {"\n" + head, 1, "first line"},
      {"pare tuning 2\n", 1, "first line"},
      {"pare tuning 1 \n", 1, "first line"},
      {"pare tuning 1\r\n", 1, "first line"},
      {head + "a", 2, "expected"},
      {head + "\n#\na csr f32 3 5 10 1 0 1", 4, "name of an operand"},
      {head + "a csr f32 3 5 10 1 0 1 unheard_of", 2, "name of an operand"},
      {head + " #a csr f32 3 5 10 1 0 1 csr", 2, "begin with '#'"},
      {head + "a csr f32 3 5 10 1 0 1 CSR", 2, "name of an operand"},
      {head + "a csr f32 3 5 10 1 0 1 csr more", 2, "nothing may follow"},
      {head + "a csr f32 3 5 10 1 0 1 csr\r\n", 2, "name of an operand"},
      {head + "a csr f32 -3 5 10 1 0 1 csr", 2, "outputs"},
      {head + "a csr f32 3 5.5 10 1 0 1 csr", 2, "outputs"},
      {head + "a csr f32 3 99999999999999999999 10 1 0 1 csr", 2, "outputs"},
      {head + "a csr f32 3 5 11 1 0 1 csr", 2, "density"},
      {head + "a csr f32 3 5 105 1 0 1 csr", 2, "density"},
      {head + "a csr f32 3 5 10 0 0 1 csr", 2, "columns"},
      {head + "a csr f32 3 5 10 1 x 1 csr", 2, "zero_inputs"},
      {head + "a csr f32 3 5 10 1 0 0 csr", 2, "threads"},
      {head + "a csr f32 3 5 10 1 0 99999999999 csr", 2, "threads"},
      {head + "a csr f32 3 5 10 1 0 1 csr\n#\na csr f32 3 5 10 1 0 1 dense", 4, "earlier line"},
      {head + std::string("a csr f32 3 5 10 1 0 1 csr\0", 27), 2, "name of an operand"},
  };
  for (auto const& b : bad) {
    INFO(b.text);
    auto const table = tuning::parse(b.text);
    REQUIRE_FALSE(table);
    CHECK(table.error().code == errc::malformed);
    CHECK(table.error().where == "line " + std::to_string(b.line));
    CHECK_THAT(table.error().what, ContainsSubstring(b.rule));
  }
}

TEST_CASE("tuning: random damage gives a table or an error, and never another table than its text says") {
  std::string const good = head + "avx2 csr f32 3 5 10 1 0 1 csr\navx2 bitmap bf16 64 64 50 128 5 2 row_pairs\n";
  pare::random_source random(92);
  int accepted = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = good;
    for (index_t n = 1 + random.below(3); n > 0; --n) {
      auto const at = static_cast<std::size_t>(random.below(std::ssize(text)));
      if (random.uniform() < 0.5f) {
        text[at] = " 0123456789\nabr#"[random.below(16)];
      } else {
        text.erase(at, static_cast<std::size_t>(random.below(4)));
      }
    }
    auto const table = tuning::parse(text);
    if (!table) continue;
    ++accepted;
    REQUIRE(table->size() <= 2);
    REQUIRE(tuning::parse(table->to_text()).value() == *table);
  }
  CHECK(accepted > 50);
}

TEST_CASE("prepare: takes what a table says of the layer, and asks it first") {
  auto const format = half_full<bitmap<float>>({32, 48});
  for (char const* operand : {"dense", "row_pairs", "sliced_ell", "bitmap"})
    for (bool const autotune : {false, true}) {
      tuning table = table_of(layer_of(format, 40), operand);
      tuning const before = table;
      auto const p = pare::prepare(format, {.columns = 40, .autotune = autotune, .choices = &table});
      CHECK(std::string(p.name()) == operand);
      CHECK(table == before);
    }
  // Another use of the same layer is another line.
  std::string const by_cost = pare::prepare(format, {.columns = 41}).name();
  std::string const other = by_cost == "bitmap" ? "row_pairs" : "bitmap";
  tuning table = table_of(layer_of(format, 40), other.c_str());
  CHECK(pare::prepare(format, {.columns = 41, .choices = &table}).name() == by_cost);
  CHECK(table.size() == 1);
  // An operand that is named goes before the table.
  std::string const third = other == "bitmap" ? "row_pairs" : "sliced_ell";
  CHECK(pare::prepare(format, {.columns = 40, .operand = third, .choices = &table}).name() == third);
}

TEST_CASE("prepare: a choice that cannot be taken counts as none") {
  auto const format = half_full<bitmap<float>>({32, 48});
  std::string const by_cost = pare::prepare(format, {.columns = 40}).name();
  // An operand of another format; and another architecture.
  tuning table = table_of(layer_of(format, 40), "int8_dense");
  CHECK(pare::prepare(format, {.columns = 40, .choices = &table}).name() == by_cost);
  CHECK(table.find(layer_of(format, 40)) == "int8_dense");
  tuned_layer elsewhere = layer_of(format, 40);
  elsewhere.arch = "another";
  tuning foreign = table_of(elsewhere, by_cost == "bitmap" ? "dense" : "bitmap");
  CHECK(pare::prepare(format, {.columns = 40, .choices = &foreign}).name() == by_cost);
  // Measured, it is replaced.
  auto const tuned = pare::prepare(format, {.columns = 40, .autotune = true, .choices = &table});
  CHECK(table.find(layer_of(format, 40)) == tuned.name());
  // Dense where that is forbidden; what is found then is not the best of all, and not kept.
  tuning dense = table_of(layer_of(format, 40), "dense");
  CHECK(std::string(pare::prepare(format, {.columns = 40, .may_be_dense = false, .choices = &dense}).name()) !=
        "dense");
  auto const sparse =
      pare::prepare(format, {.columns = 40, .may_be_dense = false, .autotune = true, .choices = &dense});
  CHECK(std::string(sparse.name()) != "dense");
  CHECK(dense.find(layer_of(format, 40)) == "dense");
}

TEST_CASE("prepare: autotune adds what it finds, for the threads that it measured") {
  auto const format = half_full<pare::bsr<4, 4, float>>({32, 48});
  tuning table;
  auto const one = pare::prepare(format, {.columns = 20, .autotune = true, .choices = &table});
  CHECK(table.size() == 1);
  CHECK(table.find(layer_of(format, 20)) == one.name());
  pare::thread_pool pool(2);
  auto const two = pare::prepare(format, {.columns = 20, .autotune = true, .choices = &table, .exec = pool});
  CHECK(table.size() == 2);
  CHECK(table.find(layer_of(format, 20, 0.0, 2)) == two.name());
  // Known now: neither measures, so both take what was found.
  CHECK(std::string(pare::prepare(format, {.columns = 20, .autotune = true, .choices = &table}).name()) == one.name());
  // A named operand is neither looked up nor noted.
  auto const named =
      pare::prepare(format, {.columns = 21, .autotune = true, .operand = "row_pairs", .choices = &table});
  CHECK(std::string(named.name()) == "row_pairs");
  CHECK(table.size() == 2);
}
