// SPDX-License-Identifier: BSD-2-Clause
/*
 * Chains through a ring for callgrind to count: the guest library adds them uncounted, the host's walk takes
 * them and gives them back.  A dump per case, whose trigger names it; what is in it is divided elsewhere.
 *
 * usage: valgrind --tool=callgrind --collect-atstart=no … instructions ROUNDS
 */
#include <valgrind/callgrind.h>

#include "check.h"
#include "host.h"
#include "paravirt/virtqueue.h"

#define SIZE 256
#define BATCH 32
#define MOST 3 /* buffers of a chain */

static struct pv_virtq driver;
static struct pv_queue device;
static struct pv_queue_state state;
static struct pv_memory memory;
static struct pv_chain chain;
static struct pv_virtq_slot slots[SIZE];
static struct pv_virtq_desc tables[SIZE * MOST] __attribute__((aligned(16)));
static uint8_t ring[PV_VIRTQ_RING_BYTES(SIZE)] __attribute__((aligned(PV_VIRTQ_RING_ALIGN)));
static uint8_t data[MOST][64];

/* A small type of request: header to read, data and status to write, if they are three. */
struct kind {
	const char *name;
	uint32_t buffers;
	bool packed;
	bool indirect;
	bool in_order;
};

static const struct kind kinds[] = {
	{ "split", 1, false, false, false },
	{ "split chain", MOST, false, false, false },
	{ "split indirect", MOST, false, true, false },
	{ "packed", 1, true, false, false },
	{ "packed chain", MOST, true, false, false },
	{ "packed indirect", MOST, true, true, false },
	{ "packed in order", 1, true, false, true },
};

static void start(const struct kind *kind)
{
	struct pv_virtq_memory m = {
		.size = SIZE,
		.event_idx = true,
		.packed = kind->packed,
		.in_order = kind->in_order,
		.ring = ring,
		.slots = slots,
		.indirect = kind->indirect ? tables : NULL,
		.indirect_count = MOST,
	};
	struct pv_queue_setup setup = { 0 };

	memory.count = 0;
	CHECK(pv_memory_add(&memory, (uintptr_t)ring, sizeof(ring), ring) == 0);
	CHECK(pv_memory_add(&memory, (uintptr_t)tables, sizeof(tables), tables) == 0);
	CHECK(pv_memory_add(&memory, (uintptr_t)data, sizeof(data), data) == 0);
	CHECK(pv_virtq_init(&driver, &m) == PV_STATUS_OK);
	pv_virtq_describe(&driver, &setup);
	state = (struct pv_queue_state){
		.size = setup.size,
		.descriptors_gpa = setup.descriptors_gpa,
		.driver_gpa = setup.driver_gpa,
		.device_gpa = setup.device_gpa,
	};
	device = (struct pv_queue){
		.state = &state,
		.memory = &memory,
		.maximum = SIZE,
		.features = PV_VIRTIO_F_EVENT_IDX | PV_VIRTIO_F_INDIRECT_DESC |
			    (kind->packed ? PV_VIRTIO_F_RING_PACKED : 0) | (kind->in_order ? PV_VIRTIO_F_IN_ORDER : 0),
	};
	CHECK(pv_queue_enable(&device) == PV_STATUS_OK);
}

static void batch(const struct kind *kind)
{
	struct pv_virtq_buffer buffers[MOST];
	struct pv_virtq_completion done;

	for (uint32_t i = 0; i < MOST; i++)
		buffers[i] = (struct pv_virtq_buffer){ (uintptr_t)data[i], sizeof(data[i]), i > 0 };
	for (uint32_t i = 0; i < BATCH; i++)
		CHECK(pv_virtq_add(&driver, buffers, kind->buffers, i) == PV_STATUS_OK);
	pv_virtq_publish(&driver);
	CALLGRIND_TOGGLE_COLLECT;
	while (pv_queue_pop(&device, &chain) == 1) {
		if (kind->in_order)
			pv_queue_stage(&device, chain.head, (uint32_t)chain.writable_bytes);
		else
			pv_queue_push(&device, chain.head, (uint32_t)chain.writable_bytes);
	}
	pv_queue_wants_interrupt(&device);
	CALLGRIND_TOGGLE_COLLECT;
	for (uint32_t i = 0; i < BATCH; i++)
		CHECK(pv_virtq_get(&driver, &done) == 1);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	for (uint32_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		start(&kinds[i]);
		CALLGRIND_ZERO_STATS;
		for (int round = atoi(argv[1]); round > 0; round--)
			batch(&kinds[i]);
		CALLGRIND_DUMP_STATS_AT(kinds[i].name);
	}
	return 0;
}
