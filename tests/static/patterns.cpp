// SPDX-License-Identifier: Apache-2.0
// Patterns, sparsity and sizes at compile time.
#include <pare/pattern/parse.hpp>
#include <pare/select/select.hpp>

namespace {

using pare::any_pattern;
using pare::extents;
using pare::fits;

static_assert(pare::sparsity(0.5).removed_of(7) == 3);
static_assert(pare::exactly(3, 7).removed_of(7) == 3);
static_assert(fits(pare::n_of_m<2, 4>{}, {3, 8}) && !fits(pare::n_of_m<2, 4>{}, {3, 6}) &&
              fits(pare::n_of_m<2, 4>{}, {0, 0}));
static_assert(fits(pare::block<4, 2>{}, {8, 6}) && !fits(pare::block<4, 2>{}, {6, 6}) &&
              !fits(pare::block<4, 2>{}, {8, 5}));
static_assert(fits(pare::unstructured{}, {3, 5}));

static_assert(pare::fixed_ratio_pattern<pare::n_of_m<2, 4>> && !pare::fixed_ratio_pattern<pare::block<4, 1>>);
static_assert(!pare::fixed_ratio_pattern<any_pattern>);  // known at run time only
static_assert(pare::has_fixed_ratio(any_pattern({1, 1}, 2, 4)) && !pare::has_fixed_ratio(any_pattern()));

static_assert(pare::detail::order_key(-0.0f) == pare::detail::order_key(0.0f));
static_assert(pare::detail::order_key(-1.0f) < pare::detail::order_key(-0.5f));
static_assert(pare::detail::order_key(-1e-45f) < pare::detail::order_key(0.0f));
static_assert(pare::detail::order_key(0.0f) < pare::detail::order_key(1e-45f));

static_assert(pare::detail::whole_fraction("0.5") == 0.5 && !pare::detail::whole_fraction("").has_value());

}  // namespace
