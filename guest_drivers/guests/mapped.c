/* SPDX-License-Identifier: 0BSD
 *
 * Mapped disks through the driver: `data`, whose contents are lost, and `fixed`, which is read-only; one of them at
 * least.  Reports as TAP; or does the one thing that the command line names (see `ways`).
 */
#include "paravirt/entropy.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/storage.h"
#include "paravirt/string.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("data", PV_DEVICE_TYPE_PMEM, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("fixed", PV_DEVICE_TYPE_PMEM, PV_DEVICE_FLAG_READ_ONLY | PV_DEVICE_FLAG_OPTIONAL));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define PAGE_BYTES 4096u
#define SECTORS 8u
#define BYTES (SECTORS * PV_SECTOR_BYTES)

static struct pv_pmem data, fixed;
static struct pv_virtio data_device, fixed_device;
static uint8_t buffer[BYTES], copy[BYTES];

/* Where names are not known the first disk will do. */
static bool open_disk(struct pv_pmem *pmem, struct pv_virtio *device, const char *name)
{
	return pv_device(device, PV_DEVICE_TYPE_PMEM, name) >= 0 && pv_pmem_init(pmem, device) >= 0;
}

static struct pv_pmem *any(void)
{
	return data.data ? &data : &fixed;
}

/* Over virtio-mmio nobody says which that is. */
static struct pv_pmem *any_read_only(void)
{
	return fixed.data ? &fixed : &data;
}

static volatile uint8_t *page_of(const struct pv_pmem *pmem, uint64_t page)
{
	return pmem->data + page * PAGE_BYTES;
}

/* ---- the test ---- */

static void region(const struct pv_pmem *pmem)
{
	uint64_t start = pv_gpa(pmem->data), end = start + pmem->size_bytes;
	const struct pv_boot *boot = &pv_guest.boot;
	uint64_t overlaps = 0;

	tap_is((int64_t)(start % 0x200000), 0, "region: begins at 2 MiB");
	tap_is((int64_t)(pmem->size_bytes % PAGE_BYTES), 0, "region: whole pages");
	for (uint32_t i = 0; i < boot->memory_count; i++)
		overlaps += boot->memory[i].gpa < end && start < boot->memory[i].gpa + boot->memory[i].size_bytes;
	tap_is((int64_t)overlaps, 0, "region: not in the memory map");
	tap_is(pv_call2(PV_CALL_ENTROPY_FILL, start, 8).status, PV_STATUS_BAD_ADDRESS, "region: no buffer of a call");
	(void)*page_of(pmem, pmem->size_bytes / PAGE_BYTES - 1);
}

static void through_storage(struct pv_pmem *pmem)
{
	struct pv_storage storage;

	pv_storage_of_pmem(&storage, pmem);
	uint64_t last = storage.capacity_sectors - SECTORS;
	for (uint32_t i = 0; i < BYTES; i++)
		buffer[i] = (uint8_t)(i * 7 + i / 256);
	tap_is(pv_storage_write(&storage, last, buffer, BYTES), PV_STATUS_OK, "storage: write");
	tap_is(pv_storage_flush(&storage), PV_STATUS_OK, "storage: flush");
	tap_is(pv_storage_read(&storage, last, copy, BYTES), PV_STATUS_OK, "storage: read");
	tap_ok(!memcmp(buffer, copy, BYTES), "storage: read what was written", 0);
	tap_ok(!memcmp(buffer, pv_storage_at(&storage, last), BYTES), "storage: it is where it is mapped", 0);
	tap_is(pv_storage_read(&storage, last + 1, copy, BYTES), PV_STATUS_INVALID, "storage: over the end");
	tap_is(pv_storage_read(&storage, ~0ull, copy, BYTES), PV_STATUS_INVALID, "storage: wraps");
	tap_is(pv_storage_read(&storage, 0, copy, 511), PV_STATUS_INVALID, "storage: no whole sectors");
	tap_ok(!pv_storage_at(&storage, storage.capacity_sectors), "storage: nothing beyond the end", 0);
}

