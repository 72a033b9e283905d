// SPDX-License-Identifier: Apache-2.0
// Thresholds, shares of the sum, random masks, and updates of masks, against versions written from their definitions.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include <pare/select/grow_drop.hpp>
#include <pare/select/limited_swaps.hpp>
#include <pare/select/random_mask.hpp>
#include <pare/select/threshold.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::any_pattern;
using pare::contract_violation;
using pare::crossing;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::scope;
using pare::sparsity;
using pare::test::random_mask;
using pare::test::random_matrix;

namespace {

matrix<float> make(index_t rows, index_t cols, std::vector<float> const& values) {
  matrix<float> m(rows, cols);
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = values[static_cast<std::size_t>(i)];
  return m;
}

mask make_mask(index_t rows, index_t cols, std::vector<int> const& keep) {
  mask m({rows, cols});
  for (index_t i = 0; i < rows * cols; ++i) m.set(i / cols, i % cols, keep[static_cast<std::size_t>(i)] != 0);
  return m;
}

/// Random values, and such as methods stumble over: zeros, ties, tiny and huge ones, one row, one column, nothing.
std::vector<matrix<float>> awkward(std::uint64_t seed) {
  pare::random_source random(seed);
  std::vector<matrix<float>> out;
  for (extents const shape : {extents{6, 8}, {1, 13}, {13, 1}, {1, 1}, {5, 70}, {0, 4}, {4, 0}}) {
    out.push_back(random_matrix(random, shape));
    out.emplace_back(shape);  // zeros
    matrix<float> coarse(shape);
    for (index_t i = 0; i < coarse.size(); ++i) coarse.data()[i] = static_cast<float>(random.below(5)) - 2.0f;
    out.push_back(coarse);
    matrix<float> scaled = random_matrix(random, shape);
    for (index_t i = 0; i < scaled.size(); ++i) scaled.data()[i] *= i % 3 == 0 ? 1e-10f : (i % 3 == 1 ? 1e20f : 1.0f);
    out.push_back(scaled);
  }
  return out;
}

matrix<float> absolute(matrix<float> m) {
  for (index_t i = 0; i < m.size(); ++i) m.data()[i] = std::abs(m.data()[i]);
  return m;
}

struct entry {
  double value;
  index_t position;
};

/// Lowest first, ties by position.
std::vector<index_t> ascending(std::vector<entry> pool) {
  std::stable_sort(pool.begin(), pool.end(), [](entry const& a, entry const& b) { return a.value < b.value; });
  std::vector<index_t> out;
  for (entry const& e : pool) out.push_back(e.position);
  return out;
}

void set(mask& m, index_t position, bool keep) { m.set(position / m.cols(), position % m.cols(), keep); }
bool get(mask const& m, index_t position) { return m(position / m.cols(), position % m.cols()); }

mask slow_mass(matrix<float> const& s, double share, scope where, crossing last) {
  mask keep(s.shape());
  index_t const rows = where == scope::row ? 1 : s.rows();
  for (index_t first = 0; first < s.rows(); first += rows) {
    std::vector<entry> pool;
    long double sum = 0.0;
    for (index_t i = first * s.cols(); i < (first + rows) * s.cols(); ++i) {
      pool.push_back({static_cast<double>(s.data()[i]), i});
      sum += static_cast<long double>(s.data()[i]);
    }
    auto order = ascending(pool);
    std::reverse(order.begin(), order.end());
    long double cumulated = 0.0;
    for (index_t const i : order) {
      if (sum == 0.0L) break;
      auto const v = static_cast<long double>(s.data()[i]);
      cumulated += v / sum;
      bool const over = cumulated > static_cast<long double>(share) + 1e-5L;
      if (share == 1.0 ? v / sum > 1e-5L : (!over || last == crossing::kept)) set(keep, i, true);
      if (share < 1.0 && over) break;
    }
  }
  return keep;
}

/// What stays of `keep` when `count` of it with the lowest values go.
mask slow_drop(mask keep, std::vector<entry> const& pool, index_t count) {
  auto const order = ascending(pool);
  for (index_t i = 0; i < count; ++i) set(keep, order[static_cast<std::size_t>(i)], false);
  return keep;
}

mask slow_update(matrix<float> const& w, mask const& keep, matrix<float> const& g, index_t count,
                 std::vector<double> const& noise) {
  std::vector<entry> kept;
  std::size_t drawn = 0;
  for (index_t i = 0; i < w.size(); ++i)
    if (get(keep, i))
      kept.push_back({std::abs(static_cast<double>(w.data()[i])) + (noise.empty() ? 0.0 : noise[drawn++]), i});
  mask now = slow_drop(keep, kept, count);
  std::vector<entry> outside;
  for (index_t i = 0; i < w.size(); ++i)
    if (!get(now, i)) outside.push_back({std::abs(static_cast<double>(g.data()[i])), i});
  auto const order = ascending(outside);
  for (index_t i = 0; i < count; ++i) set(now, order[order.size() - 1 - static_cast<std::size_t>(i)], true);
  return now;
}

/// What stays of a mask in SET, before anything grows.
mask slow_tails(matrix<float> const& w, mask const& keep, double zeta) {
  mask stays = keep;
  for (bool const positive : {true, false}) {
    std::vector<entry> tail;
    for (index_t i = 0; i < w.size(); ++i) {
      auto const v = static_cast<double>(w.data()[i]);
      if (get(keep, i) && (positive ? v > 0.0 : v < 0.0)) tail.push_back({std::abs(v), i});
    }
    stays = slow_drop(stays, tail, static_cast<index_t>(std::floor(zeta * static_cast<double>(tail.size()))));
  }
  for (index_t i = 0; i < w.size(); ++i)
    if (w.data()[i] == 0.0f) set(stays, i, false);
  return stays;
}

constexpr double fractions[] = {0.0, 0.1, 0.3, 0.5, 1.0};

}  // namespace

