// SPDX-License-Identifier: BSD-2-Clause
/*
 * A driver that scribbles over its rings and tables while the device walks them.  Nothing is expected
 * of the answers, but that every segment lies inside memory, stays what it was when it was checked, and
 * that the sanitizers find nothing: the guest's memory lies between poisoned bytes.
 *
 * usage: ring_hostile POPS EVENT_IDX SEED
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "check.h"
#include "host.h"

#define SIZE 16
#define AREA 1024 /* descriptors, available ring, used ring, indirect tables: one area each */
#define BYTES (4 * AREA)
#define BASE 0x10000u

struct hostile {
	uint8_t *memory_bytes;
	uint64_t pops;
	uint64_t seed;
	uint64_t features;
	uint32_t done;
};

static uint16_t avail_index(const struct hostile *h)
{
	return __atomic_load_n((uint16_t *)(void *)(h->memory_bytes + AREA + 2), __ATOMIC_RELAXED);
}

/* Values that come near to being right: small indexes, flags, lengths, addresses around the memory. */
static uint64_t tempting(uint64_t *seed)
{
	switch (random_below(seed, 6)) {
	case 0:
		return random_below(seed, SIZE + 2);
	case 1:
		return 16ull * random_below(seed, SIZE + 2);
	case 2:
		return BASE + random_below(seed, BYTES + 64);
	case 3:
		return BASE + 3 * AREA + 16ull * random_below(seed, AREA / 16);
	case 4:
		return BASE - 1 - random_below(seed, 8);
	default:
		return random_next(seed);
	}
}

static void *scribble(void *argument)
{
	const struct hostile *h = argument;
	uint64_t seed = ~h->seed;

	while (!__atomic_load_n(&h->done, __ATOMIC_RELAXED)) {
		uint16_t index = avail_index(h);

		/* a descriptor, direct or indirect, field by field; then an entry, and the index one further */
		uint8_t *d = h->memory_bytes + (random_below(&seed, 2) ? 0 : 3 * AREA) + 16 * random_below(&seed, SIZE);
		__atomic_store_n((uint64_t *)(void *)d, tempting(&seed), __ATOMIC_RELAXED);
		__atomic_store_n((uint32_t *)(void *)(d + 8), (uint32_t)(random_below(&seed, 8) ? 16 : tempting(&seed)),
				 __ATOMIC_RELAXED);
		__atomic_store_n((uint16_t *)(void *)(d + 12), (uint16_t)random_below(&seed, 8), __ATOMIC_RELAXED);
		__atomic_store_n((uint16_t *)(void *)(d + 14), (uint16_t)tempting(&seed), __ATOMIC_RELAXED);
		__atomic_store_n((uint16_t *)(void *)(h->memory_bytes + AREA + 4 + 2 * (index % SIZE)),
				 (uint16_t)random_below(&seed, SIZE + 1), __ATOMIC_RELAXED);
		if (random_below(&seed, 500) == 0)
			index = (uint16_t)tempting(&seed);
		__atomic_store_n((uint16_t *)(void *)(h->memory_bytes + AREA + 2), (uint16_t)(index + 1),
				 __ATOMIC_RELEASE);
	}
	return NULL;
}

static void check_chain(const struct hostile *h, const struct pv_chain *chain, uint64_t *seed)
{
	uint8_t bytes[256];
	uint64_t sum = 0;
	uint32_t count = (uint32_t)chain->readable + chain->writable;

	CHECK(chain->head < SIZE && count >= 1 && count <= SIZE);
	for (uint32_t i = 0; i < count; i++) {
		const struct iovec *s = &chain->segments[i];
		const uint8_t *start = s->iov_base;

		CHECK(start >= h->memory_bytes && s->iov_len > 0 && s->iov_len <= BYTES);
		CHECK(start + s->iov_len <= h->memory_bytes + BYTES);
		sum += s->iov_len;
	}
	CHECK(sum == chain->readable_bytes + chain->writable_bytes);
	uint64_t offset = random_below(seed, 600);
	uint64_t left = offset < chain->readable_bytes ? chain->readable_bytes - offset : 0;
	CHECK(pv_chain_read(chain, offset, bytes, sizeof(bytes)) == (left < sizeof(bytes) ? left : sizeof(bytes)));
	left = offset < chain->writable_bytes ? chain->writable_bytes - offset : 0;
	CHECK(pv_chain_write(chain, offset, bytes, sizeof(bytes)) == (left < sizeof(bytes) ? left : sizeof(bytes)));
}

static uint32_t walk(struct hostile *h)
{
	struct pv_memory memory = { 0 };
	struct pv_queue_state state = {
		.size = SIZE,
		.descriptors_gpa = BASE,
		.driver_gpa = BASE + AREA,
		.device_gpa = BASE + 2 * AREA,
	};
	struct pv_queue queue = { .state = &state, .memory = &memory, .maximum = SIZE, .features = h->features };
	static struct pv_chain chain;
	uint32_t faults = 0;
	uint64_t taken = 0;

	CHECK(pv_memory_add(&memory, BASE, BYTES, h->memory_bytes) == 0);
	CHECK(pv_queue_enable(&queue) == PV_STATUS_OK);
	while (taken + faults < h->pops) {
		int popped = pv_queue_pop(&queue, &chain);

		if (popped == 1) {
			taken++;
			check_chain(h, &chain, &h->seed);
			pv_queue_push(&queue, chain.head, 1);
			pv_queue_wants_interrupt(&queue);
		} else if (popped < 0) {
			faults++;
			CHECK(queue.fault && !strncmp(queue.fault, "VQ-", 3));
			CHECK(pv_queue_pop(&queue, &chain) == 0); /* silent */
			state.next_avail =
				__atomic_load_n((uint16_t *)(void *)(h->memory_bytes + AREA + 2), __ATOMIC_RELAXED);
			CHECK(pv_queue_enable(&queue) == PV_STATUS_OK);
		} else if (!pv_queue_arm(&queue)) {
			pv_queue_disarm(&queue);
			sched_yield(); /* to whom scribbles */
		}
	}
	printf("taken %llu faults %u\n", (unsigned long long)taken, faults);
	return faults;
}

int main(int argc, char **argv)
{
	struct hostile h = { .memory_bytes = aligned_alloc(AREA, BYTES) };
	pthread_t thread;

	CHECK(argc == 4 && h.memory_bytes);
	memset(h.memory_bytes, 0, BYTES);
	h.pops = strtoull(argv[1], NULL, 10);
	h.features = PV_VIRTIO_F_INDIRECT_DESC | (atoi(argv[2]) ? PV_VIRTIO_F_EVENT_IDX : 0);
	h.seed = strtoull(argv[3], NULL, 10);
	CHECK(pthread_create(&thread, NULL, scribble, &h) == 0);
	uint32_t faults = walk(&h);
	__atomic_store_n(&h.done, 1, __ATOMIC_RELAXED);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(faults > 0 && faults < h.pops); /* both ends were reached */
	free(h.memory_bytes);
	return 0;
}
