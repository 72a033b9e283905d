// SPDX-License-Identifier: Apache-2.0
// Version, and the inline namespace that every declaration of pare lives in.
//
// The namespace names the version *and* what changes inline code: the contract policy (see contract.hpp), whether
// kernels are chosen at run time (see kernel/dispatch.hpp), and the extensions of AVX-512 that no type names (see
// simd::expands_words). Translation units built differently then differ in their symbols, and mixing them is a link
// error, not an ODR bug.
#pragma once

#define PARE_VERSION_MAJOR 0
#define PARE_VERSION_MINOR 1
#define PARE_VERSION_PATCH 0
#define PARE_VERSION_STRING "0.1.0"

// Policy of PARE_EXPECTS. Define PARE_CONTRACT_TERMINATE to end the program instead of throwing; without
// exceptions that is the only choice.
#if !defined(PARE_CONTRACT_TERMINATE) && defined(__cpp_exceptions)
#define PARE_CONTRACT_THROW 1
#else
#define PARE_CONTRACT_THROW 0
#endif

// PARE_DISPATCH is set by the CMake function pare_add_dispatch, never by hand: it needs the kernels that it builds.
#if defined(PARE_DISPATCH) && PARE_CONTRACT_THROW
#define PARE_ABI v0_1_throw_dispatch
#elif defined(PARE_DISPATCH)
#define PARE_ABI v0_1_terminate_dispatch
#elif defined(__AVX512VNNI__) && defined(__AVX512VBMI2__) && PARE_CONTRACT_THROW
#define PARE_ABI v0_1_throw_vnni
#elif defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
#define PARE_ABI v0_1_terminate_vnni
#elif PARE_CONTRACT_THROW
#define PARE_ABI v0_1_throw
#else
#define PARE_ABI v0_1_terminate
#endif
