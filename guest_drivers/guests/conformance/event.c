/* SPDX-License-Identifier: 0BSD
 *
 * Chapter event: the words of a vCPU's page, upcalls, wake-ups; that none is lost is judged by races between
 * two vCPUs.  The words are used here as the specification says, without the library.
 */
#include "support/conformance.h"

#define ROUNDS 150u
#define LAST_CHANNEL (PV_LIMIT_CHANNELS - 1)

static bool pending(const struct pv_vcpu_page *page, uint32_t channel)
{
	return CF_LOAD(page->pending[channel / 64]) >> channel % 64 & 1;
}

/* Takes what is pending, as EVT-3 orders. */
static void take(struct pv_vcpu_page *page, uint32_t channel)
{
	CF_STORE(page->upcall_pending, 0);
	__atomic_fetch_and(&page->pending[channel / 64], ~(1ull << channel % 64), __ATOMIC_SEQ_CST);
}

static int64_t send(uint32_t vcpu, uint32_t channel)
{
	return pv_call2(PV_CALL_EVENT_SEND, vcpu, channel).status;
}

static void words(struct pv_vcpu_page *page)
{
	cf_case("EVT-1 a channel that is raised");
	take(page, CF_CHANNEL); /* what another chapter took may have set upcall_pending after that (EVT-4) */
	cf_expect(send(0, CF_CHANNEL), PV_STATUS_OK, "event.send");
	cf_want(pending(page, CF_CHANNEL), "its bit is set");
	cf_expect(page->upcall_pending, 1, "upcall_pending");
	take(page, CF_CHANNEL);
	cf_expect(send(0, LAST_CHANNEL), PV_STATUS_OK, "event.send of the last channel");
	cf_want(pending(page, LAST_CHANNEL), "its bit is set");
	cf_expect((int64_t)(page->pending[0] | page->pending[1] | page->pending[2]), 0, "other words");
	take(page, LAST_CHANNEL);

	cf_case("EVT-5 a masked channel stays pending and tells nobody");
	__atomic_fetch_or(&page->mask[0], 1ull << CF_CHANNEL, __ATOMIC_SEQ_CST);
	send(0, CF_CHANNEL);
	cf_want(pending(page, CF_CHANNEL), "its bit is set");
	cf_expect(page->upcall_pending, 0, "upcall_pending");
	send(0, CF_CHANNEL + 1);
	cf_expect(page->upcall_pending, 1, "upcall_pending, after another channel");
	CF_STORE(page->mask[0], 0);
	cf_want(pending(page, CF_CHANNEL), "its bit is still set when it is not masked any more");
	take(page, CF_CHANNEL);
	take(page, CF_CHANNEL + 1);

	cf_case("EVT-6 channels and vCPUs that do not exist");
	cf_expect(send(0, PV_LIMIT_CHANNELS), PV_STATUS_NOT_FOUND, "the first channel too many");
	cf_expect(send(cf_vcpus(), CF_CHANNEL), PV_STATUS_NOT_FOUND, "the first vCPU too many");
	cf_expect(pv_call2(PV_CALL_EVENT_SEND, 1ull << 32, CF_CHANNEL).status, PV_STATUS_NOT_FOUND, "vCPU 2^32");
	cf_expect(pv_call2(PV_CALL_EVENT_SEND, 0, 1ull << 32 | CF_CHANNEL).status, PV_STATUS_NOT_FOUND,
		  "a channel above 32 bits");
	cf_expect(page->upcall_pending, 0, "upcall_pending");
}

static void vectors(void)
{
	static const uint64_t bad[] = { 1, 3, 31, 256, 1ull << 32, 1ull << 32 | CF_VECTOR, ~0ull };

	cf_case("CALL-6 event.upcall of a vector that is none");
	for (uint32_t i = 0; i < CF_COUNT(bad); i++)
		cf_expect(pv_call1(PV_CALL_EVENT_UPCALL, bad[i]).status, PV_STATUS_INVALID, "status");
	cf_expect(pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_OFF).status, PV_STATUS_OK, "OFF");
}

