// SPDX-License-Identifier: Apache-2.0
// Conversions between all pairs of formats lose nothing: values bit by bit, and which elements are stored.
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include <pare/kernel/registry.hpp>
#include <pare/select/select.hpp>

#include "support/catch.hpp"
#include "support/samples.hpp"

using pare::bf16;
using pare::extents;
using pare::index_t;
using pare::mask;
using pare::matrix;
using pare::type_list;

namespace {

/// The formats of the registry, and shapes of blocks and groups that are no powers of two.
template <class T>
using more_formats = type_list<pare::csr<T, std::int16_t>, pare::bsr<3, 2, T>, pare::n_of_m_packed<2, 3, T>>;

/// Any bits at all: signalling and quiet NaN with payloads, both zeros, infinities, subnormals.
template <class T>
T any_value(pare::random_source& random) {
  if (random.uniform() < 0.2f) return T(random.uniform() < 0.5f ? 0.0f : -0.0f);
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
  } else {
    return bf16::from_bits(static_cast<std::uint16_t>(random.bits()));
  }
}

template <class T>
bool same_where_kept(matrix<T> const& a, matrix<T> const& original, mask const& keep) {
  for (index_t r = 0; r < keep.rows(); ++r)
    for (index_t c = 0; c < keep.cols(); ++c) {
      T const expected = keep(r, c) ? original(r, c) : T{};
      if (std::memcmp(&a(r, c), &expected, sizeof(T)) != 0) return false;
    }
  return true;
}

struct counters {
  int converted = 0;
  int refused = 0;
};

/// What is wrong with a conversion, or nothing. (No assertion in here: there are some hundred instances.)
template <class To, class From, class T>
char const* convert_one(From const& from, matrix<T> const& w, mask const& keep, counters& count) {
  if (!To::accepts(keep)) {
    ++count.refused;
    try {
      To const to = pare::convert<To>(from);
    } catch (pare::contract_violation const&) {
      return nullptr;
    }
    return "a mask that does not fit was taken";
  }
  ++count.converted;
  To const to = pare::convert<To>(from);
  if (to.nnz() != keep.count() || pare::kept(to) != keep) return "other elements are stored";
  if (!same_where_kept(pare::decompress(to), w, keep)) return "values have changed";
  return nullptr;
}

template <class T, class F>
void for_all_formats(F&& f) {
  pare::format_list<T>::for_each(f);
  more_formats<T>::for_each(f);
}

template <class T>
void check_all_pairs(std::uint64_t seed) {
  pare::random_source random(seed);
  counters count;
  for (int trial = 0; trial < 24; ++trial) {
    // Every third shape is one that all formats tile, every third one that few do.
    index_t const row_step = trial % 3 == 0 ? 48 : trial % 3 == 1 ? 4 : 1;
    index_t const col_step = trial % 3 == 0 ? 96 : trial % 3 == 1 ? 8 : 1;
    extents const shape{row_step * random.below(3), col_step * (1 + random.below(trial % 3 == 2 ? 90 : 3))};
    matrix<T> w(shape);
    for (index_t i = 0; i < w.size(); ++i) w.data()[i] = any_value<T>(random);
    mask keep = pare::test::random_mask(random, shape,
                                        trial % 4 == 0   ? 0.03f
                                        : trial % 4 == 1 ? 0.3f
                                                         : random.uniform());
    if (trial == 3) keep.fill();
    if (trial % 2 == 0 && shape.cols % 12 == 0) {  // so that the N:M formats take part
      auto const scores = pare::test::random_matrix(random, shape);
      keep &= pare::select(scores, pare::n_of_m<1, 4>{});
      keep &= pare::select(scores, pare::n_of_m<2, 3>{});
    }
    INFO("seed " << seed << ", trial " << trial << ", shape " << shape.rows << "x" << shape.cols << ", kept "
                 << keep.count());
    std::string complaints;
    for_all_formats<T>([&]<class From>() {
      if (!From::accepts(keep)) return;
      From const from = pare::compress<From>(w, keep);
      for_all_formats<T>([&]<class To>() {
        if (char const* const wrong = convert_one<To>(from, w, keep, count))
          complaints += std::string(wrong) + ": " + From::name() + " to " + To::name() + "\n";
      });
    });
    REQUIRE(complaints == "");
  }
  CHECK(count.converted > 1000);
  CHECK(count.refused > 100);
}

}  // namespace

TEST_CASE("convert: float, all pairs of formats, any bits and any mask that both take") { check_all_pairs<float>(101); }

TEST_CASE("convert: bf16, all pairs of formats, any bits and any mask that both take") { check_all_pairs<bf16>(102); }

TEST_CASE("convert: from bf16 to float is exact, back it is the identity, from float it rounds once") {
  pare::random_source random(103);
  for (int trial = 0; trial < 20; ++trial) {
    extents const shape{4 * random.below(5), 8 * random.below(9)};
    auto const w = pare::test::random_matrix(random, shape);
    mask const keep = pare::test::random_mask(random, shape, random.uniform());
    auto const narrow = pare::compress<pare::csr<bf16>>(w, keep);
    auto const wide = pare::convert<pare::bitmap<float>>(narrow);
    auto const back = pare::convert<pare::dense<bf16>>(wide);
    INFO("seed 103, trial " << trial);
    REQUIRE(pare::kept(back) == keep);
    REQUIRE(pare::test::same_bits(pare::decompress(back), pare::decompress(narrow)));
    pare::for_each(wide, [&](index_t r, index_t c, float v) { REQUIRE(v == static_cast<float>(bf16(w(r, c)))); });
  }
}
