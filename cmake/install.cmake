# SPDX-License-Identifier: Apache-2.0
# Install rules: headers, CMake package (relocatable, any architecture), pkg-config file, licence.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(PARE_INSTALL_CMAKEDIR ${CMAKE_INSTALL_DATADIR}/cmake/pare CACHE STRING "Where the CMake package goes")

install(TARGETS pare EXPORT pare_targets FILE_SET HEADERS)
install(TARGETS pare_io EXPORT pare_io_targets)
install(EXPORT pare_targets NAMESPACE pare:: FILE pareTargets.cmake DESTINATION ${PARE_INSTALL_CMAKEDIR})
install(EXPORT pare_io_targets NAMESPACE pare:: FILE pareIoTargets.cmake DESTINATION ${PARE_INSTALL_CMAKEDIR})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/pareConfig.cmake.in
  ${PROJECT_BINARY_DIR}/package/pareConfig.cmake INSTALL_DESTINATION ${PARE_INSTALL_CMAKEDIR}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/pareConfigVersion.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)  # SameMajorVersion from 1.0 on
install(FILES
  ${PROJECT_BINARY_DIR}/package/pareConfig.cmake
  ${PROJECT_BINARY_DIR}/package/pareConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/pare_add_dispatch.cmake
  ${CMAKE_CURRENT_LIST_DIR}/xsimd_without_xtl.cmake
  DESTINATION ${PARE_INSTALL_CMAKEDIR})

configure_file(${CMAKE_CURRENT_LIST_DIR}/pare.pc.in ${PROJECT_BINARY_DIR}/package/pare.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/package/pare.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(TARGET pare_cli)
  install(TARGETS pare_cli RUNTIME)
endif()
