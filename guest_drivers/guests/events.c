/* SPDX-License-Identifier: 0BSD
 *
 * Events, time and vCPUs, as rules EVT, TIME and VCPU promise them.  Reports as TAP; with one vCPU the
 * checks that need a second are skipped.
 */
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/time.h"
#include "paravirt/vcpu.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0),
	   PV_NEED(PV_SERVICE_VCPU, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define CHANNEL PV_CHANNEL_FIRST_FREE
#define LAST_CHANNEL (PV_LIMIT_CHANNELS - 1)
#define ROUNDS 500u
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

static bool pending(const struct pv_vcpu_page *page, uint32_t channel)
{
	return __atomic_load_n(&page->pending[channel / 64], __ATOMIC_SEQ_CST) >> channel % 64 & 1;
}

/* Spins until the channel was handled so often, for at most a second. */
static bool soon(uint32_t channel, uint32_t times)
{
	uint64_t end_ns = pv_now_ns() + SECOND;

	while (handled(channel) < times && pv_now_ns() < end_ns)
		pv_relax();
	return handled(channel) >= times;
}

/* Before upcalls are on: the page alone. */
static void by_looking(struct pv_vcpu_page *page)
{
	tap_is(page->index, 0, "page: of vCPU 0");
	tap_is(page->state, PV_VCPU_STATE_RUNNING, "page: running");
	tap_is(pv_event_send(0, CHANNEL), PV_STATUS_OK, "send: to itself");
	tap_ok(pending(page, CHANNEL), "EVT-1 pending", 0);
	tap_is(page->upcall_pending, 1, "EVT-1 upcall_pending");
	tap_is(pv_vcpu_block(PV_DEADLINE_NEVER), PV_STATUS_OK, "VCPU-3 block returns at once");
	pv_event_hold(page);
	tap_is(pv_vcpu_block(PV_DEADLINE_NEVER), PV_STATUS_OK, "VCPU-3 whatever upcall_mask says");
	tap_ok(pv_event_poll(page) && handled(CHANNEL) == 1, "EVT-3 handled", handled(CHANNEL));
	tap_ok(!pending(page, CHANNEL) && !page->upcall_pending, "EVT-3 taken", 0);
	tap_ok(!pv_event_poll(page), "EVT-4 nothing pending", 0);

	pv_event_mask(page, CHANNEL);
	pv_event_send(0, CHANNEL);
	tap_ok(pending(page, CHANNEL) && !page->upcall_pending, "EVT-1 a masked channel does not wake", 0);
	tap_ok(!pv_event_poll(page), "EVT-5 nor is it handled", 0);
	pv_event_unmask(page, CHANNEL);
	pv_event_release(page);
	tap_is(handled(CHANNEL), 2, "EVT-5 nothing is lost by masking");

	pv_event_send(0, LAST_CHANNEL);
	pv_event_upcall(page);
	tap_is(handled(LAST_CHANNEL), 1, "send: the last channel");
	tap_is(pv_event_send(0, PV_LIMIT_CHANNELS), PV_STATUS_NOT_FOUND, "EVT-6 no such channel");
	tap_is(pv_event_send(pv_guest.cpus, CHANNEL), PV_STATUS_NOT_FOUND, "EVT-6 no such vCPU");
	tap_is(pv_call2(PV_CALL_EVENT_SEND, 1ull << 32, CHANNEL).status, PV_STATUS_NOT_FOUND, "EVT-6 above 32 bits");
}

static void vectors(void)
{
	static const uint64_t bad[] = { 1, 3, 31, 256, 1ull << 32, ~0ull };

	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		tap_is(pv_call1(PV_CALL_EVENT_UPCALL, bad[i]).status, PV_STATUS_INVALID, "upcall: no such vector");
	tap_is(pv_event_upcall_vector(PV_UPCALL_OFF), PV_STATUS_OK, "upcall: off");
}

static void by_upcall(struct pv_vcpu_page *page, uint32_t vector)
{
	uint32_t before = handled(CHANNEL), lost = 0;
	uint64_t upcalls = page->upcalls;

	if (!tap_is(pv_upcalls_by(vector), PV_STATUS_OK, vector == PV_UPCALL_NMI ? "upcall: NMI" : "upcall: vector"))
		return;
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		pv_event_send(0, CHANNEL);
		lost += !soon(CHANNEL, before + i);
		if (lost)
			break;
	}
	tap_is(lost, 0, "EVT-1 an upcall for each of many events");
	tap_is((int64_t)(page->upcalls - upcalls), ROUNDS, "page: counts upcalls");

	before = handled(CHANNEL);
	pv_event_hold(page);
	pv_event_send(0, CHANNEL);
	uint64_t end_ns = pv_now_ns() + SECOND / 100;
	while (pv_now_ns() < end_ns)
		pv_relax();
	tap_is(handled(CHANNEL), before, "EVT-1 none while upcall_mask is set");
	pv_event_release(page);
	tap_is(handled(CHANNEL), before + 1, "EVT-3 handled at the release");
}

