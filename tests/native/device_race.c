// SPDX-License-Identifier: BSD-2-Clause
/*
 * A device between its driver, another vCPU that meddles, and a back end's thread: started and reset
 * over and over, while chains flow, faults happen and events are bound elsewhere.  Nobody waits for
 * ever, every activation is taken back, and ThreadSanitizer finds nothing.
 *
 * usage: device_race CYCLES SEED
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "check.h"
#include "host.h"
#include "paravirt/virtqueue.h"

#define SIZE 8
#define STARTED (PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER | PV_VIRTIO_STATUS_FEATURES_OK)

static struct pv_machine machine;
static struct pv_device device;
static uint8_t arena[8192] __attribute__((aligned(PV_VIRTQ_RING_ALIGN)));
static struct pv_virtq_slot slots[SIZE];
static uint32_t raised, activated, taken_back, stop_back_end, stop_meddling;
static pthread_t back_end;

/* In place of event.c and time.c. */
void pv_event_raise(struct pv_machine *m, uint32_t vcpu, uint32_t channel)
{
	CHECK(m == &machine && vcpu < 2 && channel < PV_LIMIT_CHANNELS);
	__atomic_fetch_add(&raised, 1, __ATOMIC_RELAXED);
}

uint64_t pv_clock_ns(void)
{
	static uint64_t ticks;

	return __atomic_add_fetch(&ticks, 1000000, __ATOMIC_RELAXED);
}

static void *serve(void *argument)
{
	static struct pv_chain chain;
	uint64_t seed = (uintptr_t)argument;

	while (!__atomic_load_n(&stop_back_end, __ATOMIC_ACQUIRE)) {
		if (pv_device_pop(&device, 0, &chain) != 1) {
			sched_yield();
			continue;
		}
		pv_queue_push(&device.queues[0], chain.head, 0);
		if (pv_queue_wants_interrupt(&device.queues[0]))
			pv_device_interrupt(&device, 0);
		if (random_below(&seed, 50) == 0)
			pv_device_fault(&device, "TEST-1");
	}
	return NULL;
}

static void activate(struct pv_device *d)
{
	CHECK(d == &device);
	__atomic_store_n(&stop_back_end, 0, __ATOMIC_RELEASE);
	CHECK(pthread_create(&back_end, NULL, serve, (void *)(uintptr_t)(++activated | 1u)) == 0);
}

static void reset(struct pv_device *d)
{
	CHECK(d == &device);
	__atomic_store_n(&stop_back_end, 1, __ATOMIC_RELEASE);
	CHECK(pthread_join(back_end, NULL) == 0);
	taken_back++;
}

/* Another vCPU, whose calls are as good as the driver's; and the host, which changes the configuration. */
static void *meddle(void *argument)
{
	uint64_t seed = *(const uint64_t *)argument, after;
	uint8_t bytes[16];

	while (!__atomic_load_n(&stop_meddling, __ATOMIC_RELAXED)) {
		switch (random_below(&seed, 8)) {
		case 0:
			pv_device_bind(&device, 0, random_below(&seed, 3), random_below(&seed, 300));
			break;
		case 1:
			pv_device_bind(&device, PV_BINDING_CONFIG, 1, random_below(&seed, 2) ? 30 : PV_NO_CHANNEL);
			break;
		case 2:
			pv_device_notify(&device, random_below(&seed, 3));
			break;
		case 3:
			CHECK(pv_device_config_read(&device, 0, bytes, 16) == PV_STATUS_OK);
			for (uint32_t i = 1; i < 16; i++) /* never torn */
				CHECK(bytes[i] == bytes[0]);
			break;
		case 4:
			memset(bytes, (int)random_below(&seed, 256), sizeof(bytes));
			pv_device_set_config(&device, bytes, sizeof(bytes));
			break;
		case 5:
			pv_device_set_status(&device, random_below(&seed, 20) ? 0x100 : 0, &after);
			break;
		case 6:
			pv_device_set_status(&device, STARTED, &after);
			break;
		default:
			pv_mmio_read(&device, PV_MMIO_STATUS, 4);
		}
		sched_yield();
	}
	return NULL;
}

/* From reset to DRIVER_OK; false if the other vCPU came between. */
static bool start(struct pv_virtq *queue)
{
	struct pv_virtq_memory memory = { .size = SIZE, .event_idx = true, .ring = arena, .slots = slots };
	struct pv_queue_setup setup = { .vcpu = 1, .channel = 20 };
	uint64_t after;

	CHECK(pv_device_set_status(&device, 0, &after) == PV_STATUS_OK);
	CHECK(pv_virtq_init(queue, &memory) == PV_STATUS_OK);
	pv_virtq_describe(queue, &setup);
	pv_device_accept(&device, 0, device.offered[0]);
	pv_device_set_status(&device, STARTED, &after);
	return pv_device_queue_setup(&device, &setup) == PV_STATUS_OK &&
	       pv_device_set_status(&device, STARTED | PV_VIRTIO_STATUS_DRIVER_OK, &after) == PV_STATUS_OK;
}

static uint64_t drive(uint64_t cycles)
{
	const struct pv_virtq_buffer buffer = { .gpa = (uintptr_t)arena + 4096, .size_bytes = 64 };
	struct pv_virtq_completion done;
	struct pv_virtq queue;
	uint64_t completed = 0;

	for (uint64_t i = 0; i < cycles; i++) {
		if (!start(&queue))
			continue;
		/* until the device faults, is reset by the other one, or for a while */
		for (uint32_t turns = 0; turns < 300; turns++) {
			while (pv_virtq_add(&queue, &buffer, 1, i) == PV_STATUS_OK)
				;
			if (pv_virtq_publish(&queue))
				pv_device_notify(&device, 0);
			while (pv_virtq_get(&queue, &done) == 1)
				completed += done.cookie == i;
			sched_yield();
		}
	}
	return completed;
}

static void device_start(void)
{
	machine.vcpu_count = 2;
	machine.doorbell_budget = 500;
	CHECK(pv_memory_add(&machine.memory, (uintptr_t)arena, sizeof(arena), arena) == 0);
	pv_device_init(&device, &machine);
	device.offered[0] = PV_VIRTIO_F_VERSION_1 | PV_VIRTIO_F_EVENT_IDX;
	device.config_bytes = 16;
	device.queue_count = 1;
	device.queues[0].maximum = SIZE;
	device.ops = (struct pv_device_ops){ .activate = activate, .reset = reset };
}

int main(int argc, char **argv)
{
	pthread_t meddler;
	uint64_t seed;

	CHECK(argc == 3);
	seed = strtoull(argv[2], NULL, 10);
	device_start();
	CHECK(pthread_create(&meddler, NULL, meddle, &seed) == 0);
	uint64_t completed = drive(strtoull(argv[1], NULL, 10));
	__atomic_store_n(&stop_meddling, 1, __ATOMIC_RELAXED);
	CHECK(pthread_join(meddler, NULL) == 0);
	pv_device_deinit(&device);
	CHECK(activated == taken_back);
	printf("activated %u completed %llu raised %u\n", activated, (unsigned long long)completed, raised);
	return 0;
}
