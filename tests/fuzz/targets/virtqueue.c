// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's walk of a virtqueue, split or packed, over memory that a driver writes to between any two steps.
 *
 * Input: size (a power of two), features, first index (2 bytes); memory; then pairs of place and value
 * (2 bytes each) that are written between steps.
 */
#include "host.h"
#include "input.h"

#define BYTES 2048 /* descriptors, available ring, used ring, indirect tables and buffers */
#define BASE 0x10000u
#define AVAIL 0x300u
#define USED 0x400u
#define STEPS 64

struct walk {
	struct pv_memory memory;
	struct pv_queue_state state;
	struct pv_queue queue;
	struct pv_chain chain;
	uint8_t *bytes;
};

static void check_chain(const struct walk *w)
{
	const struct pv_chain *chain = &w->chain;
	uint32_t count = (uint32_t)chain->readable + chain->writable;
	uint8_t copy[64];
	uint64_t sum = 0;

	REQUIRE(chain->head < w->state.size && count >= 1 && count <= w->state.size);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *start = chain->segments[i].iov_base;
		uint64_t size_bytes = chain->segments[i].iov_len;

		REQUIRE(size_bytes && start >= w->bytes && size_bytes <= BYTES);
		REQUIRE((uint64_t)(start - w->bytes) <= BYTES - size_bytes);
		sum += size_bytes;
	}
	REQUIRE(sum == chain->readable_bytes + chain->writable_bytes);
	REQUIRE(pv_chain_read(chain, 1, copy, sizeof(copy)) <= chain->readable_bytes);
	REQUIRE(pv_chain_write(chain, 1, copy, sizeof(copy)) <= chain->writable_bytes);
}

static void step(struct walk *w, struct input *input)
{
	uint16_t place = take16(input), value = take16(input);

	memcpy(w->bytes + place % (BYTES - 1), &value, sizeof(value));
	int popped = pv_queue_pop(&w->queue, &w->chain);
	if (popped < 0) {
		REQUIRE(w->queue.fault && !strncmp(w->queue.fault, "VQ-", 3));
		REQUIRE(pv_queue_pop(&w->queue, &w->chain) == 0); /* VQ-10 */
		w->state.next_avail = w->state.next_used = w->state.signalled = value;
		REQUIRE(pv_queue_enable(&w->queue) == PV_STATUS_OK);
	} else if (popped) {
		check_chain(w);
		(place & 1 ? pv_queue_stage : pv_queue_push)(&w->queue, w->chain.head, value);
		if (place & 2)
			pv_queue_wants_interrupt(&w->queue);
	} else if (!pv_queue_arm(&w->queue)) {
		pv_queue_disarm(&w->queue);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	static struct walk w;
	struct input input = { data, size_bytes };

	w = (struct walk){ .bytes = aligned_alloc(16, BYTES) };
	REQUIRE(w.bytes && pv_memory_add(&w.memory, BASE, BYTES, w.bytes) == 0);
	w.state = (struct pv_queue_state){
		.size = (uint16_t)(1u << take8(&input) % 6),
		.descriptors_gpa = BASE,
		.driver_gpa = BASE + AVAIL,
		.device_gpa = BASE + USED,
	};
	w.queue = (struct pv_queue){ .state = &w.state, .memory = &w.memory, .maximum = 32 };
	uint8_t features = take8(&input);
	w.queue.features = PV_VIRTIO_F_VERSION_1 | (features & 3ull) << PV_VIRTIO_F_INDIRECT_DESC_BIT |
			   (features & 12ull) >> 2 << PV_VIRTIO_F_RING_PACKED_BIT;
	w.state.next_avail = w.state.next_used = w.state.signalled = take16(&input);
	take(&input, w.bytes, BYTES);
	REQUIRE(pv_queue_enable(&w.queue) == PV_STATUS_OK);
	for (uint32_t i = 0; i < STEPS && (i < 4 || input.size_bytes); i++)
		step(&w, &input);
	free(w.bytes);
	return 0;
}
