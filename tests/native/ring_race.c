// SPDX-License-Identifier: BSD-2-Clause
/*
 * The two races of a virtqueue, run head on: one side publishes while the other asks to be told.  At
 * least one must notice (pairs B and D of barriers), in every round, with one chain at a time, so that
 * nothing later can mend what was lost.
 *
 * usage: ring_race ROUNDS EVENT_IDX PACKED
 */
#include <pthread.h>
#include <sched.h>

#include "check.h"
#include "host.h"
#include "paravirt/virtqueue.h"

#define SIZE 4

struct race {
	uint64_t rounds;
	struct pv_virtq driver;
	struct pv_queue device;
	struct pv_queue_state state;
	struct pv_memory memory;
	/* what each side noticed in this round */
	bool wants_doorbell;
	bool saw_buffers;
	bool wants_interrupt;
	bool saw_used;
	uint32_t arrived;
};

static uint8_t arena[4096] __attribute__((aligned(PV_VIRTQ_RING_ALIGN)));
static struct pv_virtq_slot slots[SIZE];

/* Both threads meet; `n` counts the meetings. */
static void meet(struct race *race, uint32_t *n)
{
	*n += 2;
	__atomic_fetch_add(&race->arrived, 1, __ATOMIC_SEQ_CST);
	for (uint32_t spins = 0; __atomic_load_n(&race->arrived, __ATOMIC_SEQ_CST) < *n; spins++)
		if (spins > 2000)
			sched_yield(); /* the other one is not on a CPU */
}

/* A little while, different in every round, so that the two sides' steps slide past each other. */
static void linger(uint64_t *seed)
{
	for (uint32_t n = random_below(seed, 40); n > 0; n--)
		__asm__ volatile("");
}

static void *device_side(void *argument)
{
	static struct pv_chain chain;
	struct race *race = argument;
	uint64_t seed = 0x9e3779b97f4a7c15ull;
	uint32_t n = 0;

	for (uint64_t i = 0; i < race->rounds; i++) {
		pv_queue_disarm(&race->device);
		meet(race, &n);
		linger(&seed);
		race->saw_buffers = pv_queue_arm(&race->device);
		meet(race, &n);
		CHECK(pv_queue_pop(&race->device, &chain) == 1);
		meet(race, &n);
		linger(&seed);
		pv_queue_push(&race->device, chain.head, 0);
		race->wants_interrupt = pv_queue_wants_interrupt(&race->device);
		meet(race, &n);
	}
	return NULL;
}

static void driver_side(struct race *race)
{
	const struct pv_virtq_buffer buffer = { .gpa = (uintptr_t)arena + 2048, .size_bytes = 8 };
	struct pv_virtq_completion done;
	uint64_t seed = 0x2545f4914f6cdd1dull;
	uint32_t n = 0;

	for (uint64_t i = 0; i < race->rounds; i++) {
		CHECK(pv_virtq_add(&race->driver, &buffer, 1, i) == PV_STATUS_OK);
		meet(race, &n);
		linger(&seed);
		race->wants_doorbell = pv_virtq_publish(&race->driver);
		meet(race, &n);
		CHECK(race->wants_doorbell || race->saw_buffers);
		pv_virtq_disarm(&race->driver);
		meet(race, &n);
		linger(&seed);
		race->saw_used = pv_virtq_arm(&race->driver);
		meet(race, &n);
		CHECK(race->wants_interrupt || race->saw_used);
		CHECK(pv_virtq_get(&race->driver, &done) == 1 && done.cookie == i);
	}
}

static void race_init(struct race *race, bool event_idx, bool packed)
{
	struct pv_virtq_memory memory = {
		.size = SIZE, .event_idx = event_idx, .packed = packed, .ring = arena, .slots = slots
	};
	struct pv_queue_setup setup = { 0 };

	CHECK(pv_memory_add(&race->memory, (uintptr_t)arena, sizeof(arena), arena) == 0);
	CHECK(pv_virtq_init(&race->driver, &memory) == PV_STATUS_OK);
	pv_virtq_describe(&race->driver, &setup);
	race->state = (struct pv_queue_state){
		.size = SIZE,
		.descriptors_gpa = setup.descriptors_gpa,
		.driver_gpa = setup.driver_gpa,
		.device_gpa = setup.device_gpa,
	};
	race->device = (struct pv_queue){
		.state = &race->state,
		.memory = &race->memory,
		.maximum = SIZE,
		.features = (event_idx ? PV_VIRTIO_F_EVENT_IDX : 0) | (packed ? PV_VIRTIO_F_RING_PACKED : 0),
	};
	CHECK(pv_queue_enable(&race->device) == PV_STATUS_OK);
}

int main(int argc, char **argv)
{
	static struct race race;
	pthread_t thread;

	CHECK(argc == 4);
	race.rounds = strtoull(argv[1], NULL, 10);
	race_init(&race, atoi(argv[2]), atoi(argv[3]));
	CHECK(pthread_create(&thread, NULL, device_side, &race) == 0);
	driver_side(&race);
	CHECK(pthread_join(thread, NULL) == 0);
	printf("rounds %llu\n", (unsigned long long)race.rounds);
	return 0;
}
