/* SPDX-License-Identifier: 0BSD
 *
 * The guest's side of call rings.
 *
 * Two pairs of full barriers hold it together; each side stores first and looks second:
 *   RING-9   we set submission_tail, then read doorbell_wanted; the host sets that, then reads the tail.
 *   RING-10  we set completion_event, then read completion_tail; the host sets that, then reads the event.
 */
#include "paravirt/callring.h"
#include "paravirt/string.h"
#include "paravirt/vcpu.h"

int64_t pv_callring_init(struct pv_callring *ring, uint32_t vcpu, uint32_t channel, uint16_t doorbell_port)
{
	struct pv_ring_setup setup __attribute__((aligned(8))) = {
		.submissions_gpa = pv_gpa(ring->submissions),
		.completions_gpa = pv_gpa(ring->completions),
		.control_gpa = pv_gpa(ring->control),
		.entries = ring->entries,
		.channel = channel,
	};

	ring->vcpu = vcpu;
	ring->doorbell_port = doorbell_port;
	ring->added = ring->published = ring->taken = 0;
	ring->doorbells = 0;
	memset(ring->control, 0, sizeof(*ring->control));
	ring->control->completion_event = UINT32_MAX; /* behind: no events until they are wanted */
	return pv_call2(PV_CALL_BASE_RING, pv_gpa(&setup), 1).status;
}

int64_t pv_callring_deinit(struct pv_callring *ring)
{
	ring->added = ring->published = ring->taken = 0;
	return pv_call2(PV_CALL_BASE_RING, 0, 0).status;
}

bool pv_callring_add(struct pv_callring *ring, uint32_t id, uint64_t cookie, const uint64_t args[6])
{
	if (ring->added - ring->taken == ring->entries) /* RING-7 */
		return false;
	struct pv_submission *submission = &ring->submissions[ring->added++ & (ring->entries - 1)];

	submission->call = id;
	submission->flags = 0; /* BATCH-3 */
	for (uint32_t i = 0; i < PV_LIMIT_ARGUMENTS; i++)
		submission->args[i] = args[i];
	submission->cookie = cookie;
	return true;
}

void pv_callring_publish(struct pv_callring *ring)
{
	if (ring->published == ring->added)
		return;
	ring->published = ring->added;
	/* An exchange, for its barrier: RING-9. */
	__atomic_exchange_n(&ring->control->submission_tail, ring->published, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ring->control->doorbell_wanted, __ATOMIC_SEQ_CST)) {
		pv_out32(ring->doorbell_port, (uint32_t)PV_RING_DOORBELL << 16 | ring->vcpu);
		ring->doorbells++;
	}
}

uint32_t pv_callring_ready(const struct pv_callring *ring)
{
	uint32_t ready = __atomic_load_n(&ring->control->completion_tail, __ATOMIC_ACQUIRE) - ring->taken;
	uint32_t most = ring->published - ring->taken;

	return ready < most ? ready : most; /* a host that counts more than there was is not followed */
}

bool pv_callring_take(struct pv_callring *ring, struct pv_completion *completion)
{
	if (!pv_callring_ready(ring)) {
		/* It comes from the host's CPU together with the tail that counts it, not after it. */
		__builtin_prefetch(&ring->completions[ring->taken & (ring->entries - 1)]);
		return false;
	}
	*completion = ring->completions[ring->taken++ & (ring->entries - 1)];
	if (completion->status < PV_STATUS_NO_MEMORY) /* ERR-1 */
		completion->status = PV_STATUS_FAILED;
	return true;
}

bool pv_callring_want(struct pv_callring *ring, uint32_t count)
{
	/* An exchange, for its barrier: RING-10. */
	__atomic_exchange_n(&ring->control->completion_event, ring->taken + count - 1, __ATOMIC_SEQ_CST);
	return pv_callring_ready(ring) < count;
}

uint32_t pv_callring_state(const struct pv_callring *ring)
{
	return __atomic_load_n(&ring->control->state, __ATOMIC_ACQUIRE);
}

struct pv_answer pv_callring_call(struct pv_callring *ring, uint32_t id, const uint64_t args[6])
{
	struct pv_completion completion;

	if (pv_callring_add(ring, id, 0, args)) {
		pv_callring_publish(ring);
		bool on;

		do {
			pv_relax();
			/* Before the completion: a call under way is completed before the ring goes out of use (RING-12). */
			on = pv_callring_state(ring) == PV_RING_STATE_ON;
			if (pv_callring_take(ring, &completion))
				return (struct pv_answer){ completion.status, completion.value };
		} while (on);
	}
	return (struct pv_answer){ .status = PV_STATUS_FAILED };
}
