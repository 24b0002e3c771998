/* SPDX-License-Identifier: 0BSD
 *
 * The library and the runtime on a machine: negotiation, batches, events by looking and by upcall, sleeping,
 * further vCPUs.  Reports as TAP.  Drivers of devices are devices.c's; the host is judged by conformance/.
 */
#include "paravirt/base.h"
#include "paravirt/console.h"
#include "paravirt/entropy.h"
#include "paravirt/guest.h"
#include "paravirt/lock.h"
#include "paravirt/memory.h"
#include "paravirt/notes.h"
#include "paravirt/system.h"
#include "paravirt/time.h"
#include "paravirt/trace.h"
#include "paravirt/vcpu.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0),
	   PV_NEED(PV_SERVICE_VCPU, 0), PV_NEED(PV_SERVICE_SYSTEM, 0), PV_NEED(PV_SERVICE_TRACE, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define CHANNEL PV_CHANNEL_FIRST_FREE
#define LAST_CHANNEL (PV_LIMIT_CHANNELS - 1)
#define ROUNDS 200u
#define ADDITIONS 20000u
#define SECOND 1000000000ull

static uint32_t seen[PV_LIMIT_CHANNELS]; /* events handled, by channel */
static const struct pv_time_page *time_page;

static void count(uint32_t channel, void *opaque)
{
	(void)opaque;
	__atomic_fetch_add(&seen[channel], 1, __ATOMIC_SEQ_CST);
}

static uint32_t handled(uint32_t channel)
{
	return __atomic_load_n(&seen[channel], __ATOMIC_SEQ_CST);
}

/* Spins until the channel was handled so often, for at most a second. */
static bool soon(uint32_t channel, uint32_t times)
{
	uint64_t end_ns = pv_now_ns() + SECOND;

	while (handled(channel) < times && pv_now_ns() < end_ns)
		pv_relax();
	return handled(channel) >= times;
}

/* By call and through the page, in turn. */
static int64_t raise(struct pv_vcpu_page *page, uint32_t channel, uint32_t i)
{
	return i % 2 ? pv_event_ring(page, channel, (uint16_t)pv_guest.boot.abi->doorbell)
		     : pv_event_send(page->index, channel);
}

static void negotiation(void)
{
	struct pv_wish event = { .service = PV_SERVICE_EVENT,
				 .needed = PV_EVENT_FEATURE_DOORBELL | PV_EVENT_FEATURE_EOI };
	struct pv_wish wish = { .service = PV_SERVICE_TRACE };
	struct pv_wish missing = { .service = 77 }, optional = { .service = 77, .optional = 1 };
	struct pv_wish impossible = { .service = PV_SERVICE_TRACE, .needed = 1ull << 63 };

	tap_is(pv_negotiate(&wish, 1), PV_STATUS_OK, "negotiate: agreed");
	tap_is(wish.calls, 7, "negotiate: three functions of trace exist");
	tap_is(pv_negotiate(&wish, 1), PV_STATUS_OK, "negotiate: the same again");
	tap_is(pv_negotiate(&missing, 1), PV_STATUS_NOT_SUPPORTED, "negotiate: a service is missing");
	tap_is(pv_negotiate(&optional, 1), PV_STATUS_OK, "negotiate: an optional one may be");
	tap_is(pv_negotiate(&impossible, 1), PV_STATUS_NOT_SUPPORTED, "negotiate: a feature is missing");
	tap_is(pv_negotiate(&event, 1), PV_STATUS_OK, "negotiate: the doorbell of events");
}

static void batch(void)
{
	static struct pv_submission submissions[PV_LIMIT_BATCH_ENTRIES] __attribute__((aligned(64)));
	static struct pv_completion completions[PV_LIMIT_BATCH_ENTRIES] __attribute__((aligned(32)));
	const uint64_t none[PV_LIMIT_ARGUMENTS] = { 0 };
	struct pv_batch calls;
	bool ordered = true;

	pv_batch_init(&calls, submissions, completions, PV_LIMIT_BATCH_ENTRIES);
	for (uint64_t i = 0; i < PV_LIMIT_BATCH_ENTRIES; i++)
		pv_batch_add(&calls, PV_CALL_BASE_VERSION, ~i, none);
	tap_ok(!pv_batch_add(&calls, PV_CALL_BASE_VERSION, 0, none), "batch: full", 0);
	tap_is(pv_batch_run(&calls), PV_STATUS_OK, "batch: as many as the limit");
	for (uint64_t i = 0; i < PV_LIMIT_BATCH_ENTRIES; i++)
		ordered &= completions[i].cookie == ~i;
	tap_ok(ordered, "batch: a completion for each", 0);
}

/* The wrappers hand on what they are given, each in its place. */
static void wrappers(void)
{
	static uint8_t bytes[64], pages[2 * 4096] __attribute__((aligned(4096)));
	const struct pv_memory_range range = { pv_gpa(pages), sizeof(pages) };
	char line[8];

	tap_is((int64_t)pv_version().value, (int64_t)PV_ABI_MAJOR << 32 | PV_ABI_MINOR, "version");
	tap_is((int64_t)pv_limit(PV_LIMIT_ID_CHANNELS).value, PV_LIMIT_CHANNELS, "limit");
	tap_ok(pv_console_read(line, sizeof(line)).value <= sizeof(line), "console: read", 0);
	if (pv_entropy_fill(bytes, sizeof(bytes)) == PV_STATUS_OK)
		tap_ok(bytes[0] | bytes[1] | bytes[62] | bytes[63], "entropy: fill", 0);
	pages[0] = 1;
	if (pv_memory_populate(&range, 1).value == 1 && pv_memory_discard(&range, 1).value == 1)
		tap_is(pages[0], 0, "memory: populate and discard");
	tap_is(pv_trace_begin("a span"), PV_STATUS_OK, "trace: begin");
	tap_is(pv_trace_mark("a mark", 42), PV_STATUS_OK, "trace: mark");
	tap_is(pv_trace_end(), PV_STATUS_OK, "trace: end");
	tap_is(pv_system_watchdog(3600 * SECOND), PV_STATUS_OK, "watchdog: armed");
	tap_is(pv_system_watchdog(0), PV_STATUS_OK, "watchdog: disarmed");
	tap_is(pv_vcpu_yield(PV_YIELD_NOBODY).status, PV_STATUS_OK, "yield");
	tap_is((int64_t)pv_vcpu_state(0).value, PV_VCPU_STATE_RUNNING, "state");
}

/* Before upcalls are on: the page alone. */
static void by_looking(struct pv_vcpu_page *page)
{
	tap_is(pv_event_send(0, CHANNEL), PV_STATUS_OK, "send: to itself");
	pv_event_hold(page);
	tap_ok(pv_event_poll(page) && handled(CHANNEL) == 1, "poll: handled", handled(CHANNEL));
	tap_ok(!pv_event_poll(page), "poll: nothing is left", 0);
	pv_event_mask(page, CHANNEL);
	pv_event_send(0, CHANNEL);
	tap_ok(!pv_event_poll(page), "mask: not handled", 0);
	pv_event_unmask(page, CHANNEL);
	pv_event_release(page);
	tap_is(handled(CHANNEL), 2, "unmask: nothing is lost");
	pv_event_send(0, LAST_CHANNEL);
	pv_event_upcall(page);
	tap_is(handled(LAST_CHANNEL), 1, "upcall: the last channel");
	tap_is(raise(page, LAST_CHANNEL + 1, 1), PV_STATUS_NOT_FOUND, "ring: a channel that is none");
}

static void by_upcall(struct pv_vcpu_page *page, uint32_t vector)
{
	uint32_t before = handled(CHANNEL), lost = 0;

	if (!tap_is(pv_upcalls_by(vector), PV_STATUS_OK, vector == PV_UPCALL_NMI ? "upcalls: NMI" : "upcalls: vector"))
		return;
	for (uint32_t i = 1; i <= ROUNDS && !lost; i++) {
		raise(page, CHANNEL, i);
		lost += !soon(CHANNEL, before + i);
	}
	tap_is(lost, 0, "upcalls: each of many events is handled");
	before = handled(CHANNEL);
	pv_event_hold(page);
	pv_event_send(0, CHANNEL);
	tap_is(handled(CHANNEL), before, "hold: none is handled");
	pv_event_release(page);
	tap_is(handled(CHANNEL), before + 1, "release: it is");
}

static void sleeping(struct pv_vcpu_page *page)
{
	uint32_t before = handled(PV_CHANNEL_DEADLINE);
	uint64_t due_ns = pv_now_ns() + SECOND / 20;

	tap_ok(pv_wall_ns() > 1700000000 * SECOND, "clock: of this century", (int64_t)pv_wall_ns());
	pv_hold();
	pv_time_sleep(page, time_page, due_ns);
	pv_release();
	tap_ok(pv_now_ns() >= due_ns, "sleep: long enough", (int64_t)(pv_now_ns() - due_ns));
	pv_time_deadline(pv_now_ns() + SECOND / 100);
	tap_ok(soon(PV_CHANNEL_DEADLINE, before + 1), "deadline: handled", 0);
}

static uint32_t turn;
static struct pv_vcpu_page *first; /* vCPU 0's page */

/* vCPU 1: an event for vCPU 0 in each turn. */
static void partner(void *argument)
{
	const uint32_t *rounds = argument;

	for (uint32_t i = 1; i <= *rounds; i++) {
		while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) != i)
			pv_relax();
		raise(first, CHANNEL + 1, i);
	}
}

