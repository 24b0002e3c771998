/* SPDX-License-Identifier: 0BSD
 *
 * Chapter callring: the ring road: set-up, order, doorbells and events in races with the host, faults, the end.
 */
#include "support/callring.h"
#include "paravirt/string.h"

#define ROUNDS 200u
#define CHANNEL (CF_CHANNEL + 40)
#define UNTOUCHED 0x55

static struct cf_callring *const ring = &cf_callrings[0];

static bool raised(void)
{
	uint64_t bit = 1ull << CHANNEL % 64;

	CF_STORE(cf_page(0)->upcall_pending, 0);
	return __atomic_fetch_and(&cf_page(0)->pending[CHANNEL / 64], ~bit, __ATOMIC_SEQ_CST) & bit;
}

static bool soon_raised(void)
{
	uint64_t end_ns = cf_now_ns() + CF_SECOND;

	while (!raised())
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}

/* A ring that raises CHANNEL. */
static bool on_with_channel(void)
{
	struct pv_ring_setup setup = cf_ring_setup(0);

	setup.channel = CHANNEL;
	raised();
	return cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring");
}

static void life(void)
{
	struct pv_ring_setup setup = cf_ring_setup(0);

	cf_case("RING-1 a vCPU has one call ring");
	cf_expect(cf_ring_off(), PV_STATUS_OK, "out of use, when there is none");
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "into use");
	cf_expect(pv_call2(PV_CALL_BASE_RING, pv_gpa(&setup), 1).status, PV_STATUS_BAD_STATE, "once more");
	cf_expect(cf_ring_off(), PV_STATUS_OK, "out of use");
	cf_case("RING-3 base.ring answers with completion_tail zero and state ON");
	memset(&ring->control, UNTOUCHED, sizeof(ring->control));
	ring->control.submission_tail = 0;
	cf_expect(pv_call2(PV_CALL_BASE_RING, pv_gpa(&setup), 1).status, PV_STATUS_OK, "into use");
	cf_expect(ring->control.completion_tail, 0, "completion_tail");
	cf_expect(ring->control.state, PV_RING_STATE_ON, "state");
	cf_ring_off();
	cf_expect(ring->control.state, PV_RING_STATE_OFF, "state afterwards");
}

static void bad_setups(void)
{
	const struct pv_ring_setup good = cf_ring_setup(0);
	struct {
		const char *what;
		int64_t status;
		struct pv_ring_setup setup;
	} bad[] = {
		{ "no such channel", PV_STATUS_NOT_FOUND, good },
		{ "no entries", PV_STATUS_INVALID, good },
		{ "12 entries", PV_STATUS_INVALID, good },
		{ "flags", PV_STATUS_INVALID, good },
		{ "padding", PV_STATUS_INVALID, good },
		{ "too many entries", PV_STATUS_LIMIT, good },
		{ "submissions, alignment", PV_STATUS_UNALIGNED, good },
		{ "completions, alignment", PV_STATUS_UNALIGNED, good },
		{ "control, alignment", PV_STATUS_UNALIGNED, good },
		{ "submissions, nowhere", PV_STATUS_BAD_ADDRESS, good },
		{ "completions, nowhere", PV_STATUS_BAD_ADDRESS, good },
		{ "control, wraps", PV_STATUS_BAD_ADDRESS, good },
	};

	cf_case("RING-2 CALL-6 CALL-14 base.ring with a record that only it can judge");
	bad[0].setup.channel = PV_LIMIT_CHANNELS;
	bad[1].setup.entries = 0;
	bad[2].setup.entries = 12;
	bad[3].setup.flags = 1;
	bad[4].setup.reserved0[3] = 1;
	bad[5].setup.entries = (uint32_t)(2 * pv_call1(PV_CALL_BASE_LIMIT, PV_LIMIT_ID_RING_ENTRIES).value);
	bad[6].setup.submissions_gpa += 32;
	bad[7].setup.completions_gpa += 16;
	bad[8].setup.control_gpa += 32;
	bad[9].setup.submissions_gpa = CF_NOWHERE;
	bad[10].setup.completions_gpa = CF_NOWHERE;
	bad[11].setup.control_gpa = ~0ull - 63;
	for (uint32_t i = 0; i < CF_COUNT(bad); i++)
		if (cf_expect(pv_call2(PV_CALL_BASE_RING, pv_gpa(&bad[i].setup), 1).status, bad[i].status,
			      bad[i].what) == false)
			cf_ring_off();
}