static void clocks(void)
{
	uint64_t last = pv_now_ns(), back = 0;

	for (uint32_t i = 0; i < 20000; i++) {
		uint64_t now = pv_now_ns();

		back += now < last;
		last = now;
	}
	tap_is((int64_t)back, 0, "TIME-1 never back");
	tap_ok(pv_wall_ns() > 1700000000 * SECOND, "time: the wall clock is of this century", (int64_t)pv_wall_ns());
	tap_ok(time_page->shift <= 63 && !(time_page->sequence & 1), "time: the page is in order", time_page->shift);
}

static void deadlines(struct pv_vcpu_page *page)
{
	uint32_t before = handled(PV_CHANNEL_DEADLINE);
	uint64_t due_ns = pv_now_ns() + SECOND / 200, woke_ns;

	tap_is(page->deadline_ns == PV_DEADLINE_NEVER, 1, "page: no deadline");
	tap_is(pv_time_deadline(due_ns), PV_STATUS_OK, "deadline: armed");
	tap_ok(page->deadline_ns == due_ns || handled(PV_CHANNEL_DEADLINE) > before, "page: the deadline", 0);
	bool came = soon(PV_CHANNEL_DEADLINE, before + 1);
	woke_ns = pv_now_ns();
	tap_ok(came && woke_ns >= due_ns, "TIME-2 it comes, and not early", (int64_t)(woke_ns - due_ns));
	tap_is(page->deadline_ns == PV_DEADLINE_NEVER, 1, "TIME-2 then it is disarmed");

	/* The first must not come before it is replaced, on a busy host either. */
	pv_time_deadline(pv_now_ns() + SECOND / 10);
	due_ns = pv_now_ns() + SECOND / 7;
	pv_time_deadline(due_ns);
	came = soon(PV_CHANNEL_DEADLINE, before + 2);
	tap_ok(came && pv_now_ns() >= due_ns, "TIME-3 the later call counts", 0);
	pv_time_deadline(1);
	tap_ok(soon(PV_CHANNEL_DEADLINE, before + 3), "deadline: one that has passed is due", 0);
	pv_time_deadline(pv_now_ns() + SECOND / 10);
	pv_time_deadline(PV_DEADLINE_NEVER);

	due_ns = pv_now_ns() + SECOND / 7;
	pv_hold();
	pv_time_sleep(page, time_page, due_ns);
	pv_release();
	woke_ns = pv_now_ns();
	tap_ok(woke_ns >= due_ns && woke_ns < due_ns + SECOND, "block: sleeps until a deadline",
	       (int64_t)(woke_ns - due_ns));
	tap_is(handled(PV_CHANNEL_DEADLINE), before + 3, "deadline: NEVER disarms");
	tap_is(pv_vcpu_block(0), PV_STATUS_OK, "block: a deadline that has passed");
}

