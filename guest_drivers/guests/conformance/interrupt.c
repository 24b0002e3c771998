/* SPDX-License-Identifier: 0BSD
 *
 * Chapter interrupt: upcalls by an interrupt vector, and their ends, by the local APIC or in memory.  The words are
 * used here as the specification says, without the library.
 */
#include "support/conformance.h"

#define ROUNDS 150u

static uint32_t last_vector; /* by which the last upcall came */
static uint32_t taken; /* events */
static uint32_t ended[2]; /* upcalls by what bit 0 of `eoi` was: clear, set */

static bool pending(const struct pv_vcpu_page *page)
{
	return CF_LOAD(page->pending[CF_CHANNEL / 64]) >> CF_CHANNEL % 64 & 1;
}

static void send(void)
{
	pv_call2(PV_CALL_EVENT_SEND, 0, CF_CHANNEL);
}

/* What an upcall does here, as EVT-3 orders. */
static void take(uint32_t vcpu, uint32_t vector)
{
	struct pv_vcpu_page *page = cf_page(vcpu);
	const uint64_t bit = 1ull << CF_CHANNEL % 64;

	CF_STORE(last_vector, vector);
	CF_STORE(page->upcall_pending, 0);
	if (__atomic_fetch_and(&page->pending[CF_CHANNEL / 64], ~bit, __ATOMIC_SEQ_CST) & bit)
		__atomic_fetch_add(&taken, 1, __ATOMIC_SEQ_CST);
}

/* With cf_keep_interrupt. The end comes last: the next event may be raised before it. */
static void take_and_end(uint32_t vcpu, uint32_t vector)
{
	take(vcpu, vector);
	uint32_t set = __atomic_fetch_and(&cf_page(vcpu)->eoi, ~1u, __ATOMIC_SEQ_CST) & 1; /* EVT-14 */
	__atomic_fetch_add(&ended[set], 1, __ATOMIC_SEQ_CST);
	if (!set)
		cf_end_of_interrupt();
}

static void begin(void (*also)(uint32_t vcpu, uint32_t vector), bool keep)
{
	cf_on_upcall = also;
	cf_keep_interrupt = keep;
	cf_expect(pv_call1(PV_CALL_EVENT_UPCALL, CF_VECTOR).status, PV_STATUS_OK, "event.upcall");
}

static void end(void)
{
	cf_expect(pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_OFF).status, PV_STATUS_OK, "event.upcall");
	cf_keep_interrupt = false;
}

/* While the first is not ended the host may hold the second back, or may not. */
static void held_back(struct pv_vcpu_page *page)
{
	cf_case("EVT-9 an interrupt comes once the one before is ended, and none is lost");
	begin(take, true);
	uint32_t before = CF_LOAD(cf_upcalls[0]);
	send();
	cf_want(cf_soon(&cf_upcalls[0], before + 1, CF_SECOND), "the first comes");
	cf_expect(CF_LOAD(last_vector), CF_VECTOR, "its vector");
	send();
	cf_wait_ns(CF_SECOND / 50);
	cf_want(CF_LOAD(cf_upcalls[0]) - before <= 2, "no more than one for each event");
	cf_keep_interrupt = false;
	cf_end_of_interrupt();
	cf_want(cf_soon(&cf_upcalls[0], before + 2, CF_SECOND), "the second has come after the end of the first");
	cf_want(!pending(page), "nothing is pending");
	cf_end_of_interrupt(); /* of the second, if it came meanwhile */
	end();
	take(0, 0);
}

/* One upcall for each event, and an end for each; those that found the bit set. */
static uint32_t rounds(void (*also)(uint32_t vcpu, uint32_t vector))
{
	uint32_t before = CF_LOAD(cf_upcalls[0]), were_set = CF_LOAD(ended[1]);

	begin(also, also == take_and_end);
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		send();
		if (!cf_want(cf_soon(&cf_upcalls[0], before + i, 5 * CF_SECOND), "an upcall within five seconds"))
			break;
	}
	cf_expect(CF_LOAD(cf_upcalls[0]) - before, ROUNDS, "upcalls");
	end();
	return CF_LOAD(ended[1]) - were_set;
}

/* vCPU 1: the next event as soon as one is taken, and a little later from round to round. */
static void sender(void *argument)
{
	(void)argument;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		while (CF_LOAD(taken) < round)
			cf_relax();
		for (uint32_t i = 0; i < round * 7 % 64; i++)
			cf_relax();
		send();
	}
}

static void race(void)
{
	cf_case("EVT-13 EVT-9 no upcall is lost that comes while the one before is ended in memory");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	begin(take_and_end, true);
	CF_STORE(taken, 0);
	cf_expect(cf_start(1, sender, NULL), PV_STATUS_OK, "vcpu.start");
	for (uint32_t i = 1; i <= ROUNDS; i++)
		if (!cf_want(cf_soon(&taken, i, 5 * CF_SECOND), "an upcall within five seconds"))
			break;
	CF_STORE(taken, ROUNDS);
	cf_want(cf_join(1), "it stops");
	end();
	take(0, 0);
}

static void in_memory(struct pv_vcpu_page *page)
{
	cf_case("EVT-13 eoi is zero unless its feature is accepted");
	if (!(cf_accept(PV_SERVICE_EVENT, PV_EVENT_FEATURE_EOI) & PV_EVENT_FEATURE_EOI)) {
		cf_skip("the feature is not offered");
		return;
	}
	pv_call0(PV_CALL_BASE_RENEGOTIATE);
	cf_expect(rounds(take_and_end), 0, "upcalls that found it set");
	cf_accept(PV_SERVICE_EVENT, PV_EVENT_FEATURE_EOI);
	cf_case("EVT-13 EVT-9 upcalls that are ended in memory where they may be come one for each event");
	rounds(take_and_end);
	cf_expect(page->eoi, 0, "eoi, with no upcall under way");
	cf_case("EVT-13 EVT-9 upcalls that are ended by the local APIC though they need not be");
	rounds(take);
	cf_expect(page->eoi, 0, "eoi, with no upcall under way");
	race();
}

static void interrupt(void)
{
	if (!cf_offered(PV_SERVICE_EVENT) || !cf_has_gates) {
		cf_case("EVT-9 EVT-13 upcalls by an interrupt vector");
		cf_skip(cf_has_gates ? "service event is not offered" : "no table for gates");
		return;
	}
	held_back(cf_page(0));
	in_memory(cf_page(0));
	cf_on_upcall = NULL;
}

CF_CHAPTER(interrupt, interrupt);
