/* SPDX-License-Identifier: 0BSD
 *
 * Chapter pmem: a mapped disk `mapped`, whose contents are lost, and one that is read-only, `frozen`.  Regions are
 * looked at as memory, requests are laid out by hand.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define REGION_ALIGNMENT 0x200000u
#define RET 0xc3

static struct pv_virtio disks[2];
static struct pv_pmem_config regions[2];
static struct pv_pmem_request request;
static struct pv_pmem_response response;

static void read_at(void *address)
{
	(void)*(volatile uint8_t *)address;
}

static void write_at(void *address)
{
	*(volatile uint8_t *)address = RET;
}

static void call_at(void *address)
{
	__asm__ volatile("call *%0" : : "r"(address) : "memory");
}

static uint64_t end_of(const struct pv_pmem_config *region)
{
	return region->start_gpa + region->size_bytes;
}

static bool overlap(uint64_t gpa, uint64_t size_bytes, const struct pv_pmem_config *region)
{
	return gpa < end_of(region) && region->start_gpa < gpa + size_bytes;
}

static bool open_disk(uint32_t i, const char *name)
{
	return cf_device(&disks[i], PV_DEVICE_TYPE_PMEM, name) && pv_virtio_agree(&disks[i], 0, 0) >= 0 &&
	       pv_virtio_config(&disks[i], &regions[i], sizeof(regions[i])) >= 0;
}

static void place(uint32_t i)
{
	const struct pv_pmem_config *region = &regions[i];
	uint64_t last = end_of(region) - CF_PAGE;
	bool beside = true;

	cf_case("PMEM-1 where the region of %s lies", disks[i].name);
	cf_want(region->size_bytes && end_of(region) > region->start_gpa, "a region");
	cf_expect((int64_t)(region->start_gpa % REGION_ALIGNMENT), 0, "a multiple of 2 MiB");
	cf_expect((int64_t)(region->size_bytes % CF_PAGE), 0, "whole pages");
	for (uint32_t n = 0; n < cf_boot.memory_count; n++)
		beside &= !overlap(cf_boot.memory[n].gpa, cf_boot.memory[n].size_bytes, region);
	cf_want(beside, "not in the memory map");
	cf_want(!overlap(regions[!i].start_gpa, regions[!i].size_bytes, region), "not in the other's");
	if (!cf_has_gates)
		return;
	cf_expect(cf_try(read_at, pv_at(region->start_gpa)), 0, "its first page is there");
	cf_expect(cf_try(read_at, pv_at(last)), 0, "its last page is there");
	if (!i) {
		cf_expect(cf_try(write_at, pv_at(region->start_gpa)), 0, "may be written");
		cf_expect(cf_try(write_at, pv_at(last)), 0, "to its end");
	}
	cf_expect(cf_try(call_at, pv_at(region->start_gpa)), CF_PAGE_FAULT, "not executable");
}

static void flags(void)
{
	static struct pv_device_info list[PV_LIMIT_DEVICES];
	uint64_t count = pv_call2(PV_CALL_DEVICE_LIST, pv_gpa(list), sizeof(list)).value / sizeof(list[0]);

	for (uint64_t n = 0; n < count && n < PV_LIMIT_DEVICES; n++) {
		for (uint32_t i = 0; i < 2; i++)
			if (list[n].device == disks[i].index)
				cf_expect(list[n].flags & PV_DEVICE_FLAG_READ_ONLY, i ? PV_DEVICE_FLAG_READ_ONLY : 0,
					  disks[i].name);
	}
}

static void read_only(void)
{
	volatile uint8_t *first = pv_at(regions[1].start_gpa);
	uint8_t before = *first;

	cf_case("PMEM-3 what is read-only says so and cannot be stored to");
	flags();
	if (!cf_has_gates)
		return;
	cf_expect(cf_try(write_at, (void *)(uintptr_t)first), CF_PAGE_FAULT, "a store to the first page");
	cf_expect(cf_try(write_at, pv_at(end_of(&regions[1]) - 1)), CF_PAGE_FAULT, "a store to the last byte");
	cf_expect(*first, before, "what is there");
}

/* Two descriptors: a request of so many bytes, a response of so many; none where it is zero. */
static bool ask(uint32_t type, uint32_t request_bytes, uint32_t response_bytes)
{
	struct pv_queue_setup setup = cf_queue_setup();
	uint16_t more = request_bytes && response_bytes ? CF_NEXT : 0;
	struct pv_virtq_desc *at = cf_ring.descriptors;

	request.type = type;
	response.result = ~type;
	if (!cf_up(&disks[0], 0, &setup))
		return false;
	if (request_bytes)
		*at++ = (struct pv_virtq_desc){ pv_gpa(&request), request_bytes, more, 1 };
	if (response_bytes)
		*at = (struct pv_virtq_desc){ pv_gpa(&response), response_bytes, CF_WRITE, 0 };
	cf_publish(&disks[0], 1);
	return true;
}