TEST_CASE("select_above, select_at_least: by hand, with scores equal to the threshold") {
  auto const s = make(3, 4, {1, 2, 3, 4, 2, 2, -1, 0, 5, 2, 1, 2});
  CHECK(pare::select_above(s, 2.0f) == make_mask(3, 4, {0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0}));
  CHECK(pare::select_at_least(s, 2.0f) == make_mask(3, 4, {0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1}));
  CHECK(pare::select_above(s, -2.0f).keeps_all());
  CHECK(pare::select_at_least(s, 5.1f).count() == 0);
  // Blocks of 1 x 2 compete with their sums 3 7 / 4 -1 / 7 3.
  CHECK(pare::select_above(s, 3.0f, pare::block<1, 2>{}) == make_mask(3, 4, {0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0}));
  CHECK(pare::select_at_least(s, 3.0f, pare::block<1, 2>{}) == make_mask(3, 4, {1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1}));
}

TEST_CASE("select_above, select_at_least: what they must refuse") {
  float const nan = std::numeric_limits<float>::quiet_NaN();
  auto const s = make(2, 4, {1, 2, 3, 4, 5, 6, 7, 8});
  CHECK_THROWS_AS(pare::select_above(s, nan), contract_violation);
  CHECK_THROWS_AS(pare::select_at_least(s, nan), contract_violation);
  CHECK_THROWS_AS(pare::select_above(make(1, 2, {1, nan}), 0.0f), contract_violation);
  CHECK_THROWS_AS(pare::select_above(s, 0.0f, pare::block<1, 3>{}), contract_violation);
  CHECK_THROWS_AS(pare::select_at_least(s, 0.0f, any_pattern(pare::n_of_m<2, 4>{})), contract_violation);
}

TEST_CASE("select_mass: by hand, at the crossing, with ties, zeros and a share of 1") {
  auto const s = make(3, 4, {5, 3, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0});
  CHECK(pare::select_mass(s, 0.8, scope::row) == make_mask(3, 4, {1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0}));
  CHECK(pare::select_mass(s, 0.49, scope::row).row_count(0) == 0);  // the first unit has more
  CHECK(pare::select_mass(s, 0.49, scope::row, pare::unstructured{}, crossing::kept) ==
        make_mask(3, 4, {1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0}));
  CHECK(pare::select_mass(s, 1.0, scope::row) == make_mask(3, 4, {1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}));
  CHECK(pare::select_mass(s, 0.0, scope::row).count() == 0);
  // The whole matrix has a sum of 14: 5, 3 make 8 / 14 = 0.571; the next 1 is the last one, with 9 / 14 = 0.643.
  CHECK(pare::select_mass(s, 0.65) == make_mask(3, 4, {1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}));
  CHECK(pare::select_mass(make(1, 3, {1.0f, 9e-6f, 2e-5f}), 1.0) == make_mask(1, 3, {1, 0, 1}));
  CHECK(pare::select_mass(s, 0.5, scope::row, pare::block<1, 2>{}) ==  // of 8 2: 0.8; of 2 2: the second
        make_mask(3, 4, {0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0}));
}

