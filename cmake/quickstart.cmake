# SPDX-License-Identifier: Apache-2.0
# cmake -P cmake/quickstart.cmake [-- arguments of pare_demo]: set-up, build, and the main job.
include(${CMAKE_CURRENT_LIST_DIR}/bootstrap.cmake)

pare_build(demo libxsimd-dev libeigen3-dev nlohmann-json3-dev libcli11-dev zlib1g-dev)

set(arguments "")
set(after_dashes FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(after_dashes)
    list(APPEND arguments "${CMAKE_ARGV${i}}")
  elseif("${CMAKE_ARGV${i}}" STREQUAL "--")
    set(after_dashes TRUE)
  endif()
endforeach()

# Its output is inherited, not captured: the progress display sees the terminal.
execute_process(COMMAND ${pare_root}/build/demo/bin/pare_demo --report ${pare_root}/build/demo/report.html ${arguments}
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "pare: pare_demo ended with status ${status}.")
endif()
