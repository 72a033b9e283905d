// SPDX-License-Identifier: Apache-2.0
// Version, and the inline namespace that every declaration of pare lives in.
//
// The namespace names the version *and* the contract policy (see contract.hpp): translation units built
// with different policies then differ in their symbols, and mixing them is a link error, not an ODR bug.
#pragma once

#define PARE_VERSION_MAJOR 0
#define PARE_VERSION_MINOR 1
#define PARE_VERSION_PATCH 0
#define PARE_VERSION_STRING "0.1.0"

// Policy of PARE_EXPECTS. Define PARE_CONTRACT_TERMINATE to end the program instead of throwing; without
// exceptions that is the only choice.
#if !defined(PARE_CONTRACT_TERMINATE) && defined(__cpp_exceptions)
#define PARE_CONTRACT_THROW 1
#define PARE_ABI v0_1_throw
#else
#define PARE_CONTRACT_THROW 0
#define PARE_ABI v0_1_terminate
#endif
