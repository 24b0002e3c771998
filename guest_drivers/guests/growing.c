/* SPDX-License-Identifier: 0BSD
 *
 * A guest whose disk `data` grows under it: waits for more sectors than there were, and uses the last one.
 * Reports as TAP.
 */
#include "paravirt/block.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("data", PV_DEVICE_TYPE_BLOCK, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define QUEUE_SIZE 16
#define POLL_NS 1000000

static uint8_t queue_memory[PV_VIRTIO_QUEUE_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
static uint8_t sector[PV_SECTOR_BYTES];
static struct pv_block block;

/* Its channel is raised by a change of the configuration; over virtio-mmio it is asked for. */
static int64_t wait_for_more(uint64_t sectors)
{
	int64_t status = PV_STATUS_OK;

	pv_hold();
	while (status >= 0 && block.capacity_sectors == sectors) {
		status = pv_block_refresh(&block);
		if (block.capacity_sectors == sectors)
			pv_idle(block.device->channel != PV_NO_CHANNEL ? PV_DEADLINE_NEVER : pv_now_ns() + POLL_NS);
	}
	pv_release();
	return status;
}

int pv_main(void)
{
	struct pv_virtio device;

	if (!tap_is(pv_device(&device, PV_DEVICE_TYPE_BLOCK, "data"), PV_STATUS_OK, "found") ||
	    !tap_is(pv_block_init(&block, &device, QUEUE_SIZE, queue_memory), PV_STATUS_OK, "init"))
		return tap_done();
	uint64_t before = block.capacity_sectors;

	tap_is(pv_block_read(&block, before, sector, PV_SECTOR_BYTES), PV_STATUS_INVALID, "nothing behind the end");
	pv_print("# has %lu sectors\n", before);
	tap_is(wait_for_more(before), PV_STATUS_OK, "it grows");
	pv_print("# has %lu sectors\n", block.capacity_sectors);
	tap_ok(block.capacity_sectors > before, "there are more", (int64_t)block.capacity_sectors);
	memset(sector, 0x5a, sizeof(sector));
	tap_is(pv_block_write(&block, block.capacity_sectors - 1, sector, PV_SECTOR_BYTES), PV_STATUS_OK,
	       "the last one");
	tap_is(pv_block_flush(&block), PV_STATUS_OK, "flush");
	pv_block_deinit(&block);
	return tap_done();
}
