// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a virtio-balloon device does with its chains: lists of pages that go and come, and reports of free pages.
 * Queues, statistics and the wish are paravirt/devices/balloon.py's.
 *
 * A list is read in pieces, each copied once.  It names no more pages than the guest has, which bounds what one chain
 * costs; the machine's end cuts it short.
 */
#include "balloon.h"
#include "tables.h"

#define PIECE 512u

/* Pages of one piece that lie side by side, from `at` on. */
static uint64_t run_of(const uint32_t *pages, uint64_t at, uint64_t count)
{
	uint64_t length = 1;

	while (at + length < count && pages[at + length] == (uint64_t)pages[at] + length)
		length++;
	return length;
}

/* False: a page is not the guest's; those before it were done. */
static bool move(const struct pv_memory *memory, const uint32_t *pages, uint64_t count, bool in)
{
	for (uint64_t at = 0, length; at < count; at += length) {
		length = run_of(pages, at, count);
		uint64_t gpa = (uint64_t)pages[at] * PV_PAGE_BYTES, size_bytes = length * PV_PAGE_BYTES;

		if (!pv_memory_at(memory, gpa, size_bytes))
			return false;
		/* Of a page that the host cannot take back nothing is lost. */
		if (in)
			pv_memory_discard(memory, gpa, size_bytes);
	}
	return true;
}

const char *pv_balloon_move(struct pv_machine *machine, const struct pv_chain *chain, bool in, uint64_t *moved_bytes)
{
	uint64_t size_bytes = chain->readable_bytes, most = pv_memory_bytes(&machine->memory) / PV_PAGE_BYTES;
	uint32_t pages[PIECE];

	*moved_bytes = 0;
	if (size_bytes % sizeof(pages[0]) || size_bytes / sizeof(pages[0]) > most)
		return "BAL-1";
	for (uint64_t at = 0, got; at < size_bytes && !__atomic_load_n(&machine->ending, __ATOMIC_RELAXED); at += got) {
		got = pv_chain_read(chain, at, pages, sizeof(pages));
		if (!move(&machine->memory, pages, got / sizeof(pages[0]), in))
			return "BAL-1";
		*moved_bytes += got / sizeof(pages[0]) * PV_PAGE_BYTES;
	}
	pv_memory_moved(machine, in ? *moved_bytes : 0, in ? 0 : *moved_bytes);
	return NULL;
}

void pv_balloon_report(struct pv_machine *machine, const struct pv_chain *chain)
{
	uint64_t bytes = 0;

	/* Writable segments stand behind the readable ones; of parts of pages the other part may be in use. */
	for (uint32_t i = 0; i < chain->writable; i++) {
		const struct iovec *s = &chain->segments[chain->readable + i];
		uintptr_t from = ((uintptr_t)s->iov_base + PV_PAGE_BYTES - 1) & ~(uintptr_t)(PV_PAGE_BYTES - 1);
		uintptr_t to = ((uintptr_t)s->iov_base + s->iov_len) & ~(uintptr_t)(PV_PAGE_BYTES - 1);

		if (from < to && pv_memory_discard_at(&machine->memory, (void *)from, to - from) == 0)
			bytes += to - from;
	}
	__atomic_fetch_add(&machine->reported_bytes, bytes, __ATOMIC_RELAXED);
}