TEST_CASE("select_mass: agrees with its definition") {
  for (auto const& w : awkward(1)) {
    auto const s = absolute(w);
    for (double const share : {0.0, 0.137, 0.5123, 0.9, 0.987654, 1.0})
      for (scope const where : {scope::row, scope::matrix})
        for (crossing const last : {crossing::dropped, crossing::kept}) {
          INFO(s.rows() << " x " << s.cols() << " share " << share);
          auto const keep = pare::select_mass(s, share, where, pare::unstructured{}, last);
          REQUIRE(keep == slow_mass(s, share, where, last));
          REQUIRE(pare::select_mass(s, share, where).subset_of(keep));
        }
  }
}

TEST_CASE("select_mass: what it must refuse") {
  auto const s = make(1, 4, {1, 2, 3, 4});
  CHECK_THROWS_AS(pare::select_mass(s, 1.1), contract_violation);
  CHECK_THROWS_AS(pare::select_mass(s, -0.1), contract_violation);
  CHECK_THROWS_AS(pare::select_mass(s, std::nan("")), contract_violation);
  CHECK_THROWS_AS(pare::select_mass(s, 0.5, scope::network), contract_violation);
  CHECK_THROWS_AS(pare::select_mass(s, 0.5, scope::row, any_pattern(pare::n_of_m<2, 4>{})), contract_violation);
  CHECK_THROWS_AS(pare::select_mass(make(1, 2, {1, -1}), 0.5), contract_violation);
  CHECK_THROWS_AS(pare::select_mass(make(1, 2, {1, std::numeric_limits<float>::infinity()}), 0.5), contract_violation);
}

TEST_CASE("bernoulli_mask: the density is right on average, and the seed decides all") {
  for (double const s : {0.0, 0.1, 0.75, 1.0}) {
    auto const keep = pare::bernoulli_mask({200, 300}, sparsity{s}, 11);
    CHECK(std::abs(keep.sparsity() - s) <= 5.0 * std::sqrt(s * (1.0 - s) / 60000.0));
    CHECK(keep == pare::bernoulli_mask({200, 300}, sparsity{s}, 11));
    CHECK((keep == pare::bernoulli_mask({200, 300}, sparsity{s}, 12)) == (s == 0.0 || s == 1.0));
  }
  pare::random_source random(5);  // the numbers of the generator, in order
  auto const keep = pare::bernoulli_mask({3, 4}, sparsity{0.5}, 5);
  for (index_t i = 0; i < 12; ++i) CHECK(get(keep, i) == (random.bits() >> 63 != 0));
}

TEST_CASE("random_mask: exact counts, every mask equally often") {
  for (index_t n = 0; n <= 70; ++n)
    for (double const s : {0.0, 0.29, 0.5, 0.99, 1.0}) {
      auto const keep = pare::random_mask({3, n}, sparsity{s}, static_cast<std::uint64_t>(n));
      REQUIRE(3 * n - keep.count() == static_cast<index_t>(std::floor(s * static_cast<double>(3 * n))));
    }
  CHECK(pare::random_mask({20, 20}, sparsity{0.5}, 1) == pare::random_mask({20, 20}, sparsity{0.5}, 1));
  CHECK_FALSE(pare::random_mask({20, 20}, sparsity{0.5}, 1) == pare::random_mask({20, 20}, sparsity{0.5}, 2));
  std::map<int, int> seen;  // 2 of 2 x 2: six masks
  for (std::uint64_t seed = 0; seed < 6000; ++seed) {
    auto const keep = pare::random_mask({2, 2}, sparsity{0.5}, seed);
    int code = 0;
    for (index_t i = 0; i < 4; ++i) code = 2 * code + (get(keep, i) ? 1 : 0);
    ++seen[code];
  }
  CHECK(seen.size() == 6);
  for (auto const& [code, count] : seen) CHECK(std::abs(count - 1000) < 5 * 29);  // 5 standard deviations
}

TEST_CASE("rigl_update, granet_update: by hand") {
  auto const w = make(3, 4, {0.9f, -0.1f, 0, 0, 0.2f, 0, -0.8f, 0, 0.3f, 0, 0, 0.7f});
  auto const keep = make_mask(3, 4, {1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1});
  auto const g = make(3, 4, {9, 5, -4, 1, 0, 0, 9, -2, 0.5f, 1, 1, 9});
  // Of six kept, 0.4 drops two: -0.1 and 0.2. Outside the largest gradients are 5 (just dropped) and -4.
  CHECK(pare::rigl_update(w, keep, g, 0.4) == make_mask(3, 4, {1, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1}));
  // Rounded up it drops three, 0.3 too: 5, -4 and -2 grow.
  CHECK(pare::granet_update(w, keep, g, 0.4) == make_mask(3, 4, {1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1}));
  CHECK(pare::granet_update(w, keep, g, 0.5) == pare::rigl_update(w, keep, g, 0.5));
  // Ties: the first of two equal weights goes, the last of equal gradients comes.
  auto const ties =
      pare::rigl_update(make(1, 4, {1, 1, 0, 0}), make_mask(1, 4, {1, 1, 0, 0}), make(1, 4, {2, 2, 2, 2}), 0.5);
  CHECK(ties == make_mask(1, 4, {0, 1, 0, 1}));
}

