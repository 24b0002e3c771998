/* SPDX-License-Identifier: 0BSD
 *
 * What a call costs, seen from the guest.  Each figure is one line of JSON:
 *	{"bench": "calls", "figure": "trap", "calls": C, "count": N, "median_ticks": T, "p99_ticks": T, "hz": F, "exits": E}
 * ticks are of the CPU's counter, for C calls together; hz is its frequency by the host's clock; exits are those of
 * all N rounds, doorbells included.
 */
#include "paravirt/base.h"
#include "paravirt/callring.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/time.h"
#include "paravirt/vcpu.h"
#include "sort.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_TIME, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define TRAPS 100000u
#define BATCHES 2000u
#define RINGS 10000u
#define RING_ENTRIES 64u

static struct pv_submission submissions[PV_LIMIT_BATCH_ENTRIES] __attribute__((aligned(64)));
static struct pv_completion completions[PV_LIMIT_BATCH_ENTRIES] __attribute__((aligned(32)));

static uint64_t counter_hz(void)
{
	uint64_t ns = pv_now_ns(), ticks = pv_counter(), passed_ns;

	do
		passed_ns = pv_now_ns() - ns;
	while (passed_ns < 20000000);
	return (pv_counter() - ticks) * 1000000000u / passed_ns; /* some 1e8 ticks: no overflow */
}

static void say(const char *figure, uint32_t size, uint64_t *ticks, uint32_t count, uint64_t hz, uint64_t exits)
{
	sort(ticks, count);
	pv_print("{\"bench\": \"calls\", \"figure\": \"%s\", \"calls\": %u, \"count\": %u, \"median_ticks\": %lu, "
		 "\"p99_ticks\": %lu, \"hz\": %lu, \"exits\": %lu}\n",
		 figure, size, count, ticks[count / 2], ticks[count - count / 100 - 1], hz, exits);
}

static uint64_t exits(void)
{
	return __atomic_load_n(&pv_this_cpu()->page->exits, __ATOMIC_RELAXED);
}

static void traps(uint64_t *ticks, uint64_t hz)
{
	uint64_t exits_before = exits();

	for (uint32_t i = 0; i < TRAPS; i++) {
		uint64_t before = pv_counter();

		pv_version();
		ticks[i] = pv_counter() - before;
	}
	say("trap", 1, ticks, TRAPS, hz, exits() - exits_before);
}

/* ticks of a whole batch of `size` calls */
static void batches(uint64_t *ticks, uint64_t hz, uint32_t size, const char *figure)
{
	static const uint64_t no_args[PV_LIMIT_ARGUMENTS];
	struct pv_batch batch;
	uint64_t exits_before = exits();

	pv_batch_init(&batch, submissions, completions, size);
	for (uint32_t i = 0; i < BATCHES; i++) {
		while (pv_batch_add(&batch, PV_CALL_BASE_VERSION, i, no_args))
			;
		uint64_t before = pv_counter();
		int64_t status = pv_batch_run(&batch);
		ticks[i] = pv_counter() - before;
		if (status < 0)
			pv_panic("a batch was refused: %ld", status);
	}
	say(figure, size, ticks, BATCHES, hz, exits() - exits_before);
}

/* ticks of `size` calls over the ring, submitted together and all taken back */
static void rings(struct pv_callring *ring, uint64_t *ticks, uint64_t hz, uint32_t size, const char *figure)
{
	static const uint64_t no_args[PV_LIMIT_ARGUMENTS];
	struct pv_completion completion;
	uint64_t exits_before = exits() + ring->doorbells;

	for (uint32_t i = 0; i < RINGS; i++) {
		uint64_t before = pv_counter();

		for (uint32_t n = 0; n < size; n++)
			pv_callring_add(ring, PV_CALL_BASE_VERSION, n, no_args);
		pv_callring_publish(ring);
		for (uint32_t n = 0; n < size; n++) {
			while (!pv_callring_take(ring, &completion))
				pv_relax();
			if (completion.status != PV_STATUS_OK || completion.cookie != n)
				pv_panic("call %u of %u over the ring: status %ld", n, size, completion.status);
		}
		ticks[i] = pv_counter() - before;
	}
	say(figure, size, ticks, RINGS, hz, exits() + ring->doorbells - exits_before);
}

/* Where the host has the ring road. */
static void all_rings(uint64_t *ticks, uint64_t hz)
{
	static struct pv_ring_control control __attribute__((aligned(64)));
	struct pv_wish wish = { .service = PV_SERVICE_BASE, .wanted = PV_BASE_FEATURE_RING };
	struct pv_callring ring = {
		.submissions = submissions,
		.completions = completions,
		.control = &control,
		.entries = RING_ENTRIES,
	};

	if (pv_negotiate(&wish, 1) < 0 || !wish.accepted)
		return;
	if (pv_callring_init(&ring, 0, PV_RING_NO_CHANNEL, (uint16_t)pv_guest.boot.abi->doorbell) < 0)
		pv_panic("the ring was refused");
	rings(&ring, ticks, hz, 32, "ring batch 32");
	rings(&ring, ticks, hz, 1, "ring depth 1");
}

int pv_main(void)
{
	uint64_t *ticks = pv_take(TRAPS * sizeof(*ticks), 64);

	if (!pv_guest.paravirt || !ticks)
		return 1;
	uint64_t hz = counter_hz();
	traps(ticks, hz);
	batches(ticks, hz, 1, "batch 1");
	batches(ticks, hz, 32, "batch 32");
	batches(ticks, hz, PV_LIMIT_BATCH_ENTRIES, "batch 256");
	all_rings(ticks, hz);
	return 0;
}
