/* SPDX-License-Identifier: 0BSD
 *
 * Call rings: calls without exits.  What a ring is, and who tells whom, is in docs/abi/callring.md.
 *
 * A ring belongs to the vCPU that sets it up.  Any code may use it, one at a time: there is no lock.
 *
 *	struct pv_callring ring = { .submissions = s, .completions = c, .control = k, .entries = 64 };
 *	pv_callring_init(&ring, page->index, PV_RING_NO_CHANNEL, doorbell_port);
 *	while (pv_callring_add(&ring, PV_CALL_CONSOLE_WRITE, cookie, args))
 *		...
 *	pv_callring_publish(&ring);
 *	while (pv_callring_take(&ring, &completion))
 *		...
 *
 * To sleep until `count` completions can be taken, with a channel and upcalls held (event.h):
 *
 *	while (pv_callring_want(&ring, count))
 *		pv_event_wait(page, PV_DEADLINE_NEVER);
 */
#ifndef PARAVIRT_CALLRING_H
#define PARAVIRT_CALLRING_H

#include "paravirt/call.h"

struct pv_callring {
	/* The caller's memory: as many submissions and completions as entries, a power of two. */
	struct pv_submission *submissions; /* 64-byte aligned */
	struct pv_completion *completions; /* 32-byte aligned */
	struct pv_ring_control *control; /* 64-byte aligned */
	uint32_t entries;
	/* The driver's own. */
	uint16_t doorbell_port;
	uint32_t vcpu;
	uint32_t added; /* index after that of the last submission written */
	uint32_t published; /* what submission_tail says */
	uint32_t taken; /* index of the next completion */
	uint64_t doorbells; /* rung */
};

/*
 * Sets the ring up for the calling vCPU, whose index is `vcpu`: the status of base.ring.  The feature RING was
 * accepted (base.h).  `channel` is one of this vCPU's, or PV_RING_NO_CHANNEL; the port is discovery's.
 */
int64_t pv_callring_init(struct pv_callring *ring, uint32_t vcpu, uint32_t channel, uint16_t doorbell_port);
/* Takes it out of use, on its vCPU: what the host has not begun is dropped, the memory is the caller's again. */
int64_t pv_callring_deinit(struct pv_callring *ring);

/* Writes a submission, not published yet; false if the ring is full: take completions first (RING-7). */
bool pv_callring_add(struct pv_callring *ring, uint32_t id, uint64_t cookie, const uint64_t args[6]);
/* Makes what was added known to the host, and rings the doorbell if it sleeps (RING-9). */
void pv_callring_publish(struct pv_callring *ring);
/* Takes the next completion, in the order of submission; false if there is none yet. Its cookie is the host's word:
 * who does not trust the host counts, and keeps what belongs to each submission itself. */
bool pv_callring_take(struct pv_callring *ring, struct pv_completion *completion);
/* Completions that can be taken. */
uint32_t pv_callring_ready(const struct pv_callring *ring);
/* Has the channel raised once `count` completions can be taken (RING-10): true, or false if they can already. */
bool pv_callring_want(struct pv_callring *ring, uint32_t count);
/* One of PV_RING_STATE_. */
uint32_t pv_callring_state(const struct pv_callring *ring);

/*
 * One call, looking for its completion all the time; FAILED if the ring is out of use or at fault.  The ring is
 * empty: nothing is submitted whose completion was not taken.
 */
struct pv_answer pv_callring_call(struct pv_callring *ring, uint32_t id, const uint64_t args[6]);

#endif
