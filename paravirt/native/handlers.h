/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The calls that the host library serves itself, by service.  A handler sees arguments that the
 * declaration allows; it answers with a status and, unless negative, sets *value (zero on entry).
 */
#ifndef PARAVIRT_HANDLERS_H
#define PARAVIRT_HANDLERS_H

#include "host.h"

typedef int64_t (*pv_handler)(struct pv_vcpu *vcpu, const uint64_t *args, uint64_t *value);

/* ---- extension.c, for dispatch ---- */

/* As find() in dispatch.c, for a service beyond the standard's. */
const struct pv_declaration *pv_extension_find(const struct pv_machine *machine, uint32_t id);
int64_t pv_extension_call(struct pv_vcpu *vcpu, uint32_t id, const uint64_t *args, uint64_t *value);
/* Whether the guest accepted a feature (a bit) of the service in a slot; -1: none is needed. */
static inline bool pv_feature_accepted(const struct pv_machine *machine, uint32_t slot, int8_t feature)
{
	return feature < 0 || __atomic_load_n(&machine->state.accepted[slot], __ATOMIC_RELAXED) >> feature & 1;
}

/* ---- system.c, for the timer thread: ends the machine if its watchdog is due; when to look again ---- */

uint64_t pv_watchdog_serve(struct pv_machine *machine, uint64_t now_ns);

/* ---- dispatch.c, for batches and rings ---- */

/*
 * By words, each read once.  Not as memcpy does it: a wide load of what was just stored by words, or the other way
 * round, waits until the stores have left the CPU's buffer, which takes as long as the whole call.
 */
static inline void pv_copy_words(uint64_t *to, const uint64_t *from, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* The one look at a submission in guest memory (BATCH-4). */
static inline struct pv_submission pv_submission_copy(const struct pv_submission *submission)
{
	struct pv_submission copy = {
		.call = __atomic_load_n(&submission->call, __ATOMIC_RELAXED),
		.flags = __atomic_load_n(&submission->flags, __ATOMIC_RELAXED),
		.cookie = __atomic_load_n(&submission->cookie, __ATOMIC_RELAXED),
	};

	pv_copy_words(copy.args, submission->args, PV_LIMIT_ARGUMENTS);
	return copy;
}

/* Carries out a submission, a copy, and writes its completion into guest memory. */
void pv_submission_serve(struct pv_vcpu *vcpu, uint32_t road, const struct pv_submission *from,
			 struct pv_completion *to);

#define PV_HANDLER(name) int64_t pv_call_##name(struct pv_vcpu *vcpu, const uint64_t *args, uint64_t *value)

PV_HANDLER(base_version);
PV_HANDLER(base_services);
PV_HANDLER(base_accept);
PV_HANDLER(base_limit);
PV_HANDLER(base_boot_info);
PV_HANDLER(base_batch);
PV_HANDLER(base_ring);
PV_HANDLER(base_renegotiate);
PV_HANDLER(console_write);
PV_HANDLER(console_read);
PV_HANDLER(event_send);
PV_HANDLER(event_upcall);
PV_HANDLER(time_deadline);
PV_HANDLER(vcpu_start);
PV_HANDLER(vcpu_stop);
PV_HANDLER(vcpu_yield);
PV_HANDLER(vcpu_block);
PV_HANDLER(vcpu_state);
PV_HANDLER(vcpu_fault_address);
PV_HANDLER(memory_populate);
PV_HANDLER(memory_discard);
PV_HANDLER(memory_target);
PV_HANDLER(memory_inflate);
PV_HANDLER(memory_deflate);
PV_HANDLER(memory_report);
PV_HANDLER(device_list);
PV_HANDLER(device_features);
PV_HANDLER(device_accept);
PV_HANDLER(device_status);
PV_HANDLER(device_set_status);
PV_HANDLER(device_config_read);
PV_HANDLER(device_config_write);
PV_HANDLER(device_generation);
PV_HANDLER(device_queue_size);
PV_HANDLER(device_queue_setup);
PV_HANDLER(device_queue_reset);
PV_HANDLER(device_bind);
PV_HANDLER(device_notify);
PV_HANDLER(system_shutdown);
PV_HANDLER(system_reset);
PV_HANDLER(system_crash);
PV_HANDLER(system_watchdog);
PV_HANDLER(system_debug);
PV_HANDLER(continuity_subscribe);
PV_HANDLER(continuity_acknowledge);
PV_HANDLER(entropy_fill);
PV_HANDLER(trace_mark);
PV_HANDLER(trace_begin);
PV_HANDLER(trace_end);

#endif
