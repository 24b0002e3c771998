/* SPDX-License-Identifier: 0BSD
 *
 * A call ring for each of the first vCPUs, used by hand.
 */
#ifndef CONFORMANCE_CALLRING_H
#define CONFORMANCE_CALLRING_H

#include "conformance.h"

#define CF_RING_ENTRIES 8u

struct cf_callring {
	struct pv_submission submissions[CF_RING_ENTRIES];
	struct pv_completion completions[CF_RING_ENTRIES];
	struct pv_ring_control control;
	uint32_t submitted; /* of this side alone */
	bool silent; /* a call did not come back: nothing more is expected */
} __attribute__((aligned(64)));
extern struct cf_callring cf_callrings[CF_VCPUS];

/* Accepts the feature RING; false if it is not offered. */
bool cf_callring_offered(void);
/* The record for the calling vCPU's ring, with no event. */
struct pv_ring_setup cf_ring_setup(uint32_t vcpu);
/* Gives the calling vCPU its ring; the status of base.ring. */
int64_t cf_ring_on(uint32_t vcpu, const struct pv_ring_setup *setup);
int64_t cf_ring_off(void);
/* Writes one submission at the tail, which stays where it is. */
void cf_ring_add(struct cf_callring *ring, uint32_t id, const uint64_t args[6], uint64_t cookie);
/* Shows the host what was added, and rings if it wants that (RING-9). */
void cf_ring_submit(struct cf_callring *ring, uint32_t vcpu);
void cf_ring_doorbell(uint32_t vcpu);
/* Whether as many are completed within two seconds. */
bool cf_ring_completed(struct cf_callring *ring, uint32_t tail);
/* One call from its submission to its completion, over the ring of vCPU 0; above 1000: it did not come back. */
struct pv_answer cf_ringed(uint32_t id, const uint64_t args[6]);

#endif