TEST_CASE("rigl_update, granet_update: agree with their definitions, noise included") {
  pare::random_source random(3);
  for (auto const& w : awkward(2))
    for (float const density : {0.0f, 0.4f, 1.0f}) {
      auto const keep = random_mask(random, w.shape(), density);
      auto g = random_matrix(random, w.shape());
      for (index_t i = 0; i < g.size(); i += 3) g.data()[i] = 1.0f;  // ties
      for (double const f : fractions) {
        INFO(w.rows() << " x " << w.cols() << " density " << density << " fraction " << f);
        double const exact = f * static_cast<double>(keep.count());
        auto const down = static_cast<index_t>(std::floor(exact));
        auto const rigl = pare::rigl_update(w, keep, g, f);
        REQUIRE(rigl == slow_update(w, keep, g, down, {}));
        REQUIRE(rigl.count() == keep.count());
        REQUIRE(pare::granet_update(w, keep, g, f) ==
                slow_update(w, keep, g, static_cast<index_t>(std::ceil(exact)), {}));
      }
    }
  auto const w = random_matrix(random, {9, 11});
  auto const g = random_matrix(random, {9, 11});
  auto const keep = random_mask(random, {9, 11}, 0.5f);
  pare::random_source drawn(17);
  std::vector<double> noise;
  for (index_t i = 0; i < keep.count(); ++i) noise.push_back(static_cast<double>(0.5f * drawn.normal()));
  auto const noisy = pare::rigl_update(w, keep, g, 0.5, {.deviation = 0.5f, .seed = 17});
  CHECK(noisy == slow_update(w, keep, g, keep.count() / 2, noise));
  CHECK_FALSE(noisy == pare::rigl_update(w, keep, g, 0.5));
}

TEST_CASE("set_update: by hand") {
  // Positive 0.1 0.2 0.3 0.4, negative -0.1 -0.5, a kept zero: half of each sign and the zero go, 4 of 7.
  auto const w = make(2, 5, {0.3f, 0.1f, -0.5f, 0.0f, 0, 0.4f, 0.2f, -0.1f, 0, 0});
  auto const keep = make_mask(2, 5, {1, 1, 1, 1, 0, 1, 1, 1, 0, 0});
  auto const stays = make_mask(2, 5, {1, 0, 1, 0, 0, 1, 0, 0, 0, 0});
  std::map<index_t, int> grown;
  for (std::uint64_t seed = 0; seed < 700; ++seed) {
    auto const after = pare::set_update(w, keep, 0.5, seed);
    REQUIRE(after.count() == 7);
    REQUIRE(stays.subset_of(after));
    for (index_t i = 0; i < 10; ++i)
      if (get(after, i) && !get(stays, i)) ++grown[i];
  }
  CHECK(grown.size() == 7);  // four of seven free places, each equally often
  for (auto const& [position, count] : grown) CHECK(std::abs(count - 400) < 5 * 14);
}

TEST_CASE("set_update: keeps what its definition says, and the count") {
  pare::random_source random(4);
  for (auto const& w : awkward(5))
    for (float const density : {0.0f, 0.5f, 1.0f}) {
      auto const keep = random_mask(random, w.shape(), density);
      for (double const zeta : fractions) {
        INFO(w.rows() << " x " << w.cols() << " density " << density << " zeta " << zeta);
        auto const after = pare::set_update(w, keep, zeta, 9);
        REQUIRE(after.count() == keep.count());
        REQUIRE(slow_tails(w, keep, zeta).subset_of(after));
        REQUIRE(after == pare::set_update(w, keep, zeta, 9));
      }
    }
  auto const w = random_matrix(random, {30, 30});
  auto const keep = random_mask(random, {30, 30}, 0.3f);
  CHECK_FALSE(pare::set_update(w, keep, 0.5, 1) == pare::set_update(w, keep, 0.5, 2));
  // What is dropped is dropped: of 136 it would return by chance only.
  auto const gone = keep & ~slow_tails(w, keep, 0.5);
  CHECK((pare::set_update(w, keep, 0.5, 1) & gone).count() < gone.count() / 2);
}

