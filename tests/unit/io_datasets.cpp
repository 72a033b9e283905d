// SPDX-License-Identifier: Apache-2.0
// Arrays and data sets: npy, idx (plain and compressed), CIFAR-10.
#include <algorithm>
#include <string>
#include <vector>

#include <pare/io/cifar.hpp>
#include <pare/io/idx.hpp>
#include <pare/io/npy.hpp>

#include "io_scratch.hpp"
#include "support/catch.hpp"
#include "support/data.hpp"

using pare::errc;
using pare::index_t;
using pare::test::content;
using pare::test::scratch_folder;

namespace {

std::vector<std::byte> to_vector(std::string const& text) {
  auto const bytes = pare::as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

/// A .npy file of version 1.
std::vector<std::byte> npy(std::string header, std::string const& data) {
  header += '\n';
  std::string file = std::string("\x93NUMPY\x01\0", 8);
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8);
  return to_vector(file + header + data);
}

std::string big(std::vector<std::uint32_t> const& words) {
  std::string out;
  for (std::uint32_t w : words)
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>((w >> shift) & 0xff);
  return out;
}

}  // namespace

TEST_CASE("io/npy: a written matrix is read back, its data aligned to 64 bytes") {
  scratch_folder const folder;
  pare::matrix<float> m(3, 5);
  for (index_t i = 0; i < 15; ++i) m.data()[i] = static_cast<float>(i) - 7.5f;
  REQUIRE(pare::write_npy(folder / "m.npy", m.span()));
  CHECK(content(folder / "m.npy").size() == 128 + 60);
  auto const back = pare::read_npy_matrix(folder / "m.npy");
  REQUIRE(back);
  CHECK(back->shape() == m.shape());
  CHECK(std::equal(m.data(), m.data() + 15, back->data()));
  REQUIRE(pare::write_npy(folder / "t.npy", m.span().transposed()));
  CHECK((*pare::read_npy_matrix(folder / "t.npy"))(4, 2) == m(2, 4));
}

