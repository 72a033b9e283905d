// SPDX-License-Identifier: Apache-2.0
// Storage of matrices and operands: aligned to a cache line, and from 2 MB on in huge pages.
//
// A core that streams weights of 4 KB pages from memory waits for its page tables: decode is 5 to 8 % faster with pages
// of 2 MB. Linux gives them only to those who ask where transparent huge pages are on "madvise", as they mostly are.
#pragma once

#include <cstddef>
#include <new>

#include <pare/core/version.hpp>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pare::inline PARE_ABI {

/// Alignment of owned storage: a cache line, and the widest SIMD register.
inline constexpr std::size_t alignment = 64;

namespace detail {

inline constexpr std::size_t huge_page = std::size_t{1} << 21;

/// What so many bytes are aligned to.
[[nodiscard]] constexpr std::align_val_t alignment_of(std::size_t bytes) noexcept {
  return std::align_val_t{bytes < huge_page ? alignment : huge_page};
}

/// Uninitialised storage. Throws std::bad_alloc.
[[nodiscard]] inline void* allocate(std::size_t bytes) {
  void* const p = ::operator new (bytes, alignment_of(bytes));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // A hint: where it fails the pages stay small. What is left behind the last whole huge page is not worth one.
  if (bytes >= huge_page) static_cast<void>(::madvise(p, bytes / huge_page * huge_page, MADV_HUGEPAGE));
#endif
  return p;
}

/// Gives back what allocate(bytes) returned, or nullptr.
inline void deallocate(void* p, std::size_t bytes) noexcept { ::operator delete (p, alignment_of(bytes)); }

}  // namespace detail

/// The same for standard containers: std::vector<T, aligned_allocator<T>>.
template <class T>
struct aligned_allocator {
  using value_type = T;
  aligned_allocator() = default;
  template <class U>
  constexpr aligned_allocator(aligned_allocator<U> const&) noexcept {}  // NOLINT: implicit, as containers want it

  /// Throws std::bad_alloc; containers never ask for more than max_size.
  [[nodiscard]] T* allocate(std::size_t n) { return static_cast<T*>(detail::allocate(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { detail::deallocate(p, n * sizeof(T)); }
  template <class U>
  friend constexpr bool operator==(aligned_allocator const&, aligned_allocator<U> const&) noexcept {
    return true;
  }
};

}  // namespace pare::inline PARE_ABI