static void order(void)
{
	static uint64_t random[CF_RING_ENTRIES];
	struct pv_ring_setup setup = cf_ring_setup(0);
	uint64_t version = pv_call0(PV_CALL_BASE_VERSION).value, calls;
	uint32_t tail = 0;

	cf_case("RING-3 RING-5 completion n is that of submission n, round and round");
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring");
	calls = CF_LOAD(cf_page(0)->calls);
	for (uint32_t group = 1; tail < 20 * CF_RING_ENTRIES; group = group % CF_RING_ENTRIES + 1) {
		for (uint32_t i = 0; i < group; i++)
			cf_ring_add(ring, PV_CALL_BASE_VERSION, NULL, ~(uint64_t)(tail + i));
		cf_ring_submit(ring, 0);
		if (!cf_want(cf_ring_completed(ring, tail + group), "completed within two seconds"))
			break;
		for (uint32_t i = 0; i < group; i++, tail++) {
			const struct pv_completion *c = &ring->completions[tail % CF_RING_ENTRIES];

			cf_expect((int64_t)c->cookie, ~(int64_t)tail, "cookie");
			cf_expect(c->status, PV_STATUS_OK, "status");
			cf_expect((int64_t)c->value, (int64_t)version, "value");
			cf_expect(c->reserved0[0] | c->reserved0[7], 0, "padding");
		}
	}
	cf_want(CF_LOAD(cf_page(0)->calls) - calls >= tail, "they count as calls of the vCPU");
	cf_case("RING-4 what a call wrote is there with its completion");
	for (uint32_t i = 0; i < CF_RING_ENTRIES && cf_exists(PV_CALL_ENTROPY_FILL); i++) {
		const uint64_t args[6] = { pv_gpa(&random[i]), 8 };

		random[i] = 0;
		cf_expect(cf_ringed(PV_CALL_ENTROPY_FILL, args).status, PV_STATUS_OK, "entropy.fill");
		cf_want(random[i] != 0, "its bytes");
	}
	cf_ring_off();
}

/* Submissions that earlier ones overwrite with the beginning of the boot information, whose flags are not zero. */
static void copies(void)
{
	struct pv_ring_setup setup = cf_ring_setup(0);
	const uint64_t next[6] = { pv_gpa(&ring->submissions[1]), sizeof(ring->submissions[0]) };
	const uint64_t self[6] = { pv_gpa(&ring->submissions[2]), sizeof(ring->submissions[0]) };

	cf_case("RING-6 RING-5 a submission is copied once, when its turn comes, and its flags are zero");
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring");
	cf_ring_add(ring, PV_CALL_BASE_BOOT_INFO, next, 100);
	cf_ring_add(ring, PV_CALL_BASE_VERSION, NULL, 101);
	cf_ring_add(ring, PV_CALL_BASE_BOOT_INFO, self, 102);
	cf_ring_add(ring, PV_CALL_BASE_VERSION, NULL, 103);
	ring->submissions[3].flags = 1;
	cf_ring_submit(ring, 0);
	cf_want(cf_ring_completed(ring, 4), "completed within two seconds");
	cf_expect(ring->completions[0].status, PV_STATUS_OK, "one that overwrites the next");
	cf_expect(ring->completions[1].status, PV_STATUS_INVALID, "the next, as it is then");
	cf_expect(ring->completions[2].status, PV_STATUS_OK, "one that overwrites itself");
	cf_expect((int64_t)ring->completions[2].cookie, 102, "its cookie, as it was");
	cf_expect(ring->completions[3].status, PV_STATUS_INVALID, "one with flags");
	cf_ring_off();
}

/* Submits at other moments than the host looks, until it has slept at least a few times. */
static void doorbells(void)
{
	struct pv_ring_setup setup = cf_ring_setup(0);
	uint32_t slept = 0, lost = 0;

	cf_case("RING-9 no submission is lost while the host goes to sleep");
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring");
	for (uint32_t round = 0; round < ROUNDS && !lost; round++) {
		/* about when the host may stop to look, and each eighth time until it has */
		bool asleep = round % 8 == 0;
		uint64_t end_ns = cf_now_ns() + (asleep ? 10000000ull : 3000ull * (round % 64));

		while (cf_now_ns() < end_ns && !(asleep && CF_LOAD(ring->control.doorbell_wanted)))
			cf_relax();
		slept += CF_LOAD(ring->control.doorbell_wanted) != 0;
		cf_ring_add(ring, PV_CALL_BASE_VERSION, NULL, round);
		cf_ring_submit(ring, 0);
		lost += !cf_ring_completed(ring, round + 1);
	}
	cf_expect(lost, 0, "submissions lost");
	cf_note("doorbells wanted: %u of %u", slept, ROUNDS);
	cf_case("RING-14 doorbells that nobody wanted, or for rings not in use, do nothing");
	for (uint32_t vcpu = 0; vcpu < 2 * PV_LIMIT_VCPUS; vcpu++)
		cf_ring_doorbell(vcpu);
	cf_ring_doorbell(0xffff);
	cf_expect(CF_LOAD(ring->control.completion_tail), ring->submitted, "completion_tail");
	cf_expect(CF_LOAD(ring->control.state), PV_RING_STATE_ON, "state");
	cf_ring_off();
	cf_ring_doorbell(0);
	cf_is(pv_call0(PV_CALL_BASE_VERSION).status, PV_STATUS_OK, "RING-14 CALL-12 the machine runs on");
}

