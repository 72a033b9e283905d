# SPDX-License-Identifier: Apache-2.0
# Where the dependencies come from: an installed package first, else a pinned commit of the upstream repository.
#
# Packages are asked for without a version and checked afterwards, because their own version files accept one
# major version only, and pare accepts several (xsimd 8.1 to 14, Eigen 3.4 and 5, Catch2 2.13 and 3).
include_guard(GLOBAL)
include(FetchContent)
include(${CMAKE_CURRENT_LIST_DIR}/package_names.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/xsimd_without_xtl.cmake)

# pare_find(<name> <least version>): sets pare_found if an installed package is new enough.
macro(pare_find name least_version)
  find_package(${name} CONFIG QUIET)
  set(pare_found ${${name}_FOUND})
  if(pare_found AND ${name}_VERSION VERSION_LESS ${least_version})
    message(STATUS "pare: ${name} ${${name}_VERSION} is older than ${least_version}, and not used")
    set(pare_found FALSE)
  endif()
endmacro()

# pare_fetch(<name> <repository> <commit> [SOURCE_SUBDIR dir]): makes the sources available.
macro(pare_fetch name repository commit)
  string(TOUPPER ${name} name_upper)
  FetchContent_GetProperties(${name})
  if(FETCHCONTENT_FULLY_DISCONNECTED AND NOT FETCHCONTENT_SOURCE_DIR_${name_upper} AND NOT ${name}_POPULATED)
    message(FATAL_ERROR "pare needs ${name}. It is not installed, and FETCHCONTENT_FULLY_DISCONNECTED forbids to "
                        "fetch it.\n${pare_package_names}")
  endif()
  message(STATUS "pare: ${name} is not installed; taking commit ${commit} of ${repository}")
  FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${commit} GIT_PROGRESS TRUE ${ARGN})
  FetchContent_MakeAvailable(${name})
endmacro()

# pare_fetch_headers(<name> <repository> <commit> <target> <include folder>): for a header-only dependency. Its own
# CMakeLists.txt is not run (SOURCE_SUBDIR names a folder without one), so neither its options nor its tests and
# install rules reach this build.
macro(pare_fetch_headers name repository commit target include_folder)
  pare_fetch(${name} ${repository} ${commit} SOURCE_SUBDIR headers_only)
  string(TOLOWER ${name} name_lower)
  if(NOT TARGET ${target})
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    target_include_directories(${target} INTERFACE ${${name_lower}_SOURCE_DIR}/${include_folder})
  endif()
endmacro()

# What the headers need.
macro(pare_require_library_dependencies)
  set(THREADS_PREFER_PTHREAD_FLAG TRUE)
  find_package(Threads REQUIRED)
  find_package(ZLIB QUIET)
  if(NOT TARGET xsimd)
    pare_find(xsimd 8.1)
    if(pare_found)
      pare_xsimd_without_xtl()
    else()
      pare_fetch_headers(xsimd https://github.com/xtensor-stack/xsimd.git
                         e12bf0a928bd6668ff701db55803a9e316cb386c xsimd include)  # 10.0.0
    endif()
  endif()
  if(NOT TARGET Eigen3::Eigen)
    pare_find(Eigen3 3.4)
    if(NOT pare_found)
      pare_fetch_headers(Eigen3 https://gitlab.com/libeigen/eigen.git
                         3147391d946bb4b6c68edd901f2add6ac1f31f8c Eigen3::Eigen .)  # 3.4.0
    endif()
  endif()
  if(NOT TARGET nlohmann_json::nlohmann_json)
    pare_find(nlohmann_json 3.9)
    if(NOT pare_found)
      pare_fetch_headers(nlohmann_json https://github.com/nlohmann/json.git
                         9cca280a4d0ccf0c08f47a99aa71d1b0e52f8d03 nlohmann_json::nlohmann_json include)  # v3.11.3
    endif()
  endif()
endmacro()

# What the pare program needs.
macro(pare_require_cli11)
  if(NOT TARGET CLI11::CLI11)
    pare_find(CLI11 2.1)
    if(NOT pare_found)
      pare_fetch_headers(CLI11 https://github.com/CLIUtils/CLI11.git
                         6c7b07a878ad834957b98d0f9ce1dbe0cb204fc9 CLI11::CLI11 include)  # v2.4.2
    endif()
  endif()
endmacro()

# What the tests need.
macro(pare_require_catch2)
  if(NOT TARGET Catch2::Catch2)
    pare_find(Catch2 2.13)
    if(NOT pare_found)
      pare_fetch(Catch2 https://github.com/catchorg/Catch2.git 8ac8190e494a381072c89f5e161b92a08d98b37b)  # v3.5.3
    endif()
  endif()
endmacro()

# What the benchmarks need.
macro(pare_require_benchmark)
  if(NOT TARGET benchmark::benchmark)
    pare_find(benchmark 1.7)
    if(NOT pare_found)
      set(BENCHMARK_ENABLE_TESTING OFF)
      set(BENCHMARK_ENABLE_INSTALL OFF)
      set(BENCHMARK_ENABLE_WERROR OFF)
      pare_fetch(benchmark https://github.com/google/benchmark.git
                 344117638c8ff7e239044fd0fa7085839fc03021)  # v1.8.3
    endif()
  endif()
endmacro()
