/* SPDX-License-Identifier: 0BSD
 *
 * Service base: version, limits, negotiation of features, and the batch road.
 */
#ifndef PARAVIRT_BASE_H
#define PARAVIRT_BASE_H

#include "paravirt/call.h"

/* major << 32 | minor */
static inline struct pv_answer pv_version(void)
{
	return pv_call0(PV_CALL_BASE_VERSION);
}

/* The host's value of a limit, one of PV_LIMIT_ID_. */
static inline struct pv_answer pv_limit(uint32_t limit_id)
{
	return pv_call1(PV_CALL_BASE_LIMIT, limit_id);
}

/* What a guest asks of one service. */
struct pv_wish {
	uint32_t service;
	uint32_t optional; /* 1: go on without the service; calls is then 0 */
	uint64_t needed; /* features without which the guest does not run */
	uint64_t wanted; /* further features, taken if offered */
	uint64_t accepted; /* out: features agreed */
	uint32_t calls; /* out: functions that exist, a bit each, after the features were agreed */
};

/*
 * Agrees on the features of each service wished for: OK, NOT_SUPPORTED if a service or a needed
 * feature is not offered or the major version differs, else the host's refusal.
 */
int64_t pv_negotiate(struct pv_wish *wishes, uint32_t count);

/* Calls collected for one trap. The arrays are the caller's. */
struct pv_batch {
	struct pv_submission *submissions; /* 64-byte aligned */
	struct pv_completion *completions; /* 32-byte aligned */
	uint32_t size; /* room in both, at most PV_LIMIT_BATCH_ENTRIES */
	uint32_t count; /* calls added */
};

void pv_batch_init(struct pv_batch *batch, struct pv_submission *submissions, struct pv_completion *completions,
		   uint32_t size);
/* Adds a call with up to six arguments; false if the batch is full. */
bool pv_batch_add(struct pv_batch *batch, uint32_t id, uint64_t cookie, const uint64_t args[6]);
/*
 * Makes the calls in order and again where the host stopped for its time bound; completions[i] then
 * belongs to submissions[i].  OK, or the status of the trap that failed.
 */
int64_t pv_batch_run(struct pv_batch *batch);

#endif