TEST_CASE("mask updates: what they must refuse") {
  float const nan = std::numeric_limits<float>::quiet_NaN();
  matrix<float> const w(2, 2);
  matrix<float> const wide(2, 3);
  mask const keep({2, 2}, true);
  CHECK_THROWS_AS(pare::rigl_update(wide, keep, w, 0.5), contract_violation);
  CHECK_THROWS_AS(pare::rigl_update(w, keep, wide, 0.5), contract_violation);
  CHECK_THROWS_AS(pare::granet_update(w, keep, w, 1.5), contract_violation);
  CHECK_THROWS_AS(pare::granet_update(w, keep, w, -0.1), contract_violation);
  CHECK_THROWS_AS(pare::set_update(w, keep, std::nan(""), 0), contract_violation);
  CHECK_THROWS_AS(pare::set_update(make(2, 2, {1, nan, 1, 1}), keep, 0.5, 0), contract_violation);
  CHECK_THROWS_AS(pare::rigl_update(make(2, 2, {1, nan, 1, 1}), keep, w, 0.5), contract_violation);
  CHECK_THROWS_AS(pare::rigl_update(w, mask({2, 2}), make(2, 2, {1, nan, 1, 1}), 0.5), contract_violation);
}

TEST_CASE("swap_towards: by hand") {
  auto const now = make_mask(3, 4, {1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0});
  auto const wanted = make_mask(3, 4, {1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0});
  auto const s = make(3, 4, {0, 3, 2, 7, 8, 7, 2, 0, 0, 0, 0, 0});
  // Three pairs differ. A third of them: 8 enters, the first 2 leaves.
  CHECK(pare::swap_towards(now, wanted, s, 1.0 / 3.0) == make_mask(3, 4, {1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0}));
  // Half, rounded up, is two: of the 7s the second enters, and the other 2 leaves.
  CHECK(pare::swap_towards(now, wanted, s, 0.5) == make_mask(3, 4, {1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0}));
  CHECK(pare::swap_towards(now, wanted, s, 1.0) == wanted);
  CHECK(pare::swap_towards(now, wanted, s, 0.0) == now);
}

TEST_CASE("swap_towards: agrees with its definition, and reaches the wanted mask in the end") {
  pare::random_source random(8);
  for (auto const& s : awkward(6)) {
    auto const wanted = pare::select(s, pare::unstructured{}, sparsity{0.6});
    auto const start = pare::select(random_matrix(random, s.shape()), pare::unstructured{}, sparsity{0.6});
    for (double const rate : fractions) {
      std::vector<entry> enter;
      std::vector<entry> leave;
      for (index_t i = 0; i < s.size(); ++i) {
        if (get(wanted, i) && !get(start, i)) enter.push_back({static_cast<double>(s.data()[i]), i});
        if (!get(wanted, i) && get(start, i)) leave.push_back({static_cast<double>(s.data()[i]), i});
      }
      auto const in = ascending(enter);
      auto const out = ascending(leave);
      mask expected = start;
      auto const count = static_cast<std::size_t>(std::ceil(rate * static_cast<double>(in.size())));
      for (std::size_t i = 0; i < count; ++i) {
        set(expected, in[in.size() - 1 - i], true);
        set(expected, out[i], false);
      }
      INFO(s.rows() << " x " << s.cols() << " rate " << rate);
      REQUIRE(pare::swap_towards(start, wanted, s, rate) == expected);
    }
    mask now = start;
    for (index_t i = 0; i < s.size(); ++i) now = pare::swap_towards(now, wanted, s, 0.01);  // one pair at least
    REQUIRE(now == wanted);
  }
}

TEST_CASE("swap_towards: what it must refuse") {
  matrix<float> const s(2, 2);
  mask const one = make_mask(2, 2, {1, 0, 0, 0});
  CHECK_THROWS_AS(pare::swap_towards(one, mask({2, 2}, true), s, 0.5), contract_violation);
  CHECK_THROWS_AS(pare::swap_towards(one, one, matrix<float>(2, 3), 0.5), contract_violation);
  CHECK_THROWS_AS(pare::swap_towards(one, mask({2, 3}), s, 0.5), contract_violation);
  CHECK_THROWS_AS(pare::swap_towards(one, one, s, 1.5), contract_violation);
  float const nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(pare::swap_towards(one, make_mask(2, 2, {0, 1, 0, 0}), make(2, 2, {0, nan, 0, 0}), 0.5),
                  contract_violation);
}
