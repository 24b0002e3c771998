/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The parts of the guest library that make calls, on a host that is a switch statement: batches that stop
 * early, limits, negotiation, events and the clock.  What only a real host can show is tested by guests.
 */
#include <string.h>

#include "check.h"
#include "paravirt/base.h"
#include "paravirt/console.h"
#include "paravirt/entropy.h"
#include "paravirt/event.h"
#include "paravirt/time.h"
#include "paravirt/vcpu.h"

static struct {
	struct pv_submission submissions[8] __attribute__((aligned(64)));
	struct pv_completion completions[8] __attribute__((aligned(32)));
	uint32_t per_trap; /* calls of a batch that one trap completes */
	uint32_t traps;
	uint64_t bytes; /* written to the console, or of entropy */
	uint64_t refuse_after; /* bytes */
	struct pv_service_info services[3];
	struct pv_vcpu_page page;
	uint32_t raise; /* a channel that becomes pending while the vCPU blocks */
} host;

static void raise_channel(uint32_t channel)
{
	host.page.pending[channel / 64] |= 1ull << channel % 64;
	if (!(host.page.mask[channel / 64] >> channel % 64 & 1))
		host.page.upcall_pending = 1; /* EVT-1 */
}

static struct pv_answer batch(uint64_t submissions_gpa, uint64_t count, uint64_t completions_gpa)
{
	const struct pv_submission *submissions = pv_at(submissions_gpa);
	struct pv_completion *completions = pv_at(completions_gpa);
	uint64_t done = count < host.per_trap ? count : host.per_trap;

	CHECK(submissions_gpa % 64 == 0 && completions_gpa % 32 == 0);
	for (uint64_t i = 0; i < done; i++)
		completions[i] =
			(struct pv_completion){ .cookie = submissions[i].cookie, .value = submissions[i].args[0] };
	return (struct pv_answer){ done < count ? PV_STATUS_CONTINUE : PV_STATUS_OK, done };
}

static struct pv_answer transfer(uint64_t size_bytes, uint64_t limit)
{
	CHECK(size_bytes && size_bytes <= limit);
	if (host.bytes + size_bytes > host.refuse_after)
		return (struct pv_answer){ PV_STATUS_QUOTA, 0 };
	host.bytes += size_bytes;
	return (struct pv_answer){ PV_STATUS_OK, size_bytes };
}

struct pv_answer pv_call(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	host.traps++;
	CHECK(!a4 && !a5);
	switch (id) {
	case PV_CALL_BASE_VERSION:
		return (struct pv_answer){ PV_STATUS_OK, (uint64_t)PV_ABI_MAJOR << 32 };
	case PV_CALL_BASE_SERVICES:
		CHECK(a1 >= sizeof(host.services));
		memcpy(pv_at(a0), host.services, sizeof(host.services));
		return (struct pv_answer){ PV_STATUS_OK, sizeof(host.services) };
	case PV_CALL_BASE_ACCEPT:
		for (int i = 0; i < 3; i++)
			if (host.services[i].service == a0)
				host.services[i].accepted = a1;
		return (struct pv_answer){ PV_STATUS_OK, a1 };
	case PV_CALL_BASE_BATCH:
		CHECK(a1 == a3);
		return batch(a0, a1, a2);
	case PV_CALL_CONSOLE_WRITE:
		return transfer(a1, PV_LIMIT_CONSOLE_BYTES);
	case PV_CALL_ENTROPY_FILL:
		return transfer(a1, PV_LIMIT_ENTROPY_BYTES);
	case PV_CALL_VCPU_BLOCK:
		CHECK(!host.page.upcall_pending); /* else the driver need not have asked */
		raise_channel(host.raise);
		return (struct pv_answer){ PV_STATUS_OK, 0 };
	default:
		return (struct pv_answer){ PV_STATUS_NOT_SUPPORTED, 0 };
	}
}

static void check_batches(void)
{
	struct pv_batch calls;

	for (host.per_trap = 1; host.per_trap <= 8; host.per_trap++) {
		pv_batch_init(&calls, host.submissions, host.completions, 8);
		memset(host.completions, 0xee, sizeof(host.completions));
		for (uint64_t i = 0; i < 8; i++)
			CHECK(pv_batch_add(&calls, PV_CALL_BASE_VERSION, 100 + i, (uint64_t[6]){ i }));
		CHECK(!pv_batch_add(&calls, PV_CALL_BASE_VERSION, 0, (uint64_t[6]){ 0 }));
		host.traps = 0;
		CHECK(pv_batch_run(&calls) == PV_STATUS_OK && calls.count == 0);
		CHECK(host.traps == (8 + host.per_trap - 1) / host.per_trap);
		for (uint64_t i = 0; i < 8; i++)
			CHECK(host.completions[i].cookie == 100 + i && host.completions[i].value == i);
	}
	host.per_trap = 0; /* no progress: not for ever */
	pv_batch_add(&calls, PV_CALL_BASE_VERSION, 0, (uint64_t[6]){ 0 });
	CHECK(pv_batch_run(&calls) == PV_STATUS_FAILED);
	CHECK(pv_batch_run(&calls) == PV_STATUS_OK); /* nothing in it */
	pv_batch_init(&calls, host.submissions, host.completions, 100000);
	CHECK(calls.size == PV_LIMIT_BATCH_ENTRIES);
}

