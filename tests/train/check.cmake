# SPDX-License-Identifier: Apache-2.0
# LeNet-300-100 from the trainer to a sparse network: -D TRAIN=pare_train -D PARE=pare -D MNIST=folder -D SCRATCH=folder.
cmake_minimum_required(VERSION 3.25)
if(NOT EXISTS ${MNIST})
  message("skipped: ${MNIST} is absent")
  return()
endif()
file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})

# accuracy(<variable> <argument of pare eval> ...)
function(accuracy variable)
  execute_process(COMMAND ${PARE} eval ${ARGN} --data ${MNIST} --json WORKING_DIRECTORY ${SCRATCH}
    OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
  string(JSON value GET "${output}" accuracy)
  message("pare eval ${ARGN}: ${value}")
  set(${variable} ${value} PARENT_SCOPE)
endfunction()

execute_process(COMMAND ${TRAIN} --task mnist --data ${MNIST} --hidden 300,100 --epochs 4 -o lenet
  WORKING_DIRECTORY ${SCRATCH} COMMAND_ERROR_IS_FATAL ANY)
accuracy(dense lenet)
if(dense LESS 0.975)
  message(FATAL_ERROR "LeNet-300-100 must reach 97.5 %")
endif()
foreach(pattern 2:4 unstructured:0.9 block4x1:0.8)
  string(MAKE_C_IDENTIFIER ${pattern} out)
  execute_process(COMMAND ${PARE} prune lenet -m alps -p ${pattern} --calib ${MNIST} -o ${out}
    WORKING_DIRECTORY ${SCRATCH} COMMAND_ERROR_IS_FATAL ANY)
  accuracy(sparse ${out} --operands sparse)
  accuracy(masked ${out} --operands dense)
  if(sparse LESS 0.9 OR NOT sparse EQUAL masked)
    message(FATAL_ERROR "${pattern}: the sparse kernels (${sparse}) and the masked dense ones (${masked}) must agree, above 90 %")
  endif()
endforeach()
file(REMOVE_RECURSE ${SCRATCH})
