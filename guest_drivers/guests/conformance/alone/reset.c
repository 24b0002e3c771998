/* SPDX-License-Identifier: 0BSD
 *
 * Two lives of a machine: the first leaves a mark on the disk `scratch` and resets, the second finds the mark
 * and everything else as new.
 */
#include "../support/device.h"
#include "paravirt/block.h"
#include "paravirt/string.h"

#define QUEUE_SIZE 16
#define MARK "the first life of this machine left this mark on the disk"
#define MARK_SECTOR 5

static uint8_t queue_memory[PV_VIRTIO_QUEUE_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
static uint8_t sector[PV_SECTOR_BYTES];
static uint32_t in_data = 0x1234; /* which the first life changes */
static uint32_t in_bss;

_Noreturn static void first_life(struct pv_block *block, uint64_t *page)
{
	memset(sector, 0, sizeof(sector));
	memcpy(sector, MARK, sizeof(MARK));
	if (pv_block_write(block, MARK_SECTOR, sector, sizeof(sector)) != PV_STATUS_OK)
		cf_bail_out("the disk cannot be written");
	pv_block_flush(block);
	in_data = in_bss = 1;
	*page = ~0ull;
	cf_page(0)->mask[1] = ~0ull;
	cf_accept(PV_SERVICE_BASE, ~0ull);
	cf_note("the end of the first life");
	pv_call0(PV_CALL_SYSTEM_RESET);
	cf_bail_out("system.reset came back");
}

static void second_life(const uint64_t *page)
{
	struct pv_service_info info = { 0 };

	cf_case("SYS-3 after system.reset the image starts anew, in memory that is new");
	cf_expect(in_data, 0x1234, "a word of the image's data");
	cf_expect(in_bss, 0, "a word behind the image's data");
	cf_expect((int64_t)*page, 0, "a word of RAM");
	cf_expect((int64_t)cf_page(0)->mask[1], 0, "a word of the vCPU's page");
	cf_service(PV_SERVICE_BASE, &info);
	cf_expect((int64_t)info.accepted, 0, "features accepted");
	for (uint32_t i = 1; i < cf_vcpus() && cf_offered(PV_SERVICE_VCPU); i++)
		cf_expect((int64_t)pv_call1(PV_CALL_VCPU_STATE, i).value, PV_VCPU_STATE_STOPPED, "another vCPU");
	cf_is(memcmp(sector, MARK, sizeof(MARK)), 0, "SYS-3 devices keep their data");
}

static void reset(void)
{
	static struct pv_virtio device;
	static struct pv_block block;
	uint64_t *page = cf_take(CF_PAGE, CF_PAGE);

	if (!cf_device(&device, PV_DEVICE_TYPE_BLOCK, "scratch") ||
	    pv_block_init(&block, &device, QUEUE_SIZE, queue_memory) < 0 || block.read_only || !page) {
		cf_case("SYS-3 two lives");
		cf_skip("no disk `scratch` tells them apart");
		return;
	}
	if (pv_block_read(&block, MARK_SECTOR, sector, sizeof(sector)) != PV_STATUS_OK)
		cf_bail_out("the disk cannot be read");
	if (memcmp(sector, MARK, sizeof(MARK)))
		first_life(&block, page);
	second_life(page);
	memset(sector, 0, sizeof(sector)); /* so that the next run begins with a first life */
	pv_block_write(&block, MARK_SECTOR, sector, sizeof(sector));
	pv_block_deinit(&block);
}

CF_CHAPTER(reset, reset);
