# SPDX-License-Identifier: Apache-2.0
# Runs the portfile without vcpkg: each vcpkg function that it calls does here with plain CMake what it does there, as
# far as a header-only port goes. Included by run.cmake; the package is left in SCRATCH/packages.
set(CURRENT_PORT_DIR ${PARE_ROOT}/ports/pare)
set(CURRENT_PACKAGES_DIR ${SCRATCH}/packages)
file(READ ${CURRENT_PORT_DIR}/vcpkg.json manifest)
string(JSON PORT GET "${manifest}" name)
string(JSON version GET "${manifest}" version-semver)
set(build_folder ${SCRATCH}/port_build)

function(vcpkg_cmake_configure)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "SOURCE_PATH" "OPTIONS")
  execute_process(COMMAND ${configure} -S ${arg_SOURCE_PATH} -B ${build_folder} -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR} ${arg_OPTIONS} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(vcpkg_cmake_install)
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${build_folder} --target install COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# vcpkg expects the CMake package in share/<port>, and its version to be the manifest's.
function(vcpkg_cmake_config_fixup)
  set(file ${CURRENT_PACKAGES_DIR}/share/${PORT}/${PORT}ConfigVersion.cmake)
  file(STRINGS ${file} found REGEX "set\\(PACKAGE_VERSION \"${version}\"\\)")
  if(NOT found)
    message(FATAL_ERROR "${file} does not have version ${version} of vcpkg.json")
  endif()
endfunction()

function(vcpkg_fixup_pkgconfig)
  file(READ ${CURRENT_PACKAGES_DIR}/share/pkgconfig/${PORT}.pc text)
  if(text MATCHES "${CURRENT_PACKAGES_DIR}")
    message(FATAL_ERROR "${PORT}.pc has an absolute path")
  endif()
endfunction()

function(vcpkg_install_copyright)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "FILE_LIST")
  file(COPY_FILE ${arg_FILE_LIST} ${CURRENT_PACKAGES_DIR}/share/${PORT}/copyright)
endfunction()

include(${CURRENT_PORT_DIR}/portfile.cmake)

# What vcpkg checks after every port.
foreach(file include/pare/core/version.hpp share/${PORT}/copyright share/${PORT}/usage)
  if(NOT EXISTS ${CURRENT_PACKAGES_DIR}/${file})
    message(FATAL_ERROR "the package lacks ${file}")
  endif()
endforeach()
foreach(folder debug lib bin)
  if(EXISTS ${CURRENT_PACKAGES_DIR}/${folder})
    message(FATAL_ERROR "a header-only package must not have ${folder}/")
  endif()
endforeach()