static void bad_starts(void)
{
	static uint8_t stack[64] __attribute__((aligned(16)));
	uint64_t entry = (uint64_t)(uintptr_t)pv_main, top = pv_gpa(stack) + 64;
	uint32_t other = pv_guest.cpus - 1; /* with one vCPU the running one; arguments are judged first */

	tap_is(pv_call4(PV_CALL_VCPU_START, pv_guest.cpus, entry, top, 0).status, PV_STATUS_NOT_FOUND,
	       "start: no such vCPU");
	tap_is(pv_call4(PV_CALL_VCPU_START, 1ull << 32, entry, top, 0).status, PV_STATUS_NOT_FOUND,
	       "start: index above 32 bits");
	tap_is(pv_call4(PV_CALL_VCPU_START, 0, entry, top, 0).status, PV_STATUS_BAD_STATE, "VCPU-1 one that runs");
	tap_is(pv_call4(PV_CALL_VCPU_START, other, entry, top + 8, 0).status, PV_STATUS_UNALIGNED, "VCPU-2 stack");
	tap_is(pv_call4(PV_CALL_VCPU_START, other, 1ull << 52, top, 0).status, PV_STATUS_BAD_ADDRESS, "VCPU-2 entry");
	tap_is(pv_call4(PV_CALL_VCPU_START, other, entry, 1ull << 52, 0).status, PV_STATUS_BAD_ADDRESS,
	       "VCPU-2 no memory for a stack");
	tap_is(pv_vcpu_state(pv_guest.cpus).status, PV_STATUS_NOT_FOUND, "state: no such vCPU");
	tap_is((int64_t)pv_vcpu_state(0).value, PV_VCPU_STATE_RUNNING, "state: running");
	tap_is(pv_vcpu_yield(), PV_STATUS_OK, "yield");
	tap_is(pv_vcpu_fault_address().status, PV_STATUS_OK, "fault_address: may be asked for");
}

static uint64_t times_ns[2]; /* clock readings that two vCPUs order by turns */
static uint32_t turn, backwards;

/* vCPU 1: reads the clock and sends an event, in turns with vCPU 0. */
static void partner(void *argument)
{
	const uint32_t *rounds = argument;

	for (uint32_t i = 0; i < *rounds; i++) {
		while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) != 2 * i + 1)
			pv_relax();
		times_ns[1] = pv_now_ns();
		backwards += times_ns[1] < times_ns[0];
		__atomic_store_n(&turn, 2 * i + 2, __ATOMIC_SEQ_CST);
		pv_event_send(0, CHANNEL + 1);
	}
}

static void between_vcpus(void)
{
	static uint32_t rounds = ROUNDS;

	tap_is((int64_t)pv_vcpu_state(1).value, PV_VCPU_STATE_STOPPED, "state: stopped");
	tap_is(pv_cpu_start(1, partner, &rounds), PV_STATUS_OK, "start: vCPU 1");
	for (uint32_t i = 0; i < rounds; i++) {
		times_ns[0] = pv_now_ns();
		backwards += times_ns[0] < times_ns[1];
		__atomic_store_n(&turn, 2 * i + 1, __ATOMIC_SEQ_CST);
		/* Blocked, the way that could lose a wake-up: the event may come before, between and after. */
		pv_hold();
		while (handled(CHANNEL + 1) <= i)
			pv_idle(PV_DEADLINE_NEVER);
		pv_release();
	}
	tap_is(handled(CHANNEL + 1), rounds, "EVT-2 each event of another vCPU wakes");
	tap_is(backwards, 0, "TIME-1 nor back between vCPUs that order their reads");
	uint64_t end_ns = pv_now_ns() + SECOND;
	while (pv_vcpu_state(1).value != PV_VCPU_STATE_STOPPED && pv_now_ns() < end_ns)
		pv_vcpu_yield();
	tap_is((int64_t)pv_vcpu_state(1).value, PV_VCPU_STATE_STOPPED, "stop: stopped");
	turn = 0;
	rounds = 1;
	tap_is(pv_cpu_start(1, partner, &rounds), PV_STATUS_OK, "start: again");
	__atomic_store_n(&turn, 1, __ATOMIC_SEQ_CST);
	tap_ok(soon(CHANNEL + 1, ROUNDS + 1), "start: it runs again", handled(CHANNEL + 1));
}

int pv_main(void)
{
	struct pv_vcpu_page *page = pv_this_cpu()->page;

	if (!pv_guest.paravirt)
		return 2;
	time_page = pv_at(pv_guest.boot.pages->time_gpa);
	for (uint32_t channel = 0; channel < PV_LIMIT_CHANNELS; channel++)
		pv_event_handle(channel, count, NULL);
	by_looking(page);
	vectors();
	if (pv_guest.boot.tables) /* entered by the ABI, hence with interrupts on (BOOT-1) */
		by_upcall(page, PV_UPCALL_VECTOR);
	by_upcall(page, PV_UPCALL_NMI);
	clocks();
	deadlines(page);
	bad_starts();
	if (pv_guest.cpus > 1)
		between_vcpus();
	else
		tap_skip("EVT-2 events of another vCPU", "one vCPU");
	return tap_done();
}