static void events(void)
{
	struct pv_ring_setup setup = cf_ring_setup(0);
	uint32_t lost = 0;

	cf_case("RING-10 the channel is raised for the completion that completion_event names, and not before");
	if (!on_with_channel())
		return;
	CF_STORE(ring->control.completion_event, 2);
	for (uint32_t i = 0; i < 3; i++) {
		cf_ring_add(ring, PV_CALL_BASE_VERSION, NULL, i);
		cf_ring_submit(ring, 0);
		cf_want(cf_ring_completed(ring, i + 1), "completed within two seconds");
		if (i < 2)
			cf_want(!raised(), "not raised before that one");
	}
	cf_want(soon_raised(), "raised with that one");
	cf_ring_add(ring, PV_CALL_BASE_VERSION, NULL, 3);
	cf_ring_submit(ring, 0);
	cf_want(cf_ring_completed(ring, 4), "completed within two seconds");
	cf_wait_ns(CF_SECOND / 500);
	cf_want(!raised(), "not raised after it");
	cf_case("RING-10 no event is lost while the guest goes to sleep");
	for (uint32_t round = 4; round < ROUNDS && !lost; round++) {
		uint64_t end_ns = cf_now_ns() + CF_SECOND;

		cf_ring_add(ring, PV_CALL_BASE_VERSION, NULL, round);
		cf_ring_submit(ring, 0);
		for (uint32_t i = 0; i < round * 13 % 256; i++)
			cf_relax();
		__atomic_exchange_n(&ring->control.completion_event, round, __ATOMIC_SEQ_CST);
		while (CF_LOAD(ring->control.completion_tail) != round + 1 && cf_now_ns() < end_ns)
			if (cf_exists(PV_CALL_VCPU_BLOCK) && !raised())
				pv_call1(PV_CALL_VCPU_BLOCK, end_ns);
		lost += cf_now_ns() >= end_ns;
	}
	cf_expect(lost, 0, "events lost");
	cf_ring_off();
	raised();
	cf_case("RING-11 a ring with NO_CHANNEL raises nothing");
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring");
	CF_STORE(cf_page(0)->upcall_pending, 0);
	CF_STORE(ring->control.completion_event, 0);
	cf_ring_add(ring, PV_CALL_BASE_VERSION, NULL, 0);
	cf_ring_submit(ring, 0);
	cf_want(cf_ring_completed(ring, 1), "completed within two seconds");
	cf_wait_ns(CF_SECOND / 500);
	cf_expect(cf_page(0)->upcall_pending, 0, "upcall_pending");
	cf_ring_off();
}

/* Whether the host leaves the ring alone: nothing is completed, nothing is written. */
static void untouched(const char *what)
{
	struct pv_ring_control before = ring->control;

	memset(ring->completions, UNTOUCHED, sizeof(ring->completions));
	for (uint32_t i = 0; i < CF_RING_ENTRIES; i++)
		ring->submissions[i] = (struct pv_submission){ .call = PV_CALL_BASE_VERSION };
	before.submission_tail = before.completion_tail + 1;
	CF_STORE(ring->control.submission_tail, before.submission_tail);
	cf_ring_doorbell(0);
	cf_wait_ns(CF_SECOND / 200);
	cf_want(!memcmp(&before, &ring->control, sizeof(before)), what);
	cf_expect(ring->completions[0].status, 0x5555555555555555, what);
}

