/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A whole host library in this process, for tests of call rings: a machine whose vCPUs are the test's
 * threads.  The guest's headers and the host's name some things alike, so this stands between them.
 */
#ifndef TESTS_NATIVE_CALLRING_HOST_H
#define TESTS_NATIVE_CALLRING_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "paravirt_abi.h"

#define HOST_VCPUS 3

/* Guest memory is this arena, at GPAs equal to its addresses. Everything is offered and accepted. */
void host_start(void *arena, uint64_t size_bytes);
/* The thread of rings ends; what it did is done. */
void host_stop(void);
/* A trap of a vCPU. */
int64_t host_trap(uint32_t vcpu, uint32_t id, const uint64_t args[6], uint64_t *value);
void host_doorbell(uint32_t value);
struct pv_vcpu_page *host_page(uint32_t vcpu);
/* Calls over the vCPU's ring so far; once the host has stopped. */
uint64_t host_ring_calls(uint32_t vcpu);
/* Whether the host holds that the vCPU broke RING-7; once it has stopped. */
bool host_ring_fault(uint32_t vcpu);

#endif
