# SPDX-License-Identifier: Apache-2.0
# The xsimd 8.1 of Debian 12 tells every user to link `xtl`, which it neither brings nor needs: only complex numbers
# of xtl (XSIMD_ENABLE_XTL_COMPLEX) would. Where there is no xtl, the linker would look for a libxtl in vain.
function(pare_xsimd_without_xtl)
  get_target_property(libraries xsimd INTERFACE_LINK_LIBRARIES)
  if(NOT "xtl" IN_LIST libraries OR TARGET xtl)
    return()
  endif()
  find_package(xtl CONFIG QUIET)
  if(NOT TARGET xtl)
    list(REMOVE_ITEM libraries xtl)
    set_target_properties(xsimd PROPERTIES INTERFACE_LINK_LIBRARIES "${libraries}")
  endif()
endfunction()
