# SPDX-License-Identifier: Apache-2.0
# Set-up shared by quickstart.cmake and test.cmake (both run with cmake -P): installs what is missing where there is
# apt-get, chooses a generator, configures and builds a preset. Nothing is installed that is already there, and
# where nothing can be installed the configuration fetches the libraries itself.
cmake_minimum_required(VERSION 3.25)

get_filename_component(pare_root ${CMAKE_CURRENT_LIST_DIR}/.. ABSOLUTE)
include(${CMAKE_CURRENT_LIST_DIR}/package_names.cmake)
cmake_host_system_information(RESULT pare_cores QUERY NUMBER_OF_LOGICAL_CORES)

# Is a Debian package's content there, from whatever source? `header` is a file below an include folder.
function(pare_has_header header result)
  set(prefixes $ENV{CMAKE_PREFIX_PATH})
  string(REPLACE ":" ";" prefixes "${prefixes}")
  foreach(prefix IN LISTS prefixes ITEMS /usr/local /usr)
    if(EXISTS ${prefix}/include/${header})
      set(${result} TRUE PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${result} FALSE PARENT_SCOPE)
endfunction()

# pare_missing_packages(<result> [package ...]): those of the Debian packages whose content is not found.
function(pare_missing_packages result)
  set(known
    libxsimd-dev=xsimd/xsimd.hpp
    libeigen3-dev=eigen3/Eigen/Core
    nlohmann-json3-dev=nlohmann/json.hpp
    libcli11-dev=CLI/CLI.hpp
    zlib1g-dev=zlib.h
    catch2=catch2)
  set(missing "")
  foreach(entry IN LISTS known)
    string(REGEX MATCH "^([^=]+)=(.*)$" matched ${entry})
    set(package ${CMAKE_MATCH_1})
    pare_has_header(${CMAKE_MATCH_2} found)
    if(package IN_LIST ARGN AND NOT found)
      list(APPEND missing ${package})
    endif()
  endforeach()
  find_program(ninja NAMES ninja ninja-build NO_CACHE)
  find_program(make NAMES gmake make NO_CACHE)
  if(NOT ninja AND NOT make)
    list(APPEND missing ninja-build)
  endif()
  find_program(compiler NAMES $ENV{CXX} c++ g++ clang++ NO_CACHE)
  if(NOT compiler)
    list(APPEND missing g++)
  endif()
  set(${result} ${missing} PARENT_SCOPE)
endfunction()

# Installs Debian packages; failing to is no error here.
function(pare_install_packages)
  list(JOIN ARGN " " names)
  find_program(apt_get apt-get NO_CACHE)
  if(NOT apt_get)
    message(STATUS "pare: no apt-get here; not installed: ${names}")
    return()
  endif()
  set(command ${apt_get} -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
  execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT user EQUAL 0)
    find_program(sudo sudo NO_CACHE)
    if(NOT sudo)
      message(STATUS "pare: not root, and no sudo here; not installed: ${names}")
      return()
    endif()
    list(PREPEND command ${sudo})
  endif()
  set(ENV{DEBIAN_FRONTEND} noninteractive)
  message(STATUS "pare: installing ${names}")
  # A package source that cannot be reached fails the update, but the lists of the others may be enough.
  execute_process(COMMAND ${command} update -qq)
  list(APPEND command install -qq -y --no-install-recommends)
  execute_process(COMMAND ${command} ${ARGN} RESULT_VARIABLE status)
  if(status EQUAL 0)
    return()
  endif()
  # All or nothing: one package that this distribution does not have must not cost the others.
  foreach(package IN LISTS ARGN)
    execute_process(COMMAND ${command} ${package} RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
      message(STATUS "pare: apt-get could not install ${package}; going on without")
    endif()
  endforeach()
endfunction()

# The generator for a build folder: Ninja where it is installed, else make.
function(pare_choose_generator result)
  find_program(ninja NAMES ninja ninja-build NO_CACHE)
  find_program(make NAMES gmake make NO_CACHE)
  if(ninja)
    set(${result} Ninja PARENT_SCOPE)
  elseif(make)
    set(${result} "Unix Makefiles" PARENT_SCOPE)
  else()
    message(FATAL_ERROR "pare: neither ninja nor make is installed.\n${pare_package_names}")
  endif()
endfunction()

# pare_build(<preset> [package ...]): set-up, configuration and build. An error message ends the script.
function(pare_build preset)
  pare_missing_packages(missing ${ARGN})
  if(missing)
    pare_install_packages(${missing})
  endif()
  pare_choose_generator(generator)

  # A build folder made with another generator is configured anew.
  set(fresh "")
  set(cache ${pare_root}/build/${preset}/CMakeCache.txt)
  if(EXISTS ${cache})
    file(STRINGS ${cache} used REGEX "^CMAKE_GENERATOR:INTERNAL=")
    if(NOT used STREQUAL "CMAKE_GENERATOR:INTERNAL=${generator}")
      set(fresh --fresh)
    endif()
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} --preset ${preset} -G ${generator} ${fresh}
    WORKING_DIRECTORY ${pare_root} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "pare: the configuration failed (see above).\n${pare_package_names}")
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} --build --preset ${preset} --parallel ${pare_cores}
    WORKING_DIRECTORY ${pare_root} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "pare: the build failed (see above).")
  endif()
endfunction()
