/* SPDX-License-Identifier: 0BSD
 *
 * What the calls do when they are used well, and what they say of arguments that only they can judge:
 * services base, console, memory, system, entropy and trace.  Reports as TAP.  hostile.c has the rules
 * that hold for every call, events.c and devices.c the other services.
 */
#include "paravirt/base.h"
#include "paravirt/console.h"
#include "paravirt/entropy.h"
#include "paravirt/guest.h"
#include "paravirt/memory.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "paravirt/system.h"
#include "paravirt/trace.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_MEMORY, 0), PV_NEED(PV_SERVICE_SYSTEM, 0),
	   PV_NEED(PV_SERVICE_ENTROPY, 0), PV_NEED(PV_SERVICE_TRACE, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define PAGE 4096

static struct pv_submission submissions[PV_LIMIT_BATCH_ENTRIES] __attribute__((aligned(64)));
static struct pv_completion completions[PV_LIMIT_BATCH_ENTRIES] __attribute__((aligned(32)));
static uint8_t pages[4 * PAGE] __attribute__((aligned(PAGE)));

static void base(void)
{
	struct pv_service_info table[3] = { 0 };
	const struct pv_boot_info *info = pv_at(pv_gpa(pv_guest.boot.abi) & ~(uint64_t)(PAGE - 1));
	static uint8_t copy[PV_LIMIT_BOOT_INFO_BYTES] __attribute__((aligned(8)));
	struct pv_answer answer = pv_version();

	tap_is((int64_t)answer.value, (int64_t)PV_ABI_MAJOR << 32 | PV_ABI_MINOR, "BASE-1 version");
	answer = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(table), 2 * sizeof(table[0]) + 8);
	tap_is((int64_t)answer.value, 2 * sizeof(table[0]), "BASE-4 whole records only");
	tap_is(table[0].service, PV_SERVICE_BASE, "BASE-4 the service base is the first");
	answer = pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(table), sizeof(table[0]) - 1);
	tap_is((int64_t)answer.value, 0, "BASE-4 no room for a record");
	answer = pv_call2(PV_CALL_BASE_BOOT_INFO, pv_gpa(copy), sizeof(copy));
	tap_is((int64_t)answer.value, info->size_bytes, "boot_info: all of it");
	tap_ok(!memcmp(copy, info, info->size_bytes), "boot_info: as in memory", 0);
	memset(copy, 0xee, 64);
	answer = pv_call2(PV_CALL_BASE_BOOT_INFO, pv_gpa(copy), 16);
	tap_ok(answer.value == 16 && !memcmp(copy, info, 16), "boot_info: its beginning", (int64_t)answer.value);
	tap_is(pv_limit(PV_LIMIT_ID_BATCH_ENTRIES).status, PV_STATUS_OK, "limit: known");
	tap_ok(pv_limit(PV_LIMIT_ID_BATCH_ENTRIES).value >= PV_LIMIT_BATCH_ENTRIES, "limit: at least the standard's",
	       0);
	tap_is(pv_limit(4000).status, PV_STATUS_NOT_FOUND, "limit: unknown");
}