/* What an upcall does here: takes the channel. */
static void take_first(uint32_t vcpu, uint32_t vector)
{
	(void)vector;
	take(cf_page(vcpu), CF_CHANNEL);
}

static void suppression(struct pv_vcpu_page *page)
{
	uint32_t before = CF_LOAD(cf_upcalls[0]);

	CF_STORE(page->upcall_mask, 1);
	send(0, CF_CHANNEL);
	cf_wait_ns(CF_SECOND / 200);
	cf_expect(CF_LOAD(cf_upcalls[0]) - before, 0, "upcalls while upcall_mask is set");
	cf_expect(page->upcall_pending, 1, "upcall_pending meanwhile");
	CF_STORE(page->upcall_mask, 0);
	send(0, CF_CHANNEL + 1);
	cf_wait_ns(CF_SECOND / 200);
	cf_expect(CF_LOAD(cf_upcalls[0]) - before, 0, "upcalls while upcall_pending is set");
	take(page, CF_CHANNEL);
	take(page, CF_CHANNEL + 1);
	__atomic_fetch_or(&page->mask[0], 1ull << CF_CHANNEL, __ATOMIC_SEQ_CST);
	send(0, CF_CHANNEL);
	cf_wait_ns(CF_SECOND / 200);
	cf_expect(CF_LOAD(cf_upcalls[0]) - before, 0, "upcalls for a masked channel");
	CF_STORE(page->mask[0], 0);
	take(page, CF_CHANNEL);
}

static void upcalls(struct pv_vcpu_page *page, uint32_t vector, const char *name)
{
	cf_case("EVT-1 an upcall for each event, by %s", name);
	if (!cf_has_gates) {
		cf_skip("no table for gates");
		return;
	}
	cf_on_upcall = take_first;
	if (!cf_expect(pv_call1(PV_CALL_EVENT_UPCALL, vector).status, PV_STATUS_OK, "event.upcall"))
		return;
	uint32_t before = CF_LOAD(cf_upcalls[0]);
	uint64_t counted = CF_LOAD(page->upcalls);
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		send(0, CF_CHANNEL);
		if (!cf_want(cf_soon(&cf_upcalls[0], before + i, 5 * CF_SECOND), "an upcall within five seconds"))
			break;
	}
	cf_expect(CF_LOAD(cf_upcalls[0]) - before, ROUNDS, "upcalls");
	cf_expect((int64_t)(CF_LOAD(page->upcalls) - counted), ROUNDS, "upcalls, as the page counts them");
	cf_want(!pending(page, CF_CHANNEL), "nothing is pending");
	cf_case("EVT-1 no upcall while it is masked or one is pending, by %s", name);
	suppression(page);
	pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_OFF);
	before = CF_LOAD(cf_upcalls[0]);
	cf_case("EVT-1 no upcall when upcalls are off, after %s", name);
	send(0, CF_CHANNEL);
	cf_wait_ns(CF_SECOND / 200);
	cf_expect(CF_LOAD(cf_upcalls[0]) - before, 0, "upcalls");
	take(page, CF_CHANNEL);
}

static bool has_doorbell(void)
{
	return cf_accept(PV_SERVICE_EVENT, PV_EVENT_FEATURE_DOORBELL) & PV_EVENT_FEATURE_DOORBELL;
}

static void ring(uint32_t vcpu)
{
	pv_out32((uint16_t)cf_boot.abi->doorbell, (uint32_t)PV_EVENT_DOORBELL << 16 | vcpu);
}

