# SPDX-License-Identifier: Apache-2.0
# Sparse training in miniature, without any data set: what the papers claim must show. -D PROGRAM=pare_sparse_training.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND ${PROGRAM} --quick --rewind 20 --json OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)

# accuracy_<method>_<low or high sparsity>, density_<...>; "static random, ERK" is static_random__ERK.
string(JSON count LENGTH "${output}" rows)
if(NOT count EQUAL 20)
  message(FATAL_ERROR "expected the dense network, SPDF, and nine methods at two sparsities, found ${count} rows")
endif()
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  foreach(key method sparsity density accuracy)
    string(JSON ${key} GET "${output}" rows ${i} ${key})
  endforeach()
  message("${method}, ${sparsity}: density ${density}, accuracy ${accuracy}")
  string(MAKE_C_IDENTIFIER "${method}" name)
  if(sparsity GREATER 0.9)
    string(APPEND name _high)
  else()
    string(APPEND name _low)
  endif()
  set(accuracy_${name} ${accuracy})
  set(density_${name} ${density})
endforeach()

# better(<method> <other>): at both sparsities.
function(better method other)
  foreach(s low high)
    if(NOT accuracy_${method}_${s} GREATER accuracy_${other}_${s})
      message(FATAL_ERROR "${method} (${accuracy_${method}_${s}}) must do better than ${other} "
                          "(${accuracy_${other}_${s}}) at the ${s} sparsity")
    endif()
  endforeach()
endfunction()
better(ticket ticket__reinitialised)
better(ticket ticket__reshuffled)
better(static_random__ERK static_random__uniform)
better(RigL static_random__ERK)

# The share that the count rule keeps: more than 5 % by at most one weight in each of the three layers.
foreach(method gradual__GMP_ GraNet RigL SET static_random__ERK static_random__uniform)
  set(density ${density_${method}_high})
  if(density LESS 0.05 OR density GREATER 0.05006)
    message(FATAL_ERROR "${method} must keep 5 % of the weights, found ${density}")
  endif()
endforeach()
if(density_SPDF_low LESS 1 OR density_dense_low LESS 1)
  message(FATAL_ERROR "the dense network, and SPDF at its end, must keep every weight")
endif()

# Beside the dense network: its own tickets are more like it than a network that never was it.
foreach(method "ticket" "static random, uniform")
  string(MAKE_C_IDENTIFIER "${method}" name)
  string(JSON cka_${name} GET "${output}" diagnostics beside_dense "${method}" linear_cka)
endforeach()
if(NOT cka_ticket GREATER cka_static_random__uniform OR cka_ticket GREATER 1)
  message(FATAL_ERROR "the ticket's features (CKA ${cka_ticket}) must be more like the dense ones than a random mask's "
                      "(${cka_static_random__uniform})")
endif()

# The grid of the three-regime model: a row for each temperature, and hotter is better where all are underfitted.
execute_process(COMMAND ${PROGRAM} --regimes --quick --steps 200 --sparsity 0.5 --temperature 0.0001,0.003 --json
  OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
foreach(i 0 1)
  string(JSON error_${i} GET "${output}" regimes ${i} error)
  string(JSON cka_${i} GET "${output}" regimes ${i} linear_cka)
  string(JSON density GET "${output}" regimes ${i} density)
  if(cka_${i} LESS 0.5 OR cka_${i} GREATER 1 OR density LESS 0.5 OR density GREATER 0.5001)
    message(FATAL_ERROR "expected two networks at half density that are alike, found CKA ${cka_${i}} at ${density}")
  endif()
endforeach()
if(NOT error_1 LESS error_0)
  message(FATAL_ERROR "the error must fall with the temperature of the dense training: ${error_0}, ${error_1}")
endif()