static void check_limits(void)
{
	static char text[3 * PV_LIMIT_CONSOLE_BYTES + 5];

	host.refuse_after = sizeof(text);
	CHECK(pv_console_write(text, sizeof(text)) == PV_STATUS_OK && host.bytes == sizeof(text));
	CHECK(pv_console_write(text, 1) == PV_STATUS_QUOTA);
	CHECK(pv_console_write(text, 0) == PV_STATUS_OK);
	host.bytes = 0;
	CHECK(pv_entropy_fill(text, 1000) == PV_STATUS_OK && host.bytes == 1000);
}

static void check_negotiation(void)
{
	struct pv_wish wishes[2] = { { .service = 5, .needed = 1, .wanted = 6 }, { .service = 9, .optional = 1 } };

	host.services[0] = (struct pv_service_info){ .service = 1, .calls = 1 };
	host.services[1] = (struct pv_service_info){ .service = 5, .calls = 0x3f, .offered = 3 };
	CHECK(pv_negotiate(wishes, 2) == PV_STATUS_OK);
	CHECK(wishes[0].accepted == 3 && wishes[0].calls == 0x3f && host.services[1].accepted == 3);
	CHECK(!wishes[1].accepted && !wishes[1].calls);
	wishes[0].needed = 4;
	CHECK(pv_negotiate(wishes, 2) == PV_STATUS_NOT_SUPPORTED);
	wishes[1].optional = 0;
	CHECK(pv_negotiate(wishes + 1, 1) == PV_STATUS_NOT_SUPPORTED);
}

static uint32_t seen[PV_LIMIT_CHANNELS];

static void on_event(uint32_t channel, void *opaque)
{
	CHECK(opaque == seen);
	seen[channel]++;
	if (channel == 40 && seen[channel] < 3)
		raise_channel(40); /* arrives while events are handled */
}

static void check_events(void)
{
	struct pv_vcpu_page *page = &host.page;

	for (uint32_t channel = 0; channel < PV_LIMIT_CHANNELS; channel++)
		pv_event_handle(channel, on_event, seen);
	raise_channel(0), raise_channel(63), raise_channel(64), raise_channel(255);
	pv_event_upcall(page);
	CHECK(seen[0] == 1 && seen[63] == 1 && seen[64] == 1 && seen[255] == 1);
	CHECK(!page->upcall_pending && !page->upcall_mask);

	raise_channel(40); /* EVT-3: what comes meanwhile is handled before the upcall ends */
	pv_event_upcall(page);
	CHECK(seen[40] == 3 && !page->upcall_pending && !page->upcall_mask);

	pv_event_hold(page);
	raise_channel(5);
	pv_event_upcall(page); /* sent before the hold, delivered after: left for the release */
	CHECK(!seen[5] && page->upcall_mask && page->upcall_pending);
	pv_event_release(page);
	CHECK(seen[5] == 1 && !page->upcall_mask);

	pv_event_hold(page);
	host.raise = 77;
	host.traps = 0;
	pv_event_wait(page, PV_DEADLINE_NEVER);
	CHECK(seen[77] == 1 && host.traps == 1);
	raise_channel(78);
	pv_event_wait(page, PV_DEADLINE_NEVER); /* what is there already needs no call */
	CHECK(seen[78] == 1 && host.traps == 1);

	pv_event_mask(page, 99); /* unmasked while upcalls are held: for the next wait */
	raise_channel(99);
	CHECK(!pv_event_poll(page) && !seen[99]);
	pv_event_unmask(page, 99);
	pv_event_wait(page, PV_DEADLINE_NEVER);
	CHECK(seen[99] == 1 && host.traps == 1);
	pv_event_release(page);
	pv_event_mask(page, 99);
	raise_channel(99);
	pv_event_unmask(page, 99); /* and at once where they are not */
	CHECK(seen[99] == 2);
}

static void check_clock(void)
{
	struct pv_time_page page = { .base_ns = 5000, .wall_offset_ns = 1ull << 60, .multiplier = 1, .shift = 0 };

	CHECK(pv_time_monotonic(&page) == 5000 && pv_time_wall(&page) == (1ull << 60) + 5000); /* no COUNTER */
	page.flags = (uint32_t)PV_TIME_FLAG_COUNTER;
	page.base_counter = ~0ull; /* TIME-4: a counter that is behind */
	CHECK(pv_time_monotonic(&page) == 5000);
	page.base_counter = 0;
	uint64_t before = pv_counter(), now = pv_time_monotonic(&page), after = pv_counter();
	CHECK(before + 5000 <= now && now <= after + 5000);
	page.multiplier = 0xffffffff; /* the product has more than 64 bits */
	page.shift = 63;
	before = (uint64_t)((unsigned __int128)pv_counter() * 0xffffffff >> 63);
	now = pv_time_monotonic(&page);
	after = (uint64_t)((unsigned __int128)pv_counter() * 0xffffffff >> 63);
	CHECK(before + 5000 <= now && now <= after + 5000);
}

int main(void)
{
	check_batches();
	check_limits();
	check_negotiation();
	check_events();
	check_clock();
	return 0;
}
