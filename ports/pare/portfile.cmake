# SPDX-License-Identifier: Apache-2.0
# Overlay port (vcpkg install pare --overlay-ports=ports): builds from the checkout that it lies in.
set(VCPKG_BUILD_TYPE release)  # headers only: a debug build would install the same

get_filename_component(SOURCE_PATH "${CURRENT_PORT_DIR}/../.." ABSOLUTE)

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS
    -DPARE_BUILD_TESTS=OFF
    -DPARE_BUILD_BENCH=OFF
    -DPARE_BUILD_EXAMPLES=OFF
    -DPARE_INSTALL=ON
    -DPARE_INSTALL_CMAKEDIR=share/pare
    -DFETCHCONTENT_FULLY_DISCONNECTED=ON)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup()
vcpkg_fixup_pkgconfig()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/doc")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
