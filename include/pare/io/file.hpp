// SPDX-License-Identifier: Apache-2.0
// Whole files in, whole files out. Reading refuses what is not a regular file (a FIFO would block, a device would
// not end); writing goes to a file beside the target that takes its place only when it is complete on the disk.
// POSIX calls, because only they say whether the disk took the bytes.
#pragma once

#include <pare/core/index.hpp>
#include <pare/core/result.hpp>
#include <pare/io/utf8.hpp>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace pare::inline PARE_ABI {

namespace detail {

/// An owned file descriptor.
class descriptor {
 public:
  explicit descriptor(int fd = -1) noexcept : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    if (this != &other) {
      static_cast<void>(close());
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~descriptor() { static_cast<void>(close()); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
  /// False where the operating system reports a write that failed late.
  bool close() noexcept { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

[[nodiscard]] inline error io_error(std::filesystem::path const& path, std::string_view what, int reason) {
  return {errc::io, path.empty() ? "\"\"" : path.string(), std::string(what) + ": " + std::strerror(reason)};
}

/// Makes a rename in `folder` survive a power cut, where the file system can.
inline void sync_folder(std::filesystem::path const& folder) noexcept {
  descriptor const fd(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
  if (fd.is_open()) static_cast<void>(::fsync(fd.get()));
}

/// A name beside `target` that no other call of this program or of another one uses.
[[nodiscard]] inline std::filesystem::path temporary_beside(std::filesystem::path const& target) {
  static std::atomic<unsigned> counter{0};
  auto const number = counter.fetch_add(1, std::memory_order_relaxed);
  return target.parent_path() / ("." + target.filename().string() + "." + std::to_string(::getpid()) + "-" +
                                 std::to_string(number) + ".partial");
}

}  // namespace detail

/// A regular file that is read from its start to its end.
class input_file {
 public:
  /// Errors: errc::io where the file cannot be opened or is not a regular file.
  [[nodiscard]] static result<input_file> open(std::filesystem::path const& path) {
    // O_NONBLOCK: opening a FIFO must not wait for a writer
    detail::descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd.is_open()) return detail::io_error(path, "cannot be opened", errno);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return detail::io_error(path, "cannot be examined", errno);
    if (S_ISDIR(status.st_mode)) return error{errc::io, path.string(), "is a folder; a file was expected"};
    if (!S_ISREG(status.st_mode))
      return error{errc::io, path.string(), "is a device, pipe or socket; a regular file was expected"};
    return input_file(path, std::move(fd), static_cast<std::uint64_t>(status.st_size));
  }

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] std::filesystem::path const& path() const noexcept { return path_; }

  /// The next `count` bytes. Errors: errc::io where the file ends before (it shrank) or the disk fails.
  [[nodiscard]] result<std::vector<std::byte>> read(std::uint64_t count) {
    if (count > size_ - position_)
      return error{errc::io, path_.string(), "ends before the " + std::to_string(count) + " bytes that were expected"};
    std::vector<std::byte> bytes(static_cast<std::size_t>(count));
    std::size_t done = 0;
    while (done < bytes.size()) {
      ssize_t const n = ::read(fd_.get(), bytes.data() + done, bytes.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return detail::io_error(path_, "cannot be read", errno);
      if (n == 0) return error{errc::io, path_.string(), "became shorter while it was read"};
      done += static_cast<std::size_t>(n);
    }
    position_ += count;
    return bytes;
  }

 private:
  input_file(std::filesystem::path path, detail::descriptor fd, std::uint64_t size)
      : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}

  std::filesystem::path path_;
  detail::descriptor fd_;
  std::uint64_t size_ = 0;
  std::uint64_t position_ = 0;
};

/// All bytes of a regular file of at most `limit` bytes.
[[nodiscard]] inline result<std::vector<std::byte>> read_file(std::filesystem::path const& path,
                                                              std::uint64_t limit = std::uint64_t{1} << 40) {
  PARE_TRY(auto file, input_file::open(path));
  if (file.size() > limit)
    return error{errc::unsupported, path.string(),
                 "has " + std::to_string(file.size()) + " bytes; at most " + std::to_string(limit) + " are read"};
  return file.read(file.size());
}

/// A file being written: nothing is seen at the target's name until commit() succeeds.
class atomic_file {
 public:
  /// Opens a temporary file in the target's folder. Errors: errc::io.
  [[nodiscard]] static result<atomic_file> open(std::filesystem::path target) {
    std::error_code ignored;
    auto const status = std::filesystem::status(target, ignored);
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
      return error{errc::io, target.string(), "exists and is not a regular file; it is not written over"};
    if (!target.has_filename()) return error{errc::io, target.string(), "is not the name of a file"};
    auto temporary = detail::temporary_beside(target);
    detail::descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!fd.is_open()) return detail::io_error(target, "cannot be written", errno);
    return atomic_file(std::move(target), std::move(temporary), std::move(fd));
  }

  atomic_file(atomic_file&&) = default;
  atomic_file& operator=(atomic_file&& other) noexcept {
    if (this != &other) {
      discard();
      target_ = std::move(other.target_);
      temporary_ = std::move(other.temporary_);
      fd_ = std::move(other.fd_);
    }
    return *this;
  }
  ~atomic_file() { discard(); }

  /// Writes after what was written before. Errors: errc::io (a full disk, a quota).
  [[nodiscard]] result<void> append(std::span<std::byte const> bytes) {
    while (!bytes.empty()) {
      ssize_t const n = ::write(fd_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return detail::io_error(target_, "cannot be written", errno);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
  }

  /// Brings everything to the disk and puts it in the target's place. Call once, after the last append.
  [[nodiscard]] result<void> commit() {
    if (::fsync(fd_.get()) != 0) return detail::io_error(target_, "cannot be brought to the disk", errno);
    if (!fd_.close()) return detail::io_error(target_, "cannot be brought to the disk", errno);
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0)
      return detail::io_error(target_, "cannot be put in place", errno);
    temporary_.clear();
    detail::sync_folder(target_.parent_path());
    return {};
  }

 private:
  atomic_file(std::filesystem::path target, std::filesystem::path temporary, detail::descriptor fd)
      : target_(std::move(target)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

  void discard() noexcept {
    static_cast<void>(fd_.close());
    if (!temporary_.empty()) static_cast<void>(::unlink(temporary_.c_str()));
  }

  std::filesystem::path target_;
  std::filesystem::path temporary_;  // empty: committed, or moved from
  detail::descriptor fd_;
};

/// Writes a whole file or, on an error, leaves what was there before.
[[nodiscard]] inline result<void> write_file_atomically(std::filesystem::path const& path,
                                                        std::span<std::byte const> bytes) {
  PARE_TRY(auto file, atomic_file::open(path));
  PARE_TRY_VOID(file.append(bytes));
  return file.commit();
}

}  // namespace pare::inline PARE_ABI
