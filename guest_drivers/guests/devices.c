/* SPDX-License-Identifier: 0BSD
 *
 * Virtio devices through the drivers: a disk `scratch` of at least 64 sectors, whose contents are lost, and
 * if attached a disk `fixed` that is read-only; a console and an entropy device.  Reports as TAP.
 */
#include "paravirt/block.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "paravirt/virtio_console.h"
#include "paravirt/virtio_entropy.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("scratch", PV_DEVICE_TYPE_BLOCK, 0),
	    PV_WANT("fixed", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_READ_ONLY | PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("terminal", PV_DEVICE_TYPE_CONSOLE, PV_DEVICE_FLAG_OPTIONAL),
	    PV_WANT("dice", PV_DEVICE_TYPE_ENTROPY, PV_DEVICE_FLAG_OPTIONAL));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define QUEUE_SIZE 64
#define SECTORS 64u
#define BYTES (SECTORS * PV_SECTOR_BYTES)

static uint8_t queue_memory[PV_VIRTIO_QUEUE_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
static uint8_t data[BYTES], copy[BYTES];
static struct pv_block block;

static void fill(uint8_t *at, uint32_t seed)
{
	for (uint32_t i = 0; i < BYTES; i++)
		at[i] = (uint8_t)(seed = seed * 1103515245 + 12345, seed >> 16);
}

/* Half of the devices wait for events as far as the command line lets them, the others poll. */
static struct pv_virtio *polled(struct pv_virtio *device)
{
	device->channel = PV_NO_CHANNEL;
	return device;
}

static bool all_zero(const uint8_t *at, uint32_t size_bytes)
{
	for (uint32_t i = 0; i < size_bytes; i++)
		if (at[i])
			return false;
	return true;
}

static void whole_requests(void)
{
	char id[PV_BLOCK_ID_BYTES + 1];

	fill(data, 1);
	tap_is(pv_block_write(&block, 0, data, BYTES), PV_STATUS_OK, "write");
	tap_is(pv_block_flush(&block), PV_STATUS_OK, "flush");
	tap_is(pv_block_read(&block, 0, copy, BYTES), PV_STATUS_OK, "read");
	tap_ok(!memcmp(data, copy, BYTES), "read what was written", 0);
	tap_is(pv_block_get_id(&block, id), PV_STATUS_OK, "get-id");
	pv_print("# id '%s'\n", id);
	if (block.max_write_zeroes_sectors) {
		tap_is(pv_block_write_zeroes(&block, 3, 5), PV_STATUS_OK, "write-zeroes");
		pv_block_read(&block, 0, copy, BYTES);
		memset(data + 3 * PV_SECTOR_BYTES, 0, 5 * PV_SECTOR_BYTES);
		tap_ok(!memcmp(data, copy, BYTES), "write-zeroes: those and no others", 0);
	}
	if (block.max_discard_sectors) {
		tap_is(pv_block_discard(&block, 8, 8), PV_STATUS_OK, "discard");
		pv_block_read(&block, 0, copy, 8 * PV_SECTOR_BYTES);
		tap_ok(!memcmp(data, copy, 8 * PV_SECTOR_BYTES), "discard: those and no others", 0);
	}
}

/* What is in no cache is switched, and switched back; a reset does that, too. */
static void caches(void)
{
	int64_t first = pv_block_get_writeback(&block);

	tap_ok(first == 0 || first == 1, "cache: the disk says what it does", first);
	if (!(block.device->features & PV_BLOCK_F_CONFIG_WCE)) {
		tap_is(pv_block_set_writeback(&block, !first), PV_STATUS_NOT_SUPPORTED, "cache: none to choose");
		return;
	}
	tap_is(pv_block_set_writeback(&block, !first), PV_STATUS_OK, "cache: the other way");
	tap_is(pv_block_get_writeback(&block), !first, "cache: is so");
	tap_is(pv_block_write(&block, 0, data, BYTES), PV_STATUS_OK, "cache: write");
	tap_is(pv_block_set_writeback(&block, first), PV_STATUS_OK, "cache: back");
	tap_is(pv_block_get_writeback(&block), first, "cache: is as it was");
}

/* More requests than fit in the queue, in all orders that the device likes, each its own sector. */
static void deep(void)
{
	static struct pv_block_request requests[SECTORS];
	struct pv_block_request *done;
	uint32_t next = 0, finished = 0, failed = 0;

	fill(data, 2);
	pv_block_write(&block, 0, data, BYTES);
	memset(copy, 0, BYTES);
	while (finished < SECTORS) {
		for (; next < SECTORS; next++) {
			requests[next] = (struct pv_block_request){
				.type = PV_BLOCK_REQUEST_READ,
				.size_bytes = PV_SECTOR_BYTES,
				.sector = next * 37 % SECTORS,
				.data = copy + next * 37 % SECTORS * PV_SECTOR_BYTES,
			};
			if (pv_block_add(&block, &requests[next]) < 0)
				break;
		}
		pv_block_submit(&block);
		if (pv_block_wait(&block, &done) < 0)
			break;
		finished++;
		failed += done->result != PV_STATUS_OK;
	}
	tap_is(finished, SECTORS, "deep: all come back");
	tap_ok(!failed && !memcmp(data, copy, BYTES), "deep: each with its own data", failed);
	tap_is(pv_block_wait(&block, &done), PV_STATUS_BAD_STATE, "deep: none left");
}

/* What the driver itself refuses, and by the driver's back what the device must. */
static void refused(void)
{
	uint64_t end = block.capacity_sectors;
	struct pv_block_request request = { .type = 77, .size_bytes = 512, .data = data };

	tap_is(pv_block_read(&block, end, copy, 512), PV_STATUS_INVALID, "driver: beyond the end");
	tap_is(pv_block_read(&block, ~0ull, copy, 512), PV_STATUS_INVALID, "driver: wraps");
	tap_is(pv_block_read(&block, 0, copy, 511), PV_STATUS_INVALID, "driver: no whole sectors");
	tap_is(pv_block_do(&block, &request), PV_STATUS_NOT_SUPPORTED, "driver: no such request");

	block.capacity_sectors = ~0ull; /* now the driver believes anything */
	fill(copy, 3);
	memcpy(data, copy, BYTES);
	tap_is(pv_block_read(&block, end, copy, 512), PV_STATUS_IO, "device: beyond the end");
	tap_is(pv_block_read(&block, end - 1, copy, 1024), PV_STATUS_IO, "device: over the end");
	tap_is(pv_block_read(&block, ~0ull - 2, copy, 1024), PV_STATUS_IO, "device: wraps");
	tap_is(pv_block_write(&block, 1ull << 55, copy, 512), PV_STATUS_IO, "device: bytes would wrap");
	tap_ok(!memcmp(data, copy, BYTES), "device: touches nothing", 0);
	block.capacity_sectors = end;
}

/* A queue for each of two vCPUs, used by turns from this one: what one writes the other reads. */
static void several(struct pv_virtio *device)
{
	static uint8_t memory[2 * PV_BLOCK_QUEUE_STRIDE(QUEUE_SIZE)] __attribute__((aligned(64)));
	static struct pv_block blocks[2];

	if (!tap_is(pv_block_init_queues(blocks, 2, polled(device), QUEUE_SIZE, memory), 2, "several queues: init"))
		return;
	for (uint32_t i = 0; i < 4; i++) {
		fill(data, 7 + i);
		tap_is(pv_block_write(&blocks[i & 1], 0, data, BYTES), PV_STATUS_OK, "several queues: write");
		tap_is(pv_block_read(&blocks[~i & 1], 0, copy, BYTES), PV_STATUS_OK, "several queues: read");
		tap_ok(!memcmp(data, copy, BYTES), "several queues: read what another wrote", i);
	}
	pv_block_deinit(&blocks[0]);
}

static void read_only(void)
{
	struct pv_virtio device;

	if (pv_device(&device, PV_DEVICE_TYPE_BLOCK, "fixed") < 0) {
		tap_skip("device: a read-only disk", "not attached");
		return;
	}
	tap_is(pv_block_init(&block, polled(&device), QUEUE_SIZE, queue_memory), PV_STATUS_OK, "fixed: init");
	tap_ok(block.read_only, "fixed: says so", 0);
	tap_is(pv_block_read(&block, 0, copy, 512), PV_STATUS_OK, "fixed: read");
	tap_is(pv_block_write(&block, 0, copy, 512), PV_STATUS_INVALID, "fixed: the driver refuses to write");
	block.read_only = false;
	tap_is(pv_block_write(&block, 0, copy, 512), PV_STATUS_IO, "device: the device refuses, too");
	pv_block_deinit(&block);
}

static void console_and_entropy(void)
{
	static struct pv_virtio_console console;
	static struct pv_virtio_entropy entropy;
	static const char line[] = "# a line by virtio-console\n";
	struct pv_virtio device;

	if (pv_device(&device, PV_DEVICE_TYPE_CONSOLE, NULL) >= 0) {
		tap_is(pv_virtio_console_init(&console, polled(&device)), PV_STATUS_OK, "console: init");
		tap_is(pv_virtio_console_write(&console, line, sizeof(line) - 1), PV_STATUS_OK, "console: write");
		int64_t got = pv_virtio_console_read(&console, copy, 4);
		tap_ok(got >= 0 && got <= 4, "console: read does not wait", got);
		pv_virtio_console_deinit(&console);
	}
	if (pv_device(&device, PV_DEVICE_TYPE_ENTROPY, NULL) >= 0) {
		memset(copy, 0, BYTES);
		tap_is(pv_virtio_entropy_init(&entropy, &device), PV_STATUS_OK, "entropy: init");
		tap_is(pv_virtio_entropy_fill(&entropy, copy, 8192), PV_STATUS_OK, "entropy: fill");
		tap_ok(!all_zero(copy, 32) && !all_zero(copy + 8160, 32), "entropy: to the end", 0);
		tap_ok(all_zero(copy + 8192, 64), "entropy: and not beyond", 0);
		pv_virtio_entropy_deinit(&entropy);
	}
}

int pv_main(void)
{
	struct pv_virtio device;

	if (!tap_is(pv_device(&device, PV_DEVICE_TYPE_BLOCK, "scratch"), PV_STATUS_OK, "scratch: found") ||
	    !tap_is(pv_block_init(&block, &device, QUEUE_SIZE, queue_memory), PV_STATUS_OK, "scratch: init"))
		return tap_done();
	pv_print("# %s rings\n", device.features & PV_VIRTIO_F_RING_PACKED ? "packed" : "split");
	whole_requests();
	caches();
	deep();
	refused();
	pv_block_deinit(&block);
	if (pv_guest.paravirt && pv_guest.cpus > 1)
		several(&device);
	read_only();
	console_and_entropy();
	return tap_done();
}
