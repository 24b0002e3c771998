/* SPDX-License-Identifier: 0BSD
 *
 * The library's call rings on a real host: what a kernel would do with them, several vCPUs at once, asleep
 * and awake.  Reports as TAP.  What the host owes the standard is judged by conformance/callring.c.
 */
#include "paravirt/callring.h"
#include "paravirt/base.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/time.h"
#include "paravirt/vcpu.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0),
	   PV_NEED(PV_SERVICE_VCPU, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define ENTRIES 16u
#define CHANNEL 40u
#define VCPUS 2u
#define ROUNDS 100u

static struct memory {
	struct pv_submission submissions[ENTRIES] __attribute__((aligned(64)));
	struct pv_completion completions[ENTRIES] __attribute__((aligned(64)));
	struct pv_ring_control control __attribute__((aligned(64)));
	struct pv_callring ring;
	uint32_t wrong; /* completions that were not what they should be */
	uint32_t taken;
	uint32_t done;
} memory[VCPUS];

static const uint64_t no_args[PV_LIMIT_ARGUMENTS];

static struct pv_callring *prepared(uint32_t vcpu)
{
	struct memory *m = &memory[vcpu];

	m->ring = (struct pv_callring){
		.submissions = m->submissions,
		.completions = m->completions,
		.control = &m->control,
		.entries = ENTRIES,
	};
	return &m->ring;
}

static int64_t init(uint32_t vcpu, uint32_t channel)
{
	return pv_callring_init(prepared(vcpu), vcpu, channel, (uint16_t)pv_guest.boot.abi->doorbell);
}

/* All that fits, round and round: every second call is one that the ring does not carry. */
static void fill(struct memory *m)
{
	while (pv_callring_add(&m->ring, m->ring.added % 2 ? PV_CALL_VCPU_BLOCK : PV_CALL_BASE_VERSION, m->ring.added,
			       no_args))
		;
	pv_callring_publish(&m->ring);
}

static void empty(struct memory *m)
{
	struct pv_completion c;

	for (; pv_callring_take(&m->ring, &c); m->taken++)
		m->wrong += c.cookie != m->taken || c.status != (m->taken % 2 ? PV_STATUS_WRONG_ROAD : PV_STATUS_OK);
}

static void by_looking(struct pv_vcpu_page *page)
{
	struct memory *m = &memory[0];

	tap_is(pv_callring_init(prepared(0), 0, PV_RING_NO_CHANNEL, 0), PV_STATUS_NOT_SUPPORTED,
	       "CALL-3 no ring without its feature");
	struct pv_wish wish = { .service = PV_SERVICE_BASE, .needed = PV_BASE_FEATURE_RING };
	tap_is(pv_negotiate(&wish, 1), PV_STATUS_OK, "negotiate: the ring road");
	tap_is(init(0, PV_RING_NO_CHANNEL), PV_STATUS_OK, "init: a ring");
	struct pv_answer answer = pv_callring_call(&m->ring, PV_CALL_BASE_VERSION, no_args);
	tap_ok(answer.status == PV_STATUS_OK && answer.value == pv_version().value, "call: as by trap", answer.status);
	tap_is(pv_callring_deinit(&m->ring), PV_STATUS_OK, "deinit: out of use");
	tap_is(pv_callring_state(&m->ring), PV_RING_STATE_OFF, "RING-12 the host says so");

	tap_is(init(0, PV_RING_NO_CHANNEL), PV_STATUS_OK, "init: again");
	uint64_t exits = page->exits;
	while (m->taken < ROUNDS * ENTRIES) {
		fill(m);
		empty(m);
	}
	exits = page->exits - exits;
	while (pv_callring_ready(&m->ring) || m->taken != m->ring.published)
		empty(m);
	tap_is(m->wrong, 0, "RING-5 every completion in its order, round the ring");
	tap_ok(exits < ROUNDS * ENTRIES / 2, "RING-9 fewer exits than calls by far, if any", (int64_t)exits);
	pv_callring_deinit(&m->ring);
}

static void fault(void)
{
	struct pv_callring *ring = &memory[0].ring;

	tap_is(init(0, PV_RING_NO_CHANNEL), PV_STATUS_OK, "init: a ring to break");
	ring->added = ENTRIES + 1; /* more than there are */
	pv_callring_publish(ring);
	while (pv_callring_state(ring) == PV_RING_STATE_ON)
		pv_relax();
	tap_is(pv_callring_state(ring), PV_RING_STATE_FAULT, "RING-8 an index that runs away");
	ring->added = ring->published = ring->taken = 0;
	tap_is(pv_callring_call(ring, PV_CALL_BASE_VERSION, no_args).status, PV_STATUS_FAILED, "call: ends at a fault");
	tap_is(pv_callring_deinit(ring), PV_STATUS_OK, "deinit: after a fault");
}

static void noted(uint32_t channel, void *opaque)
{
	(void)channel, (void)opaque;
}

/* Sleeps until all of a full ring is completed, with the host asleep at the start of every fourth round. */
static void asleep(void *argument)
{
	struct memory *m = argument;
	struct pv_vcpu_page *page = pv_this_cpu()->page;

	pv_upcalls_on();
	if (init(page->index, CHANNEL) < 0)
		return;
	m->taken = m->wrong = 0;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint64_t end_ns = pv_now_ns() + 50000000;

		while (round % 4 == 0 && !__atomic_load_n(&m->control.doorbell_wanted, __ATOMIC_RELAXED) &&
		       pv_now_ns() < end_ns)
			pv_relax();
		fill(m);
		pv_event_hold(page);
		while (pv_callring_want(&m->ring, ENTRIES))
			pv_event_wait(page, PV_DEADLINE_NEVER);
		pv_event_release(page);
		empty(m);
	}
	pv_callring_deinit(&m->ring);
	__atomic_store_n(&m->done, 1, __ATOMIC_RELEASE);
}

static void by_events(void)
{
	pv_event_handle(CHANNEL, noted, NULL);
	if (pv_guest.cpus > 1)
		tap_is(pv_cpu_start(1, asleep, &memory[1]), PV_STATUS_OK, "vCPU 1 has a ring of its own");
	else
		tap_skip("vCPU 1 has a ring of its own", "one vCPU");
	asleep(&memory[0]);
	for (uint32_t i = 0; i < VCPUS && i < pv_guest.cpus; i++) {
		while (!__atomic_load_n(&memory[i].done, __ATOMIC_ACQUIRE))
			pv_relax();
		tap_is(memory[i].taken, ROUNDS * ENTRIES, "RING-10 no event was lost");
		tap_is(memory[i].wrong, 0, "RING-5 nor a completion wrong");
		tap_ok(memory[i].ring.doorbells > 0, "RING-9 the host slept and was woken",
		       (int64_t)memory[i].ring.doorbells);
	}
}

int pv_main(void)
{
	by_looking(pv_this_cpu()->page);
	fault();
	by_events();
	return tap_done();
}