/* An upcall is all that a doorbell does. */
static void doorbells(struct pv_vcpu_page *page)
{
	cf_case("EVT-10 a doorbell sends the upcall of a vCPU, whatever its page says");
	if (!cf_has_gates || !has_doorbell()) {
		cf_skip(cf_has_gates ? "the feature is not offered" : "no table for gates");
		return;
	}
	cf_on_upcall = take_first;
	ring(0);
	ring(cf_vcpus());
	cf_expect(pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_NMI).status, PV_STATUS_OK, "event.upcall");
	cf_wait_ns(CF_SECOND / 200);
	uint32_t before = CF_LOAD(cf_upcalls[0]);
	uint64_t counted = CF_LOAD(page->upcalls);
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		ring(0);
		if (!cf_want(cf_soon(&cf_upcalls[0], before + i, 5 * CF_SECOND), "an upcall within five seconds"))
			break;
	}
	CF_STORE(page->upcall_mask, 1);
	CF_STORE(page->upcall_pending, 1);
	ring(0);
	cf_want(cf_soon(&cf_upcalls[0], before + ROUNDS + 1, 5 * CF_SECOND), "one though upcall_mask is set");
	cf_expect(CF_LOAD(page->upcall_mask), 1, "upcall_mask");
	CF_STORE(page->upcall_mask, 0);
	cf_expect((int64_t)(CF_LOAD(page->upcalls) - counted), 0, "upcalls, as the page counts them");
	cf_want(!pending(page, CF_CHANNEL), "nothing is pending");
	pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_OFF);
	before = CF_LOAD(cf_upcalls[0]);
	ring(0);
	cf_wait_ns(CF_SECOND / 200);
	cf_expect(CF_LOAD(cf_upcalls[0]) - before, 0, "upcalls when they are off");
}

/* A channel as EVT-12 has it: without a call, unless the vCPU waits. */
static void raise(struct pv_vcpu_page *page, uint32_t channel)
{
	__atomic_fetch_or(&page->pending[channel / 64], 1ull << channel % 64, __ATOMIC_SEQ_CST);
	if (CF_LOAD(page->state) != PV_VCPU_STATE_RUNNING) {
		send(page->index, channel);
		return;
	}
	if (__atomic_exchange_n(&page->upcall_pending, 1, __ATOMIC_SEQ_CST))
		return;
	if (!CF_LOAD(page->upcall_mask))
		ring(page->index);
	if (CF_LOAD(page->state) != PV_VCPU_STATE_RUNNING)
		send(page->index, channel);
}

static uint32_t turn; /* the round that vCPU 1 is to send in */

static uint32_t in_memory; /* it raises the channel itself */

/* vCPU 1: an event for vCPU 0 in each round, at another moment of it; `blocked`: when it has blocked. */
static void sender(void *argument)
{
	const bool blocked = argument != NULL;

	for (uint32_t round = 1; round <= ROUNDS; round++) {
		while (CF_LOAD(turn) < round)
			cf_relax();
		if (blocked && round % 4 == 0)
			for (uint32_t i = 0; i < 20000 && CF_LOAD(cf_page(0)->state) != PV_VCPU_STATE_BLOCKED; i++)
				cf_relax();
		for (uint32_t i = 0; i < round * 7 % 64; i++)
			cf_relax();
		if (CF_LOAD(in_memory))
			raise(cf_page(0), CF_CHANNEL);
		else
			send(0, CF_CHANNEL);
	}
}

/* Blocked, with upcalls masked: the event may come before, while and after vCPU 0 looks. */
static uint32_t lost_wakes(struct pv_vcpu_page *page)
{
	uint32_t lost = 0;

	CF_STORE(page->upcall_mask, 1);
	for (uint32_t round = 1; round <= ROUNDS && !lost; round++) {
		uint64_t end_ns = cf_now_ns() + 5 * CF_SECOND; /* a busy host, and a guest that is emulated */

		CF_STORE(turn, round);
		for (;;) {
			CF_STORE(page->upcall_pending, 0);
			if (pending(page, CF_CHANNEL) || cf_now_ns() > end_ns)
				break;
			pv_call1(PV_CALL_VCPU_BLOCK, end_ns);
		}
		lost += !pending(page, CF_CHANNEL) || cf_now_ns() > end_ns;
		take(page, CF_CHANNEL);
	}
	CF_STORE(page->upcall_mask, 0);
	return lost;
}

static uint32_t rounds_taken;

static void take_round(void)
{
	struct pv_vcpu_page *page = cf_page(0);
	const uint64_t bit = 1ull << CF_CHANNEL;

	CF_STORE(page->upcall_pending, 0);
	if (__atomic_fetch_and(&page->pending[0], ~bit, __ATOMIC_SEQ_CST) & bit)
		__atomic_fetch_add(&rounds_taken, 1, __ATOMIC_SEQ_CST);
}

