/* SPDX-License-Identifier: 0BSD
 *
 * Chapter memory: populate and discard, and the features that a host may offer besides.
 */
#include "paravirt/string.h"
#include "support/conformance.h"

#define PAGES 8u
#define FILL 0x5a

static uint8_t *pages; /* PAGES of them */
static struct pv_memory_range ranges[PV_LIMIT_MEMORY_RANGES];

static struct pv_memory_range range(uint32_t first, uint32_t count)
{
	return (struct pv_memory_range){ pv_gpa(pages) + first * CF_PAGE, (uint64_t)count * CF_PAGE };
}

/* A call over ranges, and again with the rest where the host stopped (MEM-6). */
static struct pv_answer over(uint32_t call, uint64_t count)
{
	struct pv_answer answer = { PV_STATUS_CONTINUE, 0 };
	uint64_t done = 0;

	while (answer.status == PV_STATUS_CONTINUE) {
		answer = pv_call2(call, pv_gpa(ranges + done), count - done);
		if (answer.status < 0)
			break;
		if (answer.value > count - done || (answer.status == PV_STATUS_CONTINUE && !answer.value)) {
			cf_want(false, "at least one range and at most all are done");
			break;
		}
		done += answer.value;
	}
	return (struct pv_answer){ answer.status, done };
}

/* Which of the pages hold FILL all over (a bit each), the others being zero; or all ones. */
static uint32_t filled(void)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < PAGES; i++) {
		uint8_t first = pages[i * CF_PAGE];

		for (uint32_t at = 0; at < CF_PAGE; at += cf_user() ? 1 : 63)
			if (pages[i * CF_PAGE + at] != first)
				return ~0u;
		if (first && first != FILL)
			return ~0u;
		found |= first ? 1u << i : 0;
	}
	return found;
}

static void fill(void)
{
	memset(pages, FILL, PAGES * CF_PAGE);
}

static void populate(void)
{
	cf_case("MEM-6 memory.populate keeps contents");
	fill();
	ranges[0] = range(0, 2);
	ranges[1] = range(4, 2);
	struct pv_answer answer = over(PV_CALL_MEMORY_POPULATE, 2);
	cf_expect(answer.status, PV_STATUS_OK, "status");
	cf_expect((int64_t)answer.value, 2, "ranges done");
	cf_expect(filled(), (1 << PAGES) - 1, "pages that hold what was written");
}

static void discard(void)
{
	struct pv_answer answer;

	cf_case("MEM-3 memory.discard: those pages read as zero and no others");
	fill();
	ranges[0] = range(0, 1);
	ranges[1] = range(3, 2);
	answer = over(PV_CALL_MEMORY_DISCARD, 2);
	cf_expect(answer.status, PV_STATUS_OK, "status");
	cf_expect((int64_t)answer.value, 2, "ranges done");
	cf_expect(filled(), 0xe6, "pages that hold what was written, a bit each");
	fill();
	cf_expect(filled(), (1 << PAGES) - 1, "pages that can be written again");
	cf_case("MEM-4 ranges of one call may overlap");
	ranges[0] = range(1, 3);
	ranges[1] = range(2, 3);
	ranges[2] = range(1, 3);
	answer = over(PV_CALL_MEMORY_DISCARD, 3);
	cf_expect(answer.status, PV_STATUS_OK, "status");
	cf_expect((int64_t)answer.value, 3, "ranges done");
	cf_expect(filled(), 0xe1, "pages that hold what was written, a bit each");
	cf_expect(over(PV_CALL_MEMORY_POPULATE, 3).status, PV_STATUS_OK, "status of memory.populate");
	cf_case("MEM-6 as many ranges as the limit");
	fill();
	for (uint32_t i = 0; i < PV_LIMIT_MEMORY_RANGES; i++)
		ranges[i] = range(i % 2, 1);
	answer = over(PV_CALL_MEMORY_DISCARD, PV_LIMIT_MEMORY_RANGES);
	cf_expect(answer.status, PV_STATUS_OK, "status");
	cf_expect((int64_t)answer.value, PV_LIMIT_MEMORY_RANGES, "ranges done");
	cf_expect(filled(), 0xfc, "pages that hold what was written, a bit each");
}

/* Two entries of the map that touch each other are one range to calls. */
static void over_two_entries(void)
{
	const struct pv_boot_memory *entry = cf_boot.memory, *last = entry + cf_boot.memory_count - 1;

	cf_case("DATA-5 a range that goes from one entry of the memory map into the next");
	while (entry < last && entry->gpa + entry->size_bytes != entry[1].gpa)
		entry++;
	if (entry == last) {
		cf_skip("no entries touch each other");
		return;
	}
	ranges[0] = (struct pv_memory_range){ entry[1].gpa - CF_PAGE, 2ull * CF_PAGE };
	cf_expect(over(PV_CALL_MEMORY_POPULATE, 1).status, PV_STATUS_OK, "status of memory.populate");
}

/* The first range is good, the second is not: nothing is touched. */
static void bad(uint32_t call, uint64_t gpa, uint64_t size_bytes, int64_t status, const char *what)
{
	ranges[0] = range(0, 1);
	ranges[1] = (struct pv_memory_range){ gpa, size_bytes };
	cf_expect(over(call, 2).status, status, what);
}

