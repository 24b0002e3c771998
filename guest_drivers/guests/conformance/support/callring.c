/* SPDX-License-Identifier: 0BSD
 *
 * Call rings as the specification has them, without the library.
 */
#include "callring.h"
#include "paravirt/string.h"

struct cf_callring cf_callrings[CF_VCPUS] __attribute__((aligned(4096)));

bool cf_callring_offered(void)
{
	return cf_accept(PV_SERVICE_BASE, PV_BASE_FEATURE_RING) & PV_BASE_FEATURE_RING;
}

struct pv_ring_setup cf_ring_setup(uint32_t vcpu)
{
	struct cf_callring *ring = &cf_callrings[vcpu];

	return (struct pv_ring_setup){
		.submissions_gpa = pv_gpa(ring->submissions),
		.completions_gpa = pv_gpa(ring->completions),
		.control_gpa = pv_gpa(&ring->control),
		.entries = CF_RING_ENTRIES,
		.channel = PV_RING_NO_CHANNEL,
	};
}

int64_t cf_ring_on(uint32_t vcpu, const struct pv_ring_setup *setup)
{
	memset(&cf_callrings[vcpu], 0, sizeof(cf_callrings[vcpu]));
	return pv_call2(PV_CALL_BASE_RING, pv_gpa(setup), 1).status;
}

int64_t cf_ring_off(void)
{
	return pv_call2(PV_CALL_BASE_RING, 0, 0).status;
}

void cf_ring_add(struct cf_callring *ring, uint32_t id, const uint64_t args[6], uint64_t cookie)
{
	struct pv_submission *to = &ring->submissions[ring->submitted++ % CF_RING_ENTRIES];

	*to = (struct pv_submission){ .call = id, .cookie = cookie };
	if (args)
		memcpy(to->args, args, sizeof(to->args));
}

void cf_ring_doorbell(uint32_t vcpu)
{
	pv_out32((uint16_t)cf_boot.abi->doorbell, (uint32_t)PV_RING_DOORBELL << 16 | vcpu);
}

void cf_ring_submit(struct cf_callring *ring, uint32_t vcpu)
{
	/* An exchange: the store is globally visible before the wish is read. */
	__atomic_exchange_n(&ring->control.submission_tail, ring->submitted, __ATOMIC_SEQ_CST);
	if (CF_LOAD(ring->control.doorbell_wanted))
		cf_ring_doorbell(vcpu);
}

bool cf_ring_completed(struct cf_callring *ring, uint32_t tail)
{
	uint64_t end_ns = cf_now_ns() + 2 * CF_SECOND;

	while (CF_LOAD(ring->control.completion_tail) != tail)
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}

struct pv_answer cf_ringed(uint32_t id, const uint64_t args[6])
{
	struct cf_callring *ring = &cf_callrings[0];
	uint32_t at = ring->submitted % CF_RING_ENTRIES;

	if (ring->silent)
		return (struct pv_answer){ 3000, 0 };
	ring->completions[at] = (struct pv_completion){ 0 };
	cf_ring_add(ring, id, args, 0x5eed);
	cf_ring_submit(ring, 0);
	ring->silent = !cf_ring_completed(ring, ring->submitted) || ring->completions[at].cookie != 0x5eed;
	return ring->silent ? (struct pv_answer){ 3000, 0 }
			    : (struct pv_answer){ ring->completions[at].status, ring->completions[at].value };
}
