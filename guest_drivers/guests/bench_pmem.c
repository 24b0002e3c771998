/* SPDX-License-Identifier: 0BSD
 *
 * Reads the mapped disk `disk` as bench_block reads a block device: random pieces, copied into a buffer.  What is read
 * next is known, as it is in a queue, and asked for before.  Words of the command line: bytes=N requests=N.  It tells
 * the same line:
 *	bench: requests=N bytes=N ns=N median_ns=N p99_ns=N exits=N
 */
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/pmem.h"
#include "paravirt/time.h"
#include "sort.h"
#include "words.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_TIME, 0), PV_NEED(PV_SERVICE_DEVICE, 0),
	   PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("disk", PV_DEVICE_TYPE_PMEM, PV_DEVICE_FLAG_READ_ONLY));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define SECTOR_BYTES 512u
#define PREFETCH_BYTES 4096u /* the beginning of a longer one; the CPU goes on by itself */

static struct pv_pmem disk;
static struct pv_virtio device;

static void need(int64_t status, const char *what)
{
	if (status >= 0)
		return;
	pv_print("bench: %s (%s)\n", what, pv_status_name(status));
	pv_exit(1);
}

/* Marsaglia's, 64 bits. */
static uint64_t next_random(uint64_t place)
{
	place ^= place << 13;
	place ^= place >> 7;
	return place ^ place << 17;
}

static void run(uint64_t requests, uint32_t bytes, void *buffer, uint64_t *ticks)
{
	uint64_t sectors = bytes / SECTOR_BYTES, places = disk.size_bytes / bytes, place = 0x9e3779b97f4a7c15u;

	for (uint64_t i = 0; i < requests; i++) {
		uint64_t before = pv_counter(), next = next_random(place);

		pv_pmem_prefetch(&disk, next % places * sectors, bytes < PREFETCH_BYTES ? bytes : PREFETCH_BYTES);
		need(pv_pmem_read(&disk, place % places * sectors, buffer, bytes), "a read failed");
		place = next;
		if (ticks)
			ticks[i] = pv_counter() - before;
	}
}

int pv_main(void)
{
	uint64_t requests = word_number("requests", 1000000, 4000000, 1);
	uint32_t bytes = (uint32_t)word_number("bytes", 4096, 4u << 20, 1) & ~(SECTOR_BYTES - 1);
	uint64_t *ticks = pv_take(requests * sizeof(*ticks), 64);
	void *buffer = pv_take(bytes, 4096);

	need(ticks && buffer && bytes ? PV_STATUS_OK : PV_STATUS_NO_MEMORY, "give it more memory, and whole sectors");
	need(pv_device(&device, PV_DEVICE_TYPE_PMEM, "disk"), "there is no mapped disk");
	need(pv_pmem_init(&disk, &device), "the disk does not work");
	need(disk.size_bytes >= bytes ? PV_STATUS_OK : PV_STATUS_INVALID, "the disk is smaller than one request");
	run(requests, bytes, buffer, NULL); /* touches every page once, as far as chance has it */
	uint64_t exits = pv_this_cpu()->page->exits, counter = pv_counter(), begin_ns = pv_now_ns();
	run(requests, bytes, buffer, ticks);
	uint64_t ns = pv_now_ns() - begin_ns, per_ms = (pv_counter() - counter) * 1000000 / ns;

	sort(ticks, requests);
	pv_print("bench: requests=%lu bytes=%lu ns=%lu median_ns=%lu p99_ns=%lu exits=%lu\n", requests,
		 requests * bytes, ns, ticks[requests / 2] * 1000000 / per_ms,
		 ticks[requests - requests / 100 - 1] * 1000000 / per_ms, pv_this_cpu()->page->exits - exits);
	return 0;
}
