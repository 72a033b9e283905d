# SPDX-License-Identifier: Apache-2.0
# Takes pare in one WAY (add_subdirectory, fetch_content, find_package, vcpkg), then builds and runs program/ with it.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "consumer.${WAY}: failed with ${status}: ${command}\n${said}")
  endif()
endfunction()

set(configure ${CMAKE_COMMAND} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER} ${DEPENDENCY_FLAGS})
file(REMOVE_RECURSE ${SCRATCH})

if(WAY STREQUAL "add_subdirectory")
  set(flags -DPARE_ROOT=${PARE_ROOT})

elseif(WAY STREQUAL "fetch_content")
  # A repository made of the working tree, so that what is tested is what is there, committed or not.
  find_program(git git REQUIRED)
  set(repository ${SCRATCH}/repository)
  file(COPY ${PARE_ROOT}/CMakeLists.txt ${PARE_ROOT}/LICENSE ${PARE_ROOT}/cmake ${PARE_ROOT}/include
    DESTINATION ${repository})
  run(${git} -C ${repository} init --quiet)
  run(${git} -C ${repository} add --all --force)
  run(${git} -C ${repository} -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false
    commit --quiet --no-verify --message=tree)
  execute_process(COMMAND ${git} -C ${repository} rev-parse HEAD
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(flags -DPARE_REPOSITORY=file://${repository} -DPARE_COMMIT=${commit})

elseif(WAY STREQUAL "find_package")
  run(${configure} -S ${PARE_ROOT} -B ${SCRATCH}/pare -DCMAKE_INSTALL_PREFIX=${SCRATCH}/prefix
    -DPARE_BUILD_TESTS=OFF -DPARE_BUILD_BENCH=OFF -DPARE_BUILD_EXAMPLES=OFF)
  run(${CMAKE_COMMAND} --build ${SCRATCH}/pare --target install)
  # Moved after installation: no path in the package may be absolute.
  file(RENAME ${SCRATCH}/prefix ${SCRATCH}/moved)
  set(flags -DCMAKE_PREFIX_PATH=${SCRATCH}/moved)

elseif(WAY STREQUAL "vcpkg")
  include(${CMAKE_CURRENT_LIST_DIR}/vcpkg.cmake)
  set(flags -DCMAKE_PREFIX_PATH=${SCRATCH}/packages)

else()
  message(FATAL_ERROR "unknown WAY: ${WAY}")
endif()

run(${configure} -S ${CMAKE_CURRENT_LIST_DIR}/program -B ${SCRATCH}/build -DPARE_WAY=${WAY} ${flags})
run(${CMAKE_COMMAND} --build ${SCRATCH}/build)
run(${SCRATCH}/build/consumer)
if(WAY STREQUAL "find_package")
  run(${SCRATCH}/build/consumer_dispatch)
endif()
if(WAY MATCHES "find_package|vcpkg")
  file(STRINGS ${SCRATCH}/build/CMakeCache.txt found REGEX "^pare_DIR:PATH=${SCRATCH}/")
  if(NOT found)
    message(FATAL_ERROR "consumer.${WAY}: another pare than the one just installed was found")
  endif()
endif()
