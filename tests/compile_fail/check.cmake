# SPDX-License-Identifier: Apache-2.0
# Compiles SOURCE twice: as it is, which must work, and with -DPARE_MUST_FAIL, which must not, and must say what the
# first line (// expect: REGEX) tells. Without the first half, any typing mistake would pass as a refusal.
cmake_minimum_required(VERSION 3.25)

set(command ${COMPILER} -std=c++20 -fsyntax-only)
foreach(folder IN LISTS INCLUDE_FOLDERS)
  list(APPEND command -I${folder})
endforeach()

file(STRINGS ${SOURCE} lines LIMIT_COUNT 1)
if(NOT lines MATCHES "^// expect: (.+)$")
  message(FATAL_ERROR "${SOURCE}: the first line must be `// expect: REGEX`")
endif()
set(expected "${CMAKE_MATCH_1}")

execute_process(COMMAND ${command} ${SOURCE} RESULT_VARIABLE status ERROR_VARIABLE said)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${SOURCE}: must compile without PARE_MUST_FAIL\n${said}")
endif()
execute_process(COMMAND ${command} -DPARE_MUST_FAIL ${SOURCE} RESULT_VARIABLE status ERROR_VARIABLE said)
if(status EQUAL 0)
  message(FATAL_ERROR "${SOURCE}: must not compile with PARE_MUST_FAIL")
endif()
if(NOT said MATCHES "${expected}")
  message(FATAL_ERROR "${SOURCE}: the compiler must say `${expected}`, but it said\n${said}")
endif()