static void faults(void)
{
	static const uint32_t ahead[] = { CF_RING_ENTRIES + 1, 0x7fffffff, 0x80000000, 0xffffffff };
	struct pv_ring_setup setup = cf_ring_setup(0);

	cf_case("RING-8 a submission_tail too far ahead faults the ring, which is silent until it is set up anew");
	for (uint32_t i = 0; i < CF_COUNT(ahead); i++) {
		if (!on_with_channel())
			return;
		ring->control.completion_event = 77;
		ring->submitted = ahead[i];
		cf_ring_submit(ring, 0);
		cf_want(soon_raised(), "the channel is raised");
		cf_expect(CF_LOAD(ring->control.state), PV_RING_STATE_FAULT, "state");
		cf_expect(CF_LOAD(ring->control.completion_tail), 0, "completion_tail");
		untouched("the ring is touched no more");
		cf_expect(pv_call2(PV_CALL_BASE_RING, pv_gpa(&setup), 1).status, PV_STATUS_BAD_STATE, "base.ring");
		cf_expect(cf_ring_off(), PV_STATUS_OK, "out of use");
		cf_expect(CF_LOAD(ring->control.state), PV_RING_STATE_FAULT, "state, which says why");
	}
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "into use again");
	cf_expect(cf_ringed(PV_CALL_BASE_VERSION, (const uint64_t[6]){ 0 }).status, PV_STATUS_OK, "a call");
	cf_ring_off();
}

static void use_and_stop(void *argument)
{
	struct pv_ring_setup setup = cf_ring_setup(0); /* the ring that vCPU 0 looks at */

	*(int64_t *)argument = cf_ring_on(0, &setup);
}

static void ends(void)
{
	struct pv_ring_setup setup = cf_ring_setup(0);
	int64_t status = 1;

	cf_case("RING-12 a ring that is out of use is not touched");
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring");
	cf_ringed(PV_CALL_BASE_VERSION, (const uint64_t[6]){ 0 });
	cf_expect(cf_ring_off(), PV_STATUS_OK, "out of use");
	cf_expect(ring->control.state, PV_RING_STATE_OFF, "state");
	untouched("after base.ring");
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring");
	pv_call0(PV_CALL_BASE_RENEGOTIATE);
	cf_expect(ring->control.state, PV_RING_STATE_OFF, "state");
	untouched("after base.renegotiate");
	cf_callring_offered();
	cf_case("RING-12 nor after vcpu.stop of its vCPU");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	cf_expect(cf_start(1, use_and_stop, &status), PV_STATUS_OK, "vcpu.start");
	cf_want(cf_join(1), "it stops");
	cf_expect(status, PV_STATUS_OK, "base.ring of vCPU 1");
	cf_expect(CF_LOAD(ring->control.state), PV_RING_STATE_OFF, "state");
	untouched("after vcpu.stop");
}

static uint32_t stop_flood;

/* vCPU 1: keeps its ring full. */
static void flood(void *argument)
{
	struct pv_ring_setup setup = cf_ring_setup(1);
	struct cf_callring *own = &cf_callrings[1];

	*(int64_t *)argument = cf_ring_on(1, &setup);
	while (!CF_LOAD(stop_flood)) {
		while (own->submitted - CF_LOAD(own->control.completion_tail) < CF_RING_ENTRIES)
			cf_ring_add(own, PV_CALL_BASE_VERSION, NULL, 0);
		cf_ring_submit(own, 1);
	}
	pv_call2(PV_CALL_BASE_RING, 0, 0);
}

static void fairness(void)
{
	struct pv_ring_setup setup = cf_ring_setup(0);
	int64_t status = 1;
	uint64_t longest_ns = 0;

	cf_case("RING-13 a ring that is always full does not keep the others waiting");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	cf_expect(cf_ring_on(0, &setup), PV_STATUS_OK, "base.ring");
	cf_expect(cf_start(1, flood, &status), PV_STATUS_OK, "vcpu.start");
	for (uint32_t i = 0; i < 50; i++) {
		uint64_t began_ns = cf_now_ns();

		cf_expect(cf_ringed(PV_CALL_BASE_VERSION, (const uint64_t[6]){ 0 }).status, PV_STATUS_OK, "a call");
		longest_ns = cf_now_ns() - began_ns > longest_ns ? cf_now_ns() - began_ns : longest_ns;
	}
	CF_STORE(stop_flood, 1);
	cf_want(cf_join(1), "vCPU 1 stops");
	cf_expect(status, PV_STATUS_OK, "base.ring of vCPU 1");
	cf_want(longest_ns < CF_SECOND, "none waits for a second");
	cf_ring_off();
}

static void callring(void)
{
	if (!cf_callring_offered()) {
		cf_case("RING-1 RING-2 RING-3 RING-4 RING-5 RING-6 RING-8 RING-9 RING-10 RING-11 RING-12 RING-13 "
			"RING-14 call rings");
		cf_skip("the feature RING is not offered");
		return;
	}
	life();
	bad_setups();
	order();
	copies();
	doorbells();
	events();
	faults();
	ends();
	fairness();
	pv_call0(PV_CALL_BASE_RENEGOTIATE);
}

CF_CHAPTER(callring, callring);
