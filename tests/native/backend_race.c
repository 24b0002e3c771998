// SPDX-License-Identifier: BSD-2-Clause
/*
 * A back end of two threads, one with a pair of queues and a descriptor, beside its driver, which starts and resets
 * device and queues over and over while chains flow: every chain comes back, a thread that is told to stop has
 * stopped, one that waits for a time does not look meanwhile, and ThreadSanitizer finds nothing.
 *
 * usage: backend_race CYCLES SEED POLL_NS
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "backend.h"
#include "check.h"
#include "nudge.h"
#include "paravirt/virtqueue.h"

#define SIZE 8
#define QUEUES 3u
#define ROUNDS 6 /* of a life */
#define PATIENCE_NS 20000000000u
#define LIMIT_NS 300000u
#define STARTED (PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER | PV_VIRTIO_STATUS_FEATURES_OK)

static struct pv_machine machine;
static struct pv_device device;
static struct pv_backend backend;
static uint8_t arena[QUEUES][4096] __attribute__((aligned(4096)));
static uint8_t data[64];
static struct pv_virtq_slot slots[QUEUES][SIZE];
static struct pv_virtq queues[QUEUES];
static uint32_t serving[QUEUES]; /* the driver lets it be served */
static uint32_t limited; /* the next look is to wait for a time */
static uint64_t told; /* what came over the descriptor */
static int extra_fd;
static int never_fd; /* of another program's, which holds up who reads it */
static uint32_t held_up; /* 0, or one of the following */
#define WANTED 1u
#define WAITS 2u

/* In place of event.c and time.c. */
void pv_event_raise(struct pv_machine *m, uint32_t vcpu, uint32_t channel)
{
	CHECK(m == &machine && vcpu == 0 && channel < PV_LIMIT_CHANNELS);
}

uint64_t pv_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t serve(uint32_t queue)
{
	static __thread struct pv_chain chain;
	uint32_t done = 0;

	CHECK(__atomic_load_n(&serving[queue], __ATOMIC_ACQUIRE));
	while (done < 3 && pv_device_pop(&device, queue, &chain) == 1) {
		pv_queue_push(&device.queues[queue], chain.head, 0);
		done++;
	}
	if (done && pv_queue_wants_interrupt(&device.queues[queue]))
		pv_device_interrupt(&device, queue);
	return done;
}

/* Once in a while as a limit has it: chains may wait and are not taken before a time. */
static bool held_back(struct pv_backend_thread *thread)
{
	uint64_t *due_ns = thread->opaque, now_ns = pv_clock_ns();

	if (*due_ns) {
		if (now_ns >= *due_ns) {
			*due_ns = 0;
			return false;
		}
	} else if (__atomic_exchange_n(&limited, 0, __ATOMIC_RELAXED)) {
		*due_ns = now_ns + LIMIT_NS;
	} else {
		return false;
	}
	thread->due_ns = *due_ns;
	thread->unwatched = (1u << thread->queue_count) - 1;
	return true;
}

