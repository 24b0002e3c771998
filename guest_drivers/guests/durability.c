/* SPDX-License-Identifier: 0BSD
 *
 * Writes numbered blocks to the disk `disk` until it is stopped, and says what must survive from then on:
 *	flushed N		the writes 1 to N are durable
 * With `through` on the command line it sends no flush: then the disk is one that answers what is durable.  Where there
 * is a mapped disk `mapped` it stores there.
 * Write number N fills the block (N * 101) % blocks, 4 KiB, with words that tell N and their own place.  A flush is sent
 * beside writes that it does not cover.  Whoever kills the host compares (tests/system/test_durability.py).
 */
#include "paravirt/block.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/pmem.h"
#include "paravirt/string.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_VCPU, 0),
	   PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("disk", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("mapped", PV_DEVICE_TYPE_PMEM, PV_DEVICE_FLAG_OPTIONAL));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define BLOCK_BYTES 4096u
#define WORDS (BLOCK_BYTES / sizeof(uint64_t))
#define STEP 101u /* prime: writes that are near in number are of different blocks */
#define COVERED 8u /* writes that are complete before the flush is sent */
#define BESIDE 4u /* writes that are under way with it */
#define MIXER 0x9e3779b97f4a7c15u
#define QUEUE_SIZE 64

static struct pv_virtio device;
static struct pv_block disk;
static struct pv_pmem mapped;
static uint8_t queue[PV_VIRTIO_QUEUE_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
static uint64_t data[COVERED][WORDS] __attribute__((aligned(BLOCK_BYTES)));
static struct pv_block_request writes[COVERED], flush = { .type = PV_BLOCK_REQUEST_FLUSH };
static uint64_t written; /* number of the last write */

static void need(int64_t status, const char *what)
{
	if (status >= 0)
		return;
	pv_print("durability: %s (%s)\n", what, pv_status_name(status));
	pv_exit(1);
}

static void fill(uint64_t *words)
{
	written++;
	for (uint64_t i = 0; i < WORDS; i++)
		words[i] = (written << 32 | i) * MIXER;
}

static uint64_t sector_of_last(uint64_t disk_bytes)
{
	return written * STEP % (disk_bytes / BLOCK_BYTES) * (BLOCK_BYTES / PV_SECTOR_BYTES);
}

static void add_writes(uint32_t count)
{
	for (uint32_t n = 0; n < count; n++) {
		fill(data[n]);
		writes[n] = (struct pv_block_request){
			.type = PV_BLOCK_REQUEST_WRITE,
			.size_bytes = BLOCK_BYTES,
			.sector = sector_of_last(disk.capacity_sectors * PV_SECTOR_BYTES),
			.data = data[n],
		};
		need(pv_block_add(&disk, &writes[n]), "a write was refused");
	}
}

static void finish(void)
{
	struct pv_block_request *done;

	pv_block_submit(&disk);
	while (disk.in_flight) {
		need(pv_block_wait(&disk, &done), "the disk is gone");
		need(done->result, "a request failed");
	}
}

_Noreturn static void store_mapped(void)
{
	need(pv_pmem_init(&mapped, &device), "the mapped disk does not work");
	for (;;) {
		for (uint32_t n = 0; n < COVERED; n++) {
			fill(data[n]);
			need(pv_pmem_write(&mapped, sector_of_last(mapped.size_bytes), data[n], BLOCK_BYTES),
			     "a store");
		}
		need(pv_pmem_flush(&mapped), "a flush of the mapped disk failed");
		pv_print("flushed %lu\n", written);
	}
}

int pv_main(void)
{
	if (pv_device(&device, PV_DEVICE_TYPE_PMEM, "mapped") >= 0)
		store_mapped();
	need(pv_device(&device, PV_DEVICE_TYPE_BLOCK, "disk"), "there is no disk");
	need(pv_block_init(&disk, &device, QUEUE_SIZE, queue), "the disk does not work");
	need(disk.has_flush ? PV_STATUS_OK : PV_STATUS_NOT_SUPPORTED, "the disk has no flush");
	bool through = strstr(pv_guest.command_line, "through");
	for (;;) {
		add_writes(COVERED);
		finish();
		uint64_t covered = written;
		if (through) {
			pv_print("flushed %lu\n", covered);
			continue;
		}
		need(pv_block_add(&disk, &flush), "a flush was refused");
		add_writes(BESIDE);
		finish();
		pv_print("flushed %lu\n", covered);
	}
}