/* Until the function of vCPU 1 has returned. */
static void await_stop(void)
{
	uint64_t end_ns = pv_now_ns() + 10 * SECOND;

	while (pv_vcpu_yield(1).value != PV_VCPU_STATE_STOPPED && pv_now_ns() < end_ns)
		;
}

static void between_vcpus(void)
{
	static uint32_t rounds = ROUNDS;

	first = pv_this_cpu()->page;
	tap_is(pv_cpu_start(1, partner, &rounds), PV_STATUS_OK, "start: vCPU 1");
	for (uint32_t i = 1; i <= rounds; i++) {
		__atomic_store_n(&turn, i, __ATOMIC_SEQ_CST);
		/* Blocked, the way that could lose a wake-up: the event may come before, between and after. */
		pv_hold();
		while (handled(CHANNEL + 1) < i)
			pv_idle(PV_DEADLINE_NEVER);
		pv_release();
	}
	tap_is(handled(CHANNEL + 1), rounds, "idle: each event of another vCPU wakes");
	await_stop();
	turn = 0;
	rounds = 1;
	tap_is(pv_cpu_start(1, partner, &rounds), PV_STATUS_OK, "start: again, after its function returned");
	__atomic_store_n(&turn, 1, __ATOMIC_SEQ_CST);
	tap_ok(soon(CHANNEL + 1, ROUNDS + 1), "start: it runs again", handled(CHANNEL + 1));
}