static bool turn(struct pv_backend_thread *thread)
{
	uint32_t done = 0;
	uint64_t count;

	if (thread->fd_count && __atomic_load_n(&held_up, __ATOMIC_ACQUIRE) == WANTED) {
		__atomic_store_n(&held_up, WAITS, __ATOMIC_RELEASE);
		CHECK(read(never_fd, &count, sizeof(count)) < 0 && errno == EINTR);
		__atomic_store_n(&held_up, 0, __ATOMIC_RELEASE);
		return false;
	}
	if (held_back(thread))
		return false;
	for (uint32_t i = 0; i < thread->queue_count; i++) {
		if (thread->enabled & (1u << i))
			done += serve(thread->queues[i]);
	}
	if (thread->fd_count && read(extra_fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
		__atomic_fetch_add(&told, count, __ATOMIC_RELEASE);
		done++;
	}
	return done > 0;
}

static int open_thread(struct pv_backend_thread *thread)
{
	static const int errors[] = { 0, 0, ENOTTY };

	CHECK(thread->number < 3);
	return errors[thread->number];
}

static void set_up(uint32_t n)
{
	struct pv_virtq_memory memory = { .size = SIZE, .event_idx = true, .ring = arena[n], .slots = slots[n] };
	struct pv_queue_setup setup = { .queue = (uint16_t)n, .channel = 20 };

	CHECK(pv_virtq_init(&queues[n], &memory) == PV_STATUS_OK);
	pv_virtq_describe(&queues[n], &setup);
	__atomic_store_n(&serving[n], 1, __ATOMIC_RELEASE);
	CHECK(pv_device_queue_setup(&device, &setup) == PV_STATUS_OK);
}

static void stop(uint32_t n)
{
	__atomic_store_n(&serving[n], 0, __ATOMIC_RELEASE);
}

/* `count` chains through a queue, to the last of them. */
static void flow(uint32_t n, uint32_t count)
{
	const struct pv_virtq_buffer buffer = { .gpa = (uintptr_t)data, .size_bytes = sizeof(data) };
	uint64_t begin_ns = pv_clock_ns(), one = 1;
	struct pv_virtq_completion done;
	uint32_t added = 0, taken = 0;

	while (taken < count) {
		while (added < count && pv_virtq_add(&queues[n], &buffer, 1, added) == PV_STATUS_OK)
			added++;
		if (pv_virtq_publish(&queues[n]))
			CHECK(write(device.queues[n].doorbell_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
		while (pv_virtq_get(&queues[n], &done) == 1)
			taken++;
		CHECK(pv_clock_ns() - begin_ns < PATIENCE_NS);
	}
}

static void tell(void)
{
	uint64_t before = __atomic_load_n(&told, __ATOMIC_ACQUIRE), begin_ns = pv_clock_ns(), one = 1;

	CHECK(write(extra_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
	while (__atomic_load_n(&told, __ATOMIC_ACQUIRE) == before)
		CHECK(pv_clock_ns() - begin_ns < PATIENCE_NS);
}

/* From reset to reset; some queues are set up later, some not at all. */
static uint64_t live(uint64_t *seed)
{
	uint32_t first = 1 + random_below(seed, 7);
	uint64_t chains = 0, after;

	CHECK(pv_device_set_status(&device, 0, &after) == PV_STATUS_OK);
	CHECK(pv_device_accept(&device, 0, device.offered[0]) == PV_STATUS_OK);
	CHECK(pv_device_set_status(&device, STARTED, &after) == PV_STATUS_OK);
	for (uint32_t n = 0; n < QUEUES; n++)
		if (first & (1u << n))
			set_up(n);
	CHECK(pv_device_set_status(&device, STARTED | PV_VIRTIO_STATUS_DRIVER_OK, &after) == PV_STATUS_OK);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t n = random_below(seed, QUEUES), count = 1 + random_below(seed, 40);

		__atomic_store_n(&limited, random_below(seed, 4) == 0, __ATOMIC_RELAXED);
		if (!device.queues[n].state->enabled)
			set_up(n);
		flow(n, count);
		chains += count;
		if (device.queues[0].state->enabled || device.queues[1].state->enabled)
			tell();
		if (random_below(seed, 3) == 0) {
			CHECK(pv_device_queue_reset(&device, n) == PV_STATUS_OK);
			stop(n);
		}
	}
	CHECK(pv_device_set_status(&device, 0, &after) == PV_STATUS_OK);
	for (uint32_t n = 0; n < QUEUES; n++)
		stop(n);
	return chains;
}

/* A turn that waits for ever is cut short by the reset. */
static void cut_short(void)
{
	uint64_t begin_ns = pv_clock_ns(), after;

	__atomic_store_n(&held_up, WANTED, __ATOMIC_RELEASE);
	CHECK(pv_device_accept(&device, 0, device.offered[0]) == PV_STATUS_OK);
	CHECK(pv_device_set_status(&device, STARTED, &after) == PV_STATUS_OK);
	set_up(0);
	CHECK(pv_device_set_status(&device, STARTED | PV_VIRTIO_STATUS_DRIVER_OK, &after) == PV_STATUS_OK);
	while (__atomic_load_n(&held_up, __ATOMIC_ACQUIRE) != WAITS)
		CHECK(pv_clock_ns() - begin_ns < PATIENCE_NS);
	CHECK(pv_device_set_status(&device, 0, &after) == PV_STATUS_OK);
	CHECK(__atomic_load_n(&held_up, __ATOMIC_ACQUIRE) == 0);
	stop(0);
}

static const struct pv_backend_ops ops = { .open = open_thread, .turn = turn };

static void start(uint64_t poll_ns)
{
	static const uint32_t pair[] = { 0, 1 }, single = 2;
	static uint64_t due_ns[2];
	struct pollfd fd = { .events = POLLIN };

	machine.vcpu_count = 1;
	CHECK(pv_memory_add(&machine.memory, (uintptr_t)arena, sizeof(arena), (uint8_t *)arena) == 0);
	CHECK(pv_memory_add(&machine.memory, (uintptr_t)data, sizeof(data), data) == 0);
	pv_device_init(&device, &machine);
	device.offered[0] = PV_VIRTIO_F_VERSION_1 | PV_VIRTIO_F_EVENT_IDX | PV_VIRTIO_F_RING_RESET;
	device.queue_count = QUEUES;
	for (uint32_t n = 0; n < QUEUES; n++) {
		device.queues[n].maximum = SIZE;
		device.queues[n].doorbell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
	fd.fd = extra_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	pv_backend_init(&backend, &device, &ops, "test", poll_ns);
	pv_nudge_init();
	backend.nudged = true;
	never_fd = eventfd(0, EFD_CLOEXEC);
	CHECK(pv_backend_add_watching(&backend, &due_ns[0], pair, 2, &fd, 1) == 0);
	CHECK(pv_backend_add(&backend, &due_ns[1], &single, 1) == 0);
	CHECK(pv_backend_add(&backend, NULL, &single, 1) == ENOTTY); /* one that does not open is none */
	CHECK(backend.thread_count == 2);
}

int main(int argc, char **argv)
{
	struct pv_backend_statistics statistics;
	uint64_t seed, chains = 0;

	CHECK(argc == 4);
	seed = strtoull(argv[2], NULL, 10);
	start(strtoull(argv[3], NULL, 10));
	for (uint64_t i = strtoull(argv[1], NULL, 10); i > 0; i--)
		chains += live(&seed);
	cut_short();
	pv_backend_get_statistics(&backend, &statistics);
	pv_backend_deinit(&backend);
	pv_device_deinit(&device);
	for (uint32_t n = 0; n < QUEUES; n++)
		close(device.queues[n].doorbell_fd);
	close(extra_fd);
	close(never_fd);
	printf("chains %llu sleeps %llu polls %llu\n", (unsigned long long)chains,
	       (unsigned long long)statistics.sleeps, (unsigned long long)statistics.polls);
	return 0;
}
