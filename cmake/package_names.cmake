# SPDX-License-Identifier: Apache-2.0
# What to tell somebody whose machine lacks something.
set(pare_package_names "What pare needs, by the names that the distributions use:
  Debian, Ubuntu  apt-get install g++ cmake git ninja-build libxsimd-dev libeigen3-dev nlohmann-json3-dev libcli11-dev zlib1g-dev catch2 libbenchmark-dev
  Fedora          dnf install gcc-c++ cmake git ninja-build xsimd-devel eigen3-devel json-devel cli11-devel zlib-devel catch-devel google-benchmark-devel
  Arch            pacman -S gcc cmake git ninja xsimd eigen nlohmann-json cli11 zlib catch2 benchmark
  Homebrew        brew install cmake git ninja xsimd eigen nlohmann-json cli11 zlib catch2 google-benchmark
  vcpkg           vcpkg install xsimd eigen3 nlohmann-json cli11 zlib catch2 benchmark
  Libraries that are absent are fetched where the internet is reachable;
  a compiler and a build tool (ninja or make) are not.")