/* Flushes while something else is done: looked for, and waited for. */
static void in_two_steps(void)
{
	int64_t status;

	tap_is(pv_pmem_get(&data), PV_STATUS_BAD_STATE, "two steps: none is under way");
	tap_is(pv_pmem_submit(&data), PV_STATUS_OK, "two steps: submit");
	tap_is(pv_pmem_submit(&data), PV_STATUS_BAD_STATE, "two steps: one at a time");
	while ((status = pv_pmem_get(&data)) == PV_STATUS_NOT_FOUND)
		;
	tap_is(status, PV_STATUS_OK, "two steps: looked for");
	tap_is(pv_pmem_submit(&data), PV_STATUS_OK, "two steps: submit another");
	tap_is(pv_pmem_wait(&data), PV_STATUS_OK, "two steps: waited for");
	tap_is(pv_pmem_wait(&data), PV_STATUS_BAD_STATE, "two steps: none is left");
}

static int test(void)
{
	if (data.data) {
		region(&data);
		tap_ok(!data.read_only, "data: may be written", 0);
		through_storage(&data);
		*page_of(&data, 0) = 0x5a;
		for (uint32_t i = 0; i < 3; i++)
			tap_is(pv_pmem_flush(&data), PV_STATUS_OK, "data: flush");
		in_two_steps();
		pv_pmem_deinit(&data);
		tap_is(*page_of(&data, 0), 0x5a, "data: the region stays without the driver");
	}
	if (fixed.data) {
		region(&fixed);
		tap_ok(fixed.read_only, "fixed: says so", 0);
		tap_is(pv_pmem_write(&fixed, 0, buffer, BYTES), PV_STATUS_INVALID,
		       "fixed: the driver refuses to write");
		tap_is(pv_pmem_flush(&fixed), PV_STATUS_OK, "fixed: flush");
	}
	return tap_done();
}

/* ---- the ways of the command line ---- */

static int store(void)
{
	*page_of(any_read_only(), 1) = 1;
	pv_print("mapped: stored, now %u, flush %ld\n", *page_of(any_read_only(), 1), pv_pmem_flush(any_read_only()));
	return 0;
}

/* Reads the last page until somebody cuts the file. */
_Noreturn static int touch(void)
{
	pv_print("mapped: touching\n");
	for (;;)
		(void)*page_of(any(), any()->size_bytes / PAGE_BYTES - 1);
}

/* One byte of every page, then waits for the end. */
_Noreturn static int hold(void)
{
	uint64_t sum = 0;

	for (uint64_t page = 0; page < any()->size_bytes / PAGE_BYTES; page++)
		sum += *page_of(any(), page);
	pv_print("mapped: all pages, sum %lu\n", sum);
	for (;;)
		pv_idle(PV_DEADLINE_NEVER);
}

/* Stores, flushes, says so; the status of the flush as a number. */
static int flush(void)
{
	for (uint64_t page = 0; page < data.size_bytes / PAGE_BYTES; page++)
		*page_of(&data, page) = (uint8_t)(page + 1);
	pv_print("mapped: flush %ld\n", pv_pmem_flush(&data));
	return 0;
}

static const struct {
	const char *name;
	int (*go)(void);
} ways[] = { { "", test }, { "store", store }, { "touch", touch }, { "hold", hold }, { "flush", flush } };

int pv_main(void)
{
	const char *way = pv_guest.command_line, *end = strstr(way, " ");
	size_t length = end ? (size_t)(end - way) : strlen(way); /* the places of windows may follow */

	if (!open_disk(&data, &data_device, "data"))
		data.data = NULL;
	if (!open_disk(&fixed, &fixed_device, "fixed"))
		fixed.data = NULL;
	if (!any()->data && !open_disk(&data, &data_device, NULL)) {
		pv_print("mapped: there is no mapped disk that works; attach data or fixed\n");
		return 2;
	}
	for (uint32_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strlen(ways[i].name) == length && !strncmp(way, ways[i].name, length))
			return ways[i].go();
	pv_print("mapped: there is no way %s\n", way);
	return 2;
}