static void negotiation(void)
{
	struct pv_wish wish = { .service = PV_SERVICE_TRACE };
	struct pv_wish missing = { .service = 77 }, optional = { .service = 77, .optional = 1 };
	struct pv_wish impossible = { .service = PV_SERVICE_TRACE, .needed = 1ull << 63 };

	tap_is(pv_call2(PV_CALL_BASE_ACCEPT, 77, 0).status, PV_STATUS_NOT_FOUND, "accept: no such service");
	tap_is(pv_call2(PV_CALL_BASE_ACCEPT, PV_SERVICE_TRACE, 1ull << 63).status, PV_STATUS_INVALID,
	       "BASE-2 a feature not offered");
	tap_is(pv_negotiate(&wish, 1), PV_STATUS_OK, "negotiate: agreed");
	tap_is(wish.calls, 7, "negotiate: three functions of trace exist");
	tap_is(pv_negotiate(&wish, 1), PV_STATUS_OK, "BASE-3 the same set again");
	tap_is(pv_negotiate(&missing, 1), PV_STATUS_NOT_SUPPORTED, "negotiate: a service is missing");
	tap_is(pv_negotiate(&optional, 1), PV_STATUS_OK, "negotiate: an optional one may be");
	tap_is(pv_negotiate(&impossible, 1), PV_STATUS_NOT_SUPPORTED, "negotiate: a feature is missing");
	pv_call2(PV_CALL_BASE_ACCEPT, PV_SERVICE_BASE, 0);
	struct pv_service_info info;
	pv_call2(PV_CALL_BASE_SERVICES, pv_gpa(&info), sizeof(info));
	if (info.offered)
		tap_is(pv_call2(PV_CALL_BASE_ACCEPT, PV_SERVICE_BASE, info.offered).status, PV_STATUS_BAD_STATE,
		       "BASE-3 another set");
	else
		tap_skip("BASE-3 another set", "the service offers no features");
}

static void batch(void)
{
	const uint64_t none[PV_LIMIT_ARGUMENTS] = { 0 }, extra[PV_LIMIT_ARGUMENTS] = { 1 };
	struct pv_batch calls;
	bool ordered = true;

	pv_batch_init(&calls, submissions, completions, PV_LIMIT_BATCH_ENTRIES);
	for (uint64_t i = 0; i < PV_LIMIT_BATCH_ENTRIES; i++)
		pv_batch_add(&calls, i == 7 ? 0xdead0000 : PV_CALL_BASE_VERSION, ~i, i == 9 ? extra : none);
	tap_ok(!pv_batch_add(&calls, PV_CALL_BASE_VERSION, 0, none), "batch: full", 0);
	submissions[11].flags = 1;
	memset(completions, 0xee, sizeof(completions));
	tap_is(pv_batch_run(&calls), PV_STATUS_OK, "batch: as many as the limit");
	for (uint64_t i = 0; i < PV_LIMIT_BATCH_ENTRIES; i++)
		ordered &= completions[i].cookie == ~i;
	tap_ok(ordered, "BATCH-2 a completion for each, in order", 0);
	tap_is((int64_t)completions[255].value, (int64_t)PV_ABI_MAJOR << 32 | PV_ABI_MINOR, "BATCH-2 its value");
	tap_is(completions[7].status, PV_STATUS_NOT_SUPPORTED, "BATCH-2 an unknown call");
	tap_is(completions[8].status, PV_STATUS_OK, "BATCH-2 goes on after a refused one");
	tap_is(completions[9].status, PV_STATUS_INVALID, "CALL-5 in a batch");
	tap_is(completions[11].status, PV_STATUS_INVALID, "BATCH-3 flags");
	tap_is(completions[0].reserved0[0], 0, "batch: padding is zero");
	tap_is(pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions), 2, pv_gpa(completions), 3).status, PV_STATUS_INVALID,
	       "BATCH-1 counts differ");
	tap_is(pv_call4(PV_CALL_BASE_BATCH, pv_gpa(submissions), 0, pv_gpa(completions), 0).status, PV_STATUS_OK,
	       "batch: empty");
}

static void console(void)
{
	static const char line[] = "# a line by console.write\n";
	struct pv_answer answer = pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(line), sizeof(line) - 1);

	tap_is((int64_t)answer.value, sizeof(line) - 1, "CON-1 takes all bytes");
	answer = pv_console_read((char *)pages, 64);
	tap_ok(answer.status == PV_STATUS_OK && answer.value <= 64, "CON-3 read does not wait", answer.status);
}