TEST_CASE("io/npy: Fortran order and all integer types are read") {
  auto const a =
      pare::parse_npy(npy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", "\x01\x02\x03\x04\x05\x06"));
  REQUIRE(a);
  CHECK(*pare::to_ints(*a) == std::vector<int>{1, 3, 5, 2, 4, 6});
  CHECK(pare::to_matrix(*a)(1, 0) == 2.0f);
  auto const ints = [](char const* descr, std::string const& data) {
    auto const array =
        pare::parse_npy(npy("{\"shape\": (1,), 'fortran_order': False, 'descr': '" + std::string(descr) + "'}", data));
    REQUIRE(array);
    return pare::to_ints(*array);
  };
  CHECK(ints("|i1", "\xff")->front() == -1);
  CHECK(ints("<i2", "\xfe\xff")->front() == -2);
  CHECK(ints("<u2", "\xfe\xff")->front() == 65534);
  CHECK(ints("<i4", std::string("\x01\x02\0\0", 4))->front() == 513);
  CHECK(ints("<i8", std::string(8, '\xff'))->front() == -1);
  CHECK(ints("|b1", "\x01")->front() == 1);
  CHECK(ints("<u8", std::string(8, '\xff')).error().code == errc::out_of_range);
  CHECK(ints("<u4", std::string(4, '\xff')).error().code == errc::out_of_range);
  CHECK(ints("<f4", std::string(4, '\0')).error().code == errc::mismatch);
}

TEST_CASE("io/npy: reference arrays of the networks are read") {
  if (auto const path = pare::test::data("stories260K/ref_logits_once_upon_a_time.npy"))
    CHECK(pare::read_npy_matrix(*path)->shape() == pare::extents{8, 512});
  if (auto const path = pare::test::data("stories260K/ref_tokens_once_upon_a_time.npy")) {
    auto const tokens = *pare::read_npy_ints(*path);
    CHECK(std::vector<int>(tokens.begin(), tokens.begin() + 5) == std::vector<int>{1, 403, 407, 261, 378});
  }
  if (auto const path = pare::test::data("stories260K/ref_nll_tinystories_20000.npy"))
    CHECK(pare::read_npy_matrix(*path)->shape() == pare::extents{20000, 1});
}

TEST_CASE("io/npy: hostile files are refused") {
  std::string const good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
  REQUIRE(pare::parse_npy(npy(good, std::string(8, 'x'))));
  auto const refused = [](std::string const& header, std::size_t data, errc code) {
    auto const parsed = pare::parse_npy(npy(header, std::string(data, 'x')));
    return !parsed && parsed.error().code == code;
  };
  auto const with = [](std::string const& descr, std::string const& shape) {
    return "{'descr': " + descr + ", 'fortran_order': False, 'shape': " + shape + ", }";
  };
  CHECK(refused(good, 7, errc::malformed));
  CHECK(refused(good, 9, errc::malformed));
  CHECK(refused(with("'|O'", "(1,)"), 8, errc::unsupported));
  CHECK(refused(with("'>f4'", "(1,)"), 4, errc::unsupported));
  CHECK(refused(with("[('a', '<f4')]", "(1,)"), 4, errc::unsupported));
  CHECK(refused(with("'<f4'", "(4294967296, 4294967296, 4)"), 0, errc::malformed));
  CHECK(refused(with("'<f8'", "(2305843009213693952, 4)"), 0, errc::malformed));
  CHECK(refused(with("'<f4'", "(-1,)"), 4, errc::malformed));
  CHECK(refused(with("'<f4'", "(99999999999999999999,)"), 4, errc::malformed));
  CHECK(refused(with("'<f4'", "(1"), 4, errc::malformed));
  CHECK(refused(with("'<f4'", "1"), 4, errc::malformed));
  CHECK(refused("{'descr': '<f4', 'shape': (1,)}", 4, errc::malformed));
  CHECK(refused("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, errc::malformed));
  CHECK(refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", 4, errc::malformed));
  CHECK(refused("{'descr", 4, errc::malformed));
  CHECK(refused("", 4, errc::malformed));
  auto const whole = npy(good, std::string(8, 'x'));
  for (std::size_t n = 0; n < whole.size(); ++n)
    CHECK_FALSE(pare::parse_npy({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)}));
  auto claim = whole;
  claim[6] = std::byte{2};
  CHECK_FALSE(pare::parse_npy(claim));  // version 2 reads four length bytes, which claim too much
  claim[6] = std::byte{9};
  CHECK(pare::parse_npy(claim).error().code == errc::unsupported);
}

TEST_CASE("io/idx: images and labels are read, and sizes must fit the file") {
  scratch_folder const folder;
  auto const images = pare::read_idx_images(folder.write("i", big({2051, 2, 1, 3}) + "abcdef"));
  REQUIRE(images);
  CHECK(images->count == 2);
  CHECK(images->cols == 3);
  CHECK(images->pixels == std::vector<std::uint8_t>{'a', 'b', 'c', 'd', 'e', 'f'});
  CHECK(*pare::read_idx_labels(folder.write("l", big({2049, 2}) + "\x07\x01")) == std::vector<std::uint8_t>{7, 1});
  auto const refused = [&](std::string const& file) {
    auto const r = pare::read_idx_images(folder.write("x", file));
    return !r && r.error().code == errc::malformed && r.error().where.ends_with("x");
  };
  CHECK(refused(""));
  CHECK(refused(big({2051, 2, 1})));
  CHECK(refused(big({2049, 6}) + "abcdef"));
  CHECK(refused(big({2051, 2, 1, 3}) + "abcde"));
  CHECK(refused(big({2051, 2, 1, 3}) + "abcdefg"));
  CHECK(refused(big({2051, 0xffffffff, 0xffffffff, 0xffffffff}) + "abcdef"));
  CHECK(refused(big({2051, 0xffffffff, 4, 4}) + "abcdef"));
}

#if defined(PARE_WITH_ZLIB) && PARE_WITH_ZLIB
TEST_CASE("io/gzip: a compressed file is read, and damage is found") {
  // gzip of the idx images {2, 1, 3} "abcdef", made with zlib
  std::string packed(256, '\0');
  std::string const plain = big({2051, 2, 1, 3}) + "abcdef";
  z_stream z{};
  REQUIRE(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string input = plain;
  z.next_in = reinterpret_cast<Bytef*>(input.data());
  z.avail_in = static_cast<uInt>(input.size());
  z.next_out = reinterpret_cast<Bytef*>(packed.data());
  z.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
  packed.resize(packed.size() - z.avail_out);
  deflateEnd(&z);

  scratch_folder const folder;
  auto const images = pare::read_idx_images(folder.write("i.gz", packed));
  REQUIRE(images);
  CHECK(images->pixels.size() == 6);
  CHECK(pare::gunzip(pare::as_bytes(packed), 5)->size() == 5);
  for (std::size_t n = 2; n < packed.size(); ++n)
    CHECK_FALSE(pare::read_idx_images(folder.write("x", packed.substr(0, n))));
  CHECK_FALSE(pare::read_idx_images(folder.write("x", packed + "more")));
  std::string damaged = packed;
  damaged[damaged.size() - 6] ^= 1;  // the check sum
  CHECK_FALSE(pare::read_idx_images(folder.write("x", damaged)));
}

TEST_CASE("io/idx: MNIST is read whole") {
  auto const folder = pare::test::data("mnist");
  if (!folder) return;
  auto const images = pare::read_idx_images(*folder / "t10k-images-idx3-ubyte.gz");
  auto const labels = pare::read_idx_labels(*folder / "t10k-labels-idx1-ubyte.gz");
  REQUIRE(images);
  REQUIRE(labels);
  CHECK(images->count == 10'000);
  CHECK(images->rows == 28);
  CHECK(images->pixels.size() == 10'000u * 784u);
  CHECK(labels->size() == 10'000);
  CHECK(std::count(labels->begin(), labels->end(), 1) == 1135);
}
#else
TEST_CASE("io/gzip: a build without zlib says how to get it") {
  scratch_folder const folder;
  auto const r = pare::read_idx_images(folder.write("i.gz", "\x1f\x8b\x08"));
  REQUIRE_FALSE(r);
  CHECK(r.error().code == errc::unsupported);
  CHECK(r.error().what.find("PARE_WITH_ZLIB") != std::string::npos);
}
#endif

TEST_CASE("io/cifar: records are read, and broken ones refused") {
  scratch_folder const folder;
  std::string const record = "\x03" + std::string(3071, 'p') + "q";
  auto const two = pare::read_cifar(folder.write("c", record + record));
  REQUIRE(two);
  CHECK(two->count == 2);
  CHECK(two->labels == std::vector<std::uint8_t>{3, 3});
  CHECK(two->pixels.size() == 6144);
  CHECK(two->pixels[3071] == 'q');
  CHECK_FALSE(pare::read_cifar(folder.write("c", "")));
  CHECK_FALSE(pare::read_cifar(folder.write("c", record + "x")));
  CHECK_FALSE(pare::read_cifar(folder.write("c", "\x0a" + record.substr(1))));
  if (auto const path = pare::test::data("cifar/cifar10_train_0000-0999.bin"))
    CHECK(pare::read_cifar(*path)->count == 1000);
}