static void requests(void)
{
	const uint32_t whole = sizeof(request);

	cf_case("PMEM-5 requests, and what is none");
	cf_want(ask(PV_PMEM_TYPE_FLUSH, whole, sizeof(response)) && cf_used(1), "FLUSH comes back");
	cf_expect(response.result, PV_PMEM_RESULT_OK, "FLUSH");
	cf_expect(cf_ring.entries[0].written_bytes, sizeof(response), "bytes written");
	cf_want(ask(77, whole, sizeof(response)) && cf_used(1), "a type that is not known comes back");
	cf_expect(response.result, (int64_t)PV_PMEM_RESULT_FAILED, "a type that is not known");
	cf_want(ask(PV_PMEM_TYPE_FLUSH, whole - 1, sizeof(response)) && cf_gives_up(&disks[0]), "half a type");
	cf_want(ask(PV_PMEM_TYPE_FLUSH, 0, sizeof(response)) && cf_gives_up(&disks[0]), "no type");
	cf_want(ask(PV_PMEM_TYPE_FLUSH, whole, sizeof(response) - 1) && cf_gives_up(&disks[0]), "half an answer");
	cf_want(ask(PV_PMEM_TYPE_FLUSH, whole, 0) && cf_gives_up(&disks[0]), "no room for an answer");
	cf_down(&disks[0]);
}

static void no_guest_memory(void)
{
	struct pv_queue_setup setup = cf_queue_setup();
	uint64_t gpa = regions[0].start_gpa;

	cf_case("PMEM-2 the region is no guest memory");
	cf_expect(pv_call2(PV_CALL_CONSOLE_WRITE, gpa, 1).status, PV_STATUS_BAD_ADDRESS, "a buffer of a call");
	cf_expect(pv_call2(PV_CALL_BASE_SERVICES, gpa, 64).status, PV_STATUS_BAD_ADDRESS, "one that is written");
	setup.device_gpa = gpa;
	cf_want(pv_virtio_agree(&disks[0], 0, 0) >= 0, "features are agreed");
	cf_expect(disks[0].transport->queue_setup(&disks[0], &setup), PV_STATUS_BAD_ADDRESS, "an area of a queue");
	setup = cf_queue_setup();
	cf_want(cf_up(&disks[0], 0, &setup), "the device starts");
	request.type = PV_PMEM_TYPE_FLUSH;
	cf_ring.descriptors[0] = (struct pv_virtq_desc){ pv_gpa(&request), sizeof(request), CF_NEXT, 1 };
	cf_ring.descriptors[1] = (struct pv_virtq_desc){ gpa, sizeof(response), CF_WRITE, 0 };
	cf_publish(&disks[0], 1);
	cf_want(cf_gives_up(&disks[0]), "a buffer of a queue: the device gives up");
	cf_down(&disks[0]);
}

static void pmem(void)
{
	bool two = open_disk(1, "frozen");

	if (!open_disk(0, "mapped")) {
		cf_case("PMEM-1 PMEM-2 PMEM-3 PMEM-5 mapped disks");
		cf_skip("no such device");
		return;
	}
	place(0);
	if (two) {
		place(1);
		read_only();
	}
	requests();
	no_guest_memory();
}

CF_CHAPTER(pmem, pmem);
