// SPDX-License-Identifier: BSD-2-Clause
/*
 * Service continuity: the page that tells what happens to the machine as a whole, who is told of it, and what the
 * guest acknowledged.  What happens, when, and how long the guest is waited for is the caller's to decide.
 */
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "handlers.h"

static void wake(struct pv_machine *machine)
{
	__atomic_fetch_add(&machine->continuity.heard, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &machine->continuity.heard, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void pv_continuity_end(struct pv_machine *machine)
{
	wake(machine);
}

bool pv_continuity_heard(const struct pv_machine *machine)
{
	return machine->continuity.page &&
	       pv_feature_accepted(machine, PV_SERVICE_CONTINUITY, PV_CONTINUITY_FEATURE_NOTIFY_BIT) &&
	       __atomic_load_n(&machine->state.continuity.vcpu, __ATOMIC_SEQ_CST) != UINT32_MAX;
}

/* Under the sequence, as the time page (CONT-2); what the guest may have written there is not looked at. */
static void publish(struct pv_continuity_page *page, const struct pv_announcement *from, uint64_t counter)
{
	uint32_t sequence = 2 * ((uint32_t)counter - 1);

	__atomic_store_n(&page->sequence, sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&page->event, from->event, __ATOMIC_RELAXED);
	memcpy(page->generation, from->generation, sizeof(page->generation));
	__atomic_store_n(&page->counter, counter, __ATOMIC_RELAXED);
	__atomic_store_n(&page->clock_jump_ns, from->clock_jump_ns, __ATOMIC_RELAXED);
	memcpy(page->seed, from->seed, sizeof(page->seed));
	__atomic_store_n(&page->sequence, sequence + 2, __ATOMIC_RELEASE);
}

uint64_t pv_continuity_announce(struct pv_machine *machine, const struct pv_announcement *announcement)
{
	struct pv_continuity_state *state = &machine->state.continuity;

	if (!machine->continuity.page)
		return 0;
	uint64_t counter = state->counter + 1;
	state->event = announcement->event;
	memcpy(state->generation, announcement->generation, sizeof(state->generation));
	__atomic_store_n(&machine->continuity.announced_ns, pv_clock_ns(), __ATOMIC_RELAXED);
	publish(machine->continuity.page, announcement, counter);
	/* Only now: an acknowledgement of what the page does not show yet is none. */
	__atomic_store_n(&state->counter, counter, __ATOMIC_SEQ_CST);
	if (pv_continuity_heard(machine))
		pv_event_raise(machine, __atomic_load_n(&state->vcpu, __ATOMIC_SEQ_CST), PV_CHANNEL_CONTINUITY);
	return counter;
}

bool pv_continuity_wait(struct pv_machine *machine, uint64_t counter, uint64_t timeout_ns)
{
	const uint64_t until_ns = pv_clock_ns() + timeout_ns;

	for (;;) {
		uint32_t seen = __atomic_load_n(&machine->continuity.heard, __ATOMIC_SEQ_CST);
		uint64_t now = pv_clock_ns();

		if (__atomic_load_n(&machine->state.continuity.acknowledged, __ATOMIC_SEQ_CST) >= counter)
			return true;
		if (now >= until_ns || __atomic_load_n(&machine->ending, __ATOMIC_SEQ_CST))
			return false;
		uint64_t left = until_ns - now;
		struct timespec ts = { (time_t)(left / 1000000000), (long)(left % 1000000000) };

		syscall(SYS_futex, &machine->continuity.heard, FUTEX_WAIT_PRIVATE, seen, &ts, NULL, 0);
	}
}

PV_HANDLER(continuity_subscribe)
{
	(void)value;
	if (args[0] >= vcpu->machine->vcpu_count)
		return PV_STATUS_NOT_FOUND;
	__atomic_store_n(&vcpu->machine->state.continuity.vcpu, (uint32_t)args[0], __ATOMIC_SEQ_CST);
	return PV_STATUS_OK;
}

PV_HANDLER(continuity_acknowledge)
{
	struct pv_continuity_state *state = &vcpu->machine->state.continuity;
	struct pv_continuity *own = &vcpu->machine->continuity;
	uint64_t took_ns = pv_clock_ns() - __atomic_load_n(&own->announced_ns, __ATOMIC_RELAXED);

	(void)value;
	if (args[0] != __atomic_load_n(&state->counter, __ATOMIC_SEQ_CST)) /* CONT-4 */
		return PV_STATUS_INVALID;
	if (__atomic_exchange_n(&state->acknowledged, args[0], __ATOMIC_SEQ_CST) == args[0])
		return PV_STATUS_OK; /* once more */
	__atomic_fetch_add(&own->acknowledgements, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&own->last_ns, took_ns, __ATOMIC_RELAXED);
	if (took_ns > __atomic_load_n(&own->longest_ns, __ATOMIC_RELAXED))
		__atomic_store_n(&own->longest_ns, took_ns, __ATOMIC_RELAXED);
	wake(vcpu->machine);
	return PV_STATUS_OK;
}
