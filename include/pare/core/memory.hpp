// SPDX-License-Identifier: Apache-2.0
// Storage of matrices and operands: aligned to a cache line, and from 1 MB on in huge pages.
//
// A core that streams weights of 4 KB pages from memory waits for its page tables: decode is 5 to 8 % faster with pages
// of 2 MB. Linux gives them only to those who ask where transparent huge pages are on "madvise", as they mostly are.
// Where a virtual machine's host takes away pages that lie idle for some seconds, it gives them back one at a time, in
// 130 us each, small or huge: measured on such a machine, 30 MB of int8 codes in small pages were read in 50 ms after
// that, in huge ones in 5, and at once again in 2.4.
#pragma once

#include <algorithm>
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

/// Of so many bytes, those that are to lie in huge pages. The last page is one if that wastes no more than half of it,
/// or an eighth of all.
[[nodiscard]] constexpr std::size_t in_huge_pages(std::size_t bytes) noexcept {
  std::size_t const whole = bytes / huge_page * huge_page;
  std::size_t const rest = bytes - whole;
  return rest > 0 && huge_page - rest <= std::max(huge_page / 2, bytes / 8) ? whole + huge_page : whole;
}

/// What so many bytes are aligned to.
[[nodiscard]] constexpr std::align_val_t alignment_of(std::size_t bytes) noexcept {
  return std::align_val_t{in_huge_pages(bytes) == 0 ? alignment : huge_page};
}

/// Uninitialised storage. Throws std::bad_alloc.
[[nodiscard]] inline void* allocate(std::size_t bytes) {
  std::size_t const huge = in_huge_pages(bytes);
  void* const p = ::operator new(std::max(bytes, huge), alignment_of(bytes));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Hints: where they fail the pages stay small. The heap may give memory that was used before, in small pages: the
  // first hint gives those back.
  if (huge != 0) {
    static_cast<void>(::madvise(p, huge, MADV_DONTNEED));
    static_cast<void>(::madvise(p, huge, MADV_HUGEPAGE));
  }
#endif
  return p;
}

/// Gives back what allocate(bytes) returned, or nullptr.
inline void deallocate(void* p, std::size_t bytes) noexcept { ::operator delete(p, alignment_of(bytes)); }

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
