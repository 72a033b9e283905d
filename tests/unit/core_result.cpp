// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <string>

#include <pare/core/progress.hpp>
#include <pare/core/result.hpp>

#include "support/catch.hpp"

using pare::errc;
using pare::error;
using pare::result;

namespace {

result<int> half(int n) {
  if (n % 2 != 0) return error{errc::out_of_range, "n", "expected an even number, found " + std::to_string(n)};
  return n / 2;
}
result<void> even(int n) {
  PARE_TRY_VOID(half(n));
  return {};
}
result<std::string> quarter(int n) {
  PARE_TRY(int const once, half(n));
  PARE_TRY(int const twice, half(once));
  PARE_TRY_VOID(even(0));
  return std::to_string(twice);
}

}  // namespace

TEST_CASE("result: PARE_TRY binds values and passes errors on") {
  CHECK(quarter(12).value() == "3");
  auto const r = quarter(6);
  REQUIRE_FALSE(r);
  CHECK(r.error().code == errc::out_of_range);
  CHECK(r.error().message() == "n: expected an even number, found 3");
  CHECK_FALSE(even(3));
  CHECK(even(4));
}

TEST_CASE("result: asking for the value of an error is a contract violation that carries the message") {
  CHECK_THROWS_WITH(half(3).value(), "n: expected an even number, found 3");
  CHECK_THROWS_AS(even(3).value(), pare::contract_violation);
  CHECK_NOTHROW(even(2).value());
  auto const long_one = result<int>(error{errc::io, "", std::string(1000, 'x')});
  CHECK_THROWS_WITH(long_one.value(), std::string(255, 'x'));
}

TEST_CASE("result: holds what can only be moved") {
  result<std::unique_ptr<int>> r(std::make_unique<int>(5));
  CHECK(*std::move(r).value() == 5);
}

TEST_CASE("error: an outer place goes in front of the inner one") {
  CHECK(pare::in("file", {errc::malformed, "tensor a", "bad"}).message() == "file: tensor a: bad");
  CHECK(pare::in("file", {errc::malformed, "", "bad"}).message() == "file: bad");
  CHECK(error{errc::io, "", "bad"}.message() == "bad");
}

TEST_CASE("progress: a copy does not need the original") {
  auto stop = [](std::string_view, pare::index_t, pare::index_t) { return false; };
  pare::progress original(stop);
  pare::progress const copy(original);
  original = pare::progress{};
  CHECK(original("work", 0, 1));
  CHECK_FALSE(copy("work", 0, 1));
}

TEST_CASE("progress: default-constructed it goes on; a callee that returns false cancels") {
  CHECK(pare::progress{}("work", 0, 1));
  std::string seen;
  auto callee = [&](std::string_view what, pare::index_t done, pare::index_t total) {
    seen = std::string(what) + std::to_string(done) + "/" + std::to_string(total);
    return done < 2;
  };
  pare::progress const report(callee);
  CHECK(report("work ", 1, 3));
  CHECK(seen == "work 1/3");
  CHECK_FALSE(report("work ", 2, 3));
}