static void memory(void)
{
	struct pv_memory_range ranges[2] = { { pv_gpa(pages), PAGE }, { pv_gpa(pages) + 2 * PAGE, PAGE } };
	struct pv_answer answer;

	memset(pages, 0x55, sizeof(pages));
	answer = pv_memory_populate(ranges, 2);
	tap_ok(answer.status == PV_STATUS_OK && answer.value == 2 && pages[0] == 0x55, "populate: keeps the contents",
	       answer.status);
	answer = pv_memory_discard(ranges, 2);
	tap_ok(answer.status == PV_STATUS_OK && answer.value == 2, "discard: both ranges", answer.status);
	tap_ok(!pages[0] && !pages[PAGE - 1] && !pages[2 * PAGE] && !pages[3 * PAGE - 1], "MEM-3 reads as zero", 0);
	tap_ok(pages[PAGE] == 0x55 && pages[3 * PAGE] == 0x55, "MEM-3 and nothing else does", 0);

	memset(pages, 0x55, sizeof(pages));
	ranges[1].gpa = 1ull << 52;
	tap_is(pv_memory_discard(ranges, 2).status, PV_STATUS_BAD_ADDRESS, "discard: no memory there");
	ranges[1] = (struct pv_memory_range){ ~0ull - PAGE + 1, 2 * PAGE };
	tap_is(pv_memory_discard(ranges, 2).status, PV_STATUS_BAD_ADDRESS, "discard: wraps");
	ranges[1] = (struct pv_memory_range){ pv_gpa(pages) + 2 * PAGE + 8, PAGE };
	tap_is(pv_memory_discard(ranges, 2).status, PV_STATUS_UNALIGNED, "MEM-2 address");
	ranges[1] = (struct pv_memory_range){ pv_gpa(pages) + 2 * PAGE, PAGE - 8 };
	tap_is(pv_memory_populate(ranges, 2).status, PV_STATUS_UNALIGNED, "MEM-2 size");
	tap_ok(pages[0] == 0x55, "MEM-1 a refused call touches nothing", pages[0]);
}

static void others(void)
{
	static uint8_t first[PV_LIMIT_ENTROPY_BYTES], second[PV_LIMIT_ENTROPY_BYTES];
	int64_t status = pv_entropy_fill(first, sizeof(first));

	tap_is(status, PV_STATUS_OK, "ENT-1 fills as much as the limit");
	status = pv_entropy_fill(second, sizeof(second) - 1);
	tap_ok(status == PV_STATUS_OK && !second[sizeof(second) - 1], "ENT-1 and no more than asked", status);
	tap_ok(memcmp(first, second, 32), "ENT-1 never the same", 0);

	tap_is(pv_system_shutdown(3, 0), PV_STATUS_INVALID, "SYS-1 no such reason");
	tap_is(pv_system_shutdown(0xffffffff, 0), PV_STATUS_INVALID, "SYS-1 huge reason");
	tap_is(pv_call2(PV_CALL_SYSTEM_SHUTDOWN, 1ull << 32, 0).status, PV_STATUS_INVALID,
	       "SYS-1 reason above 32 bits");
	tap_is(pv_system_watchdog(3600000000000), PV_STATUS_OK, "watchdog: armed");
	tap_is(pv_system_watchdog(~0ull), PV_STATUS_OK, "watchdog: a time-out that never comes");
	tap_is(pv_system_watchdog(0), PV_STATUS_OK, "watchdog: disarmed");

	tap_is(pv_trace_begin("a span"), PV_STATUS_OK, "trace: begin");
	tap_is(pv_trace_mark("a mark", 42), PV_STATUS_OK, "trace: mark");
	tap_is(pv_trace_end(), PV_STATUS_OK, "trace: end");
	tap_is(pv_trace_end(), PV_STATUS_OK, "TRC-2 an end too many is the host's to bear");
}

int pv_main(void)
{
	if (!pv_guest.paravirt)
		return 2;
	base();
	negotiation();
	batch();
	console();
	memory();
	others();
	return tap_done();
}
