/* SPDX-License-Identifier: 0BSD
 *
 * A guest whose disk `late` comes and goes: waits for it, uses it until the host wants it back, and finds it gone.
 * Twice.  Reports as TAP.
 */
#include "paravirt/base.h"
#include "paravirt/block.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_DEVICE, PV_DEVICE_FEATURE_HOTPLUG),
	   PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("late", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_OPTIONAL));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define QUEUE_SIZE 16
#define ROUNDS 2u

static uint8_t queue_memory[PV_VIRTIO_QUEUE_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
static uint8_t sector[PV_SECTOR_BYTES];
static struct pv_virtio device;
static struct pv_block block;

/* Channel DEVICE ends the wait (DEV-22). */
static void wait_for_device(void)
{
	pv_hold();
	while (pv_device(&device, PV_DEVICE_TYPE_BLOCK, "late") != PV_STATUS_OK)
		pv_idle(PV_DEADLINE_NEVER);
	pv_release();
}

/* Writes until the device does not take it any more: it wants to be reset (DEV-23). */
static uint32_t use(void)
{
	uint32_t written = 0;

	while (pv_block_write(&block, 0, sector, PV_SECTOR_BYTES) == PV_STATUS_OK)
		if (!written++)
			pv_print("# in use\n");
	return written;
}

int pv_main(void)
{
	struct pv_wish wish = { .service = PV_SERVICE_DEVICE, .needed = PV_DEVICE_FEATURE_HOTPLUG };

	tap_is(pv_negotiate(&wish, 1), PV_STATUS_OK, "feature HOTPLUG");
	for (uint32_t round = 0; round < ROUNDS; round++) {
		pv_print("# waits %u\n", round);
		wait_for_device();
		if (!tap_is(pv_block_init(&block, &device, QUEUE_SIZE, queue_memory), PV_STATUS_OK, "it came"))
			break;
		tap_ok(use() > 0, "it was used", 0);
		struct pv_virtio other;
		tap_is(pv_virtio_find(&other, PV_DEVICE_TYPE_BLOCK, "late", 0), PV_STATUS_NOT_FOUND, "listed no more");
		pv_block_deinit(&block);
		tap_is(pv_call1(PV_CALL_DEVICE_STATUS, device.index).status, PV_STATUS_NOT_FOUND, "gone");
	}
	return tap_done();
}
