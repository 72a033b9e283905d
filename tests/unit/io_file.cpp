// SPDX-License-Identifier: Apache-2.0
// Reading refuses what is not a file; writing is all or nothing.
#include <csignal>
#include <string>
#include <vector>

#include <sys/resource.h>
#include <sys/stat.h>

#include <pare/io/bytes.hpp>
#include <pare/io/file.hpp>

#include "io_scratch.hpp"
#include "support/catch.hpp"

using pare::errc;
using pare::test::content;
using pare::test::scratch_folder;

namespace {

/// Files may not grow beyond `bytes` while this lives: what a full disk looks like to a program.
class file_size_limit {
 public:
  explicit file_size_limit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    rlimit const limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  file_size_limit(file_size_limit const&) = delete;
  file_size_limit& operator=(file_size_limit const&) = delete;
  ~file_size_limit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit old_{};
  void (*handler_)(int);
};

}  // namespace

TEST_CASE("io/file: what is not a regular file is refused without waiting") {
  scratch_folder const folder;
  auto const fifo = folder / "fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  for (auto const& path : {folder.path(), fifo, std::filesystem::path("/dev/zero"), folder / "missing"}) {
    auto const read = pare::read_file(path);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == errc::io);
    CHECK(read.error().where == path.string());
  }
}

TEST_CASE("io/file: a file is read back as it was written, and a limit is kept") {
  scratch_folder const folder;
  std::string const text = std::string("a\0b", 3) + std::string(100'000, 'x');
  auto const path = folder.write("f", text);
  CHECK(content(path) == text);
  CHECK(content(folder.write("empty", "")).empty());
  CHECK(pare::read_file(path, text.size()));
  auto const refused = pare::read_file(path, text.size() - 1);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::unsupported);
}

TEST_CASE("io/file: a new file takes the place of the old one only on commit") {
  scratch_folder const folder;
  auto const path = folder.write("f", "old");
  {
    auto file = pare::atomic_file::open(path);
    REQUIRE(file);
    REQUIRE(file->append(pare::as_bytes("new")));
    CHECK(content(path) == "old");
    auto moved = *std::move(file);
    REQUIRE(moved.append(pare::as_bytes("er")));
    REQUIRE(moved.commit());
  }
  CHECK(content(path) == "newer");
  {
    auto file = pare::atomic_file::open(path);
    REQUIRE(file);
    REQUIRE(file->append(pare::as_bytes("never seen")));
  }
  CHECK(content(path) == "newer");
  CHECK(folder.list() == std::vector<std::string>{"f"});
}

TEST_CASE("io/file: a full disk leaves the old file and no temporary") {
  scratch_folder const folder;
  auto const path = folder.write("f", "old");
  std::vector<std::byte> const large(1 << 16);
  {
    file_size_limit const limit(4096);
    auto const written = pare::write_file_atomically(path, large);
    REQUIRE_FALSE(written);
    CHECK(written.error().code == errc::io);
    CHECK(written.error().where == path.string());
  }
  CHECK(content(path) == "old");
  CHECK(folder.list() == std::vector<std::string>{"f"});
}

TEST_CASE("io/file: folders, devices and missing folders are not written to") {
  scratch_folder const folder;
  std::filesystem::create_directory(folder / "sub");
  for (auto const& path : {folder / "sub", std::filesystem::path("/dev/full"), folder / "absent" / "f"}) {
    auto const written = pare::write_file_atomically(path, pare::as_bytes("x"));
    REQUIRE_FALSE(written);
    CHECK(written.error().code == errc::io);
  }
  CHECK(folder.list() == std::vector<std::string>{"sub"});
}