static struct pv_lock lock;
static volatile uint32_t sum; /* not atomic: the lock's */

static void add(void *argument)
{
	(void)argument;
	for (uint32_t i = 0; i < ADDITIONS; i++) {
		pv_lock(&lock, pv_this_cpu()->index);
		sum = sum + 1;
		pv_unlock(&lock);
	}
}

static void exclusion(void)
{
	await_stop();
	tap_is(pv_cpu_start(1, add, NULL), PV_STATUS_OK, "lock: vCPU 1 takes it");
	add(NULL);
	await_stop();
	tap_is(sum, 2 * ADDITIONS, "lock: one at a time");
}

int pv_main(void)
{
	struct pv_vcpu_page *page = pv_this_cpu()->page;

	if (!pv_guest.paravirt)
		return 2;
	time_page = pv_at(pv_guest.boot.pages->time_gpa);
	for (uint32_t channel = 0; channel < PV_LIMIT_CHANNELS; channel++)
		pv_event_handle(channel, count, NULL);
	negotiation();
	batch();
	wrappers();
	by_looking(page);
	if (pv_guest.boot.tables) /* entered by the ABI, hence with interrupts on (BOOT-1) */
		by_upcall(page, PV_UPCALL_VECTOR);
	by_upcall(page, PV_UPCALL_NMI);
	sleeping(page);
	if (pv_guest.cpus > 1) {
		between_vcpus();
		exclusion();
	} else {
		tap_skip("idle: events of another vCPU", "one vCPU");
	}
	return tap_done();
}