static void refused(uint32_t call, const char *name)
{
	const struct pv_boot_memory *last = &cf_boot.memory[cf_boot.memory_count - 1];
	const uint64_t at = pv_gpa(pages) + 2 * CF_PAGE;

	fill();
	cf_case("MEM-2 %s: ranges that are no whole pages", name);
	bad(call, at + 8, CF_PAGE, PV_STATUS_UNALIGNED, "an address");
	bad(call, at, CF_PAGE - 8, PV_STATUS_UNALIGNED, "a size");
	bad(call, at, 8, PV_STATUS_UNALIGNED, "a small size");
	bad(call, CF_NOWHERE + 8, CF_PAGE, PV_STATUS_UNALIGNED, "alignment before the address");
	cf_case("MEM-2 %s: a range of length zero", name);
	ranges[0] = (struct pv_memory_range){ at, 0 };
	cf_expect(over(call, 1).status, PV_STATUS_OK, "status");
	cf_expect(filled(), (1 << PAGES) - 1, "pages that hold what was written");
	cf_case("MEM-1 CALL-10 %s: a range that is not in memory, and none is touched", name);
	bad(call, CF_NOWHERE, CF_PAGE, PV_STATUS_BAD_ADDRESS, "nowhere");
	bad(call, ~0ull - CF_PAGE + 1, 2 * CF_PAGE, PV_STATUS_BAD_ADDRESS, "one that wraps");
	bad(call, last->gpa + last->size_bytes - CF_PAGE, 2 * CF_PAGE, PV_STATUS_BAD_ADDRESS, "one over the end");
	ranges[0] = range(0, 1);
	ranges[1] = (struct pv_memory_range){ CF_NOWHERE, CF_PAGE };
	ranges[2] = (struct pv_memory_range){ at + 8, CF_PAGE };
	cf_expect(over(call, 3).status, PV_STATUS_BAD_ADDRESS, "ranges are checked one after the other");
	cf_expect(filled(), (1 << PAGES) - 1, "pages that hold what was written");
	cf_case("MEM-5 %s: more than MEMORY_BYTES together", name);
	uint64_t most = pv_call1(PV_CALL_BASE_LIMIT, PV_LIMIT_ID_MEMORY_BYTES).value;
	bad(call, CF_NOWHERE + 8, most, PV_STATUS_LIMIT, "before alignment and address");
	bad(call, at, ~0ull - CF_PAGE + 1, PV_STATUS_LIMIT, "a sum that wraps");
	cf_expect(filled(), (1 << PAGES) - 1, "pages that hold what was written");
}

/* The pages hold what they held or nothing, and then what is written to them (MEM-8). */
static void kept_or_gone(uint32_t given)
{
	uint32_t found = filled(), others = ((1u << PAGES) - 1) & ~given;

	cf_expect(found & others, others, "pages beside that hold what was written, a bit each");
	cf_want(!(found & ~(others | given)), "the pages read as they were or as zero");
	fill();
	cf_expect(filled(), (1 << PAGES) - 1, "pages that can be written again");
}

static void balloon(void)
{
	struct pv_answer target = pv_call0(PV_CALL_MEMORY_TARGET);

	cf_case("MEM-6 memory.inflate and deflate, if BALLOON is accepted");
	cf_expect(target.status, PV_STATUS_OK, "target");
	cf_expect(over(PV_CALL_MEMORY_INFLATE, 1).status, PV_STATUS_OK, "inflate");
	cf_expect(over(PV_CALL_MEMORY_DEFLATE, 1).status, PV_STATUS_OK, "deflate");
	cf_case("MEM-8 what was in the balloon");
	kept_or_gone(0x30);
	refused(PV_CALL_MEMORY_INFLATE, "memory.inflate");
	refused(PV_CALL_MEMORY_DEFLATE, "memory.deflate");
}

static void reporting(void)
{
	fill();
	cf_case("MEM-6 memory.report, if FREE_PAGE_REPORTING is accepted");
	ranges[0] = range(4, 2);
	cf_expect(over(PV_CALL_MEMORY_REPORT, 1).status, PV_STATUS_OK, "report");
	cf_case("MEM-8 what was reported");
	kept_or_gone(0x30);
	refused(PV_CALL_MEMORY_REPORT, "memory.report");
}

static void features(void)
{
	uint64_t accepted =
		cf_accept(PV_SERVICE_MEMORY, PV_MEMORY_FEATURE_BALLOON | PV_MEMORY_FEATURE_FREE_PAGE_REPORTING);

	fill();
	ranges[0] = range(4, 2);
	if (accepted & PV_MEMORY_FEATURE_BALLOON) {
		balloon();
	} else {
		cf_case("CALL-3 memory.inflate, not accepted");
		cf_expect(over(PV_CALL_MEMORY_INFLATE, 1).status, PV_STATUS_NOT_SUPPORTED, "status");
	}
	if (accepted & PV_MEMORY_FEATURE_FREE_PAGE_REPORTING) {
		reporting();
	} else {
		cf_case("CALL-3 memory.report, not accepted");
		cf_expect(over(PV_CALL_MEMORY_REPORT, 1).status, PV_STATUS_NOT_SUPPORTED, "status");
	}
}

static void memory(void)
{
	if (!cf_offered(PV_SERVICE_MEMORY)) {
		cf_case("DATA-5 MEM-1 MEM-2 MEM-3 MEM-4 MEM-5 MEM-6 MEM-8 memory");
		cf_skip("service memory is not offered");
		return;
	}
	pages = cf_take(PAGES * CF_PAGE, CF_PAGE);
	if (!pages) {
		cf_case("MEM-3 memory");
		cf_skip("too little memory");
		return;
	}
	populate();
	discard();
	over_two_entries();
	refused(PV_CALL_MEMORY_POPULATE, "memory.populate");
	refused(PV_CALL_MEMORY_DISCARD, "memory.discard");
	features();
}

CF_CHAPTER(memory, memory);