/* One that was sent before upcalls were masked is left to the code that takes the mask back. */
static void take_unless_masked(uint32_t vcpu, uint32_t vector)
{
	(void)vector;
	if (!CF_LOAD(cf_page(vcpu)->upcall_mask))
		take_round();
}

/* The mask is taken back while the event is raised: one of the two sides must see the other. */
static uint32_t lost_upcalls(struct pv_vcpu_page *page)
{
	rounds_taken = 0;
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		CF_STORE(page->upcall_mask, 1);
		CF_STORE(turn, round);
		for (uint32_t i = 0; i < round * 5 % 64; i++)
			cf_relax();
		CF_STORE(page->upcall_mask, 0);
		if (CF_LOAD(page->upcall_pending))
			take_round();
		if (!cf_soon(&rounds_taken, round, CF_SECOND))
			return 1;
	}
	return 0;
}

/* vCPU 1 sends, vCPU 0 counts what it misses. */
static void race(struct pv_vcpu_page *page, uint32_t (*lost)(struct pv_vcpu_page *), const char *what)
{
	CF_STORE(turn, 0);
	cf_expect(cf_start(1, sender, lost == lost_wakes ? page : NULL), PV_STATUS_OK, "vcpu.start");
	cf_expect(lost(page), 0, what);
	CF_STORE(turn, ROUNDS);
	cf_join(1);
	take(page, CF_CHANNEL);
}

static void races_in_memory(struct pv_vcpu_page *page)
{
	cf_case("EVT-11 EVT-10 vCPUs raise each other's channels themselves, and lose none");
	if (!has_doorbell()) {
		cf_skip("the feature is not offered");
		return;
	}
	CF_STORE(in_memory, 1);
	race(page, lost_wakes, "wake-ups lost");
	if (cf_has_gates) {
		pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_NMI);
		race(page, lost_upcalls, "upcalls lost");
		pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_OFF);
	}
	CF_STORE(in_memory, 0);
}

static void races(struct pv_vcpu_page *page)
{
	cf_case("EVT-2 events of another vCPU wake one that blocks, whatever upcall_mask says");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	race(page, lost_wakes, "wake-ups lost");
	cf_case("EVT-3 EVT-5 no upcall is lost while its mask is taken back");
	if (!cf_has_gates) {
		cf_skip("no table for gates");
		return;
	}
	cf_on_upcall = take_unless_masked;
	cf_expect(pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_NMI).status, PV_STATUS_OK, "event.upcall");
	race(page, lost_upcalls, "upcalls lost");
	pv_call1(PV_CALL_EVENT_UPCALL, PV_UPCALL_OFF);
	races_in_memory(page);
}

static void look(void *argument)
{
	*(uint32_t *)argument = 1u + pending(cf_page(1), CF_CHANNEL) + (cf_page(1)->upcall_pending ? 2u : 0u);
}

static void stopped(void)
{
	uint32_t found = 0;

	cf_case("EVT-8 a channel of a stopped vCPU is found pending when it is started");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	take(cf_page(1), CF_CHANNEL);
	cf_expect(send(1, CF_CHANNEL), PV_STATUS_OK, "event.send");
	cf_expect(cf_start(1, look, &found), PV_STATUS_OK, "vcpu.start");
	cf_want(cf_soon(&found, 1, CF_SECOND), "it runs");
	cf_expect(found, 4, "1, its bit, and 2 for upcall_pending");
	cf_join(1);
	take(cf_page(1), CF_CHANNEL);
}

static void event(void)
{
	struct pv_vcpu_page *page = cf_page(0);

	if (!cf_offered(PV_SERVICE_EVENT)) {
		cf_case("EVT-1 EVT-2 EVT-3 EVT-5 EVT-6 EVT-8 EVT-10 EVT-11 events");
		cf_skip("service event is not offered");
		return;
	}
	words(page);
	vectors();
	upcalls(page, CF_VECTOR, "an interrupt");
	upcalls(page, PV_UPCALL_NMI, "NMI");
	doorbells(page);
	races(page);
	stopped();
	cf_on_upcall = NULL;
}

CF_CHAPTER(event, event);
