# SPDX-License-Identifier: Apache-2.0
# cmake -P cmake/test.cmake: set-up, build, and all tests. Fails where a test fails.
include(${CMAKE_CURRENT_LIST_DIR}/bootstrap.cmake)

pare_build(test libxsimd-dev libeigen3-dev nlohmann-json3-dev libcli11-dev zlib1g-dev catch2)

execute_process(COMMAND ${CMAKE_CTEST_COMMAND} --preset test --output-on-failure --parallel ${pare_cores}
  WORKING_DIRECTORY ${pare_root} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "pare: tests failed (see above).")
endif()
