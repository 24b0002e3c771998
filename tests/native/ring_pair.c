// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guest driver's ring against the host's in one process, a thread each, over shared memory and two
 * eventfds: random chains, completed out of order or in batches, by interrupts and by polling.  Checks every
 * byte, and that nobody waits for a notification that never comes.
 *
 * usage: ring_pair SIZE CHAINS EVENT_IDX INDIRECT PACKED IN_ORDER SEED
 */
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "host.h"
#include "paravirt/virtqueue.h"

#define BUFFERS 8 /* at most, per chain */
#define BUFFER_BYTES 96
#define HELD 12 /* chains that the device keeps before it completes some */
#define LOST_MS 20000

struct request {
	uint64_t sequence;
	uint32_t count;
	struct pv_virtq_buffer buffers[BUFFERS];
	uint8_t bytes[BUFFERS][BUFFER_BYTES];
};

struct pair {
	uint64_t chains;
	uint64_t driver_seed;
	uint64_t device_seed;
	int doorbell;
	int interrupt;
	uint64_t doorbells;
	uint64_t interrupts;
	bool in_order;
	struct pv_virtq driver;
	struct pv_queue device;
	struct pv_queue_state state;
	struct pv_memory memory;
};

static struct request requests[PV_LIMIT_QUEUE_SIZE];
static struct pv_virtq_slot slots[PV_LIMIT_QUEUE_SIZE];
static struct pv_virtq_desc indirect[PV_LIMIT_QUEUE_SIZE * BUFFERS] __attribute__((aligned(16)));
static uint8_t ring[PV_VIRTQ_RING_BYTES(PV_LIMIT_QUEUE_SIZE)] __attribute__((aligned(PV_VIRTQ_RING_ALIGN)));

static void tell(int fd)
{
	const uint64_t one = 1;

	CHECK(write(fd, &one, sizeof(one)) == sizeof(one));
}

static void await(int fd, const char *what)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t count;

	if (poll(&p, 1, LOST_MS) != 1) {
		fprintf(stderr, "lost: %s\n", what);
		exit(1);
	}
	CHECK(read(fd, &count, sizeof(count)) == sizeof(count));
}

static uint64_t mixed(uint64_t hash, const uint8_t *bytes, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	return hash;
}

/* What the device answers: of the room all or so many bytes, each made from the hash of what it read. */
static uint32_t answer_bytes(uint64_t hash, uint64_t room)
{
	return (uint32_t)(hash >> 60 & 1 ? room : (hash >> 20) % (room + 1));
}

static uint8_t answer_byte(uint64_t hash, uint64_t offset)
{
	return (uint8_t)(hash >> 8 * (offset % 8)) ^ (uint8_t)offset;
}

static void fill(struct request *r, uint64_t sequence, uint32_t most, uint64_t *seed)
{
	uint32_t readable;

	r->sequence = sequence;
	r->count = 1 + random_below(seed, most);
	readable = 1 + random_below(seed, r->count);
	for (uint32_t i = 0; i < r->count; i++) {
		r->buffers[i] = (struct pv_virtq_buffer){
			.gpa = (uintptr_t)r->bytes[i],
			.size_bytes = 8 + random_below(seed, BUFFER_BYTES - 8 + 1),
			.write = i >= readable,
		};
		for (uint32_t b = 0; b < BUFFER_BYTES; b += 8)
			memcpy(&r->bytes[i][b], &(uint64_t){ random_next(seed) }, 8);
	}
}

/* The device's answer to a request, byte for byte, and nothing beyond it. */
static void verify(const struct request *r, uint32_t written_bytes)
{
	uint64_t hash = 0xcbf29ce484222325ull, room = 0, offset = 0;

	for (uint32_t i = 0; i < r->count; i++) {
		if (r->buffers[i].write)
			room += r->buffers[i].size_bytes;
		else
			hash = mixed(hash, r->bytes[i], r->buffers[i].size_bytes);
	}
	CHECK(written_bytes == answer_bytes(hash, room));
	for (uint32_t i = 0; i < r->count; i++)
		for (uint32_t b = 0; r->buffers[i].write && b < r->buffers[i].size_bytes; b++, offset++)
			CHECK(offset >= written_bytes || r->bytes[i][b] == answer_byte(hash, offset));
}

static uint64_t submit(struct pair *p, uint64_t sequence, uint32_t *free_requests, uint32_t *free_count)
{
	uint32_t most = p->driver.memory.size < BUFFERS ? p->driver.memory.size : BUFFERS;
	uint32_t batch = 1 + random_below(&p->driver_seed, p->driver.memory.size);

	while (batch-- && *free_count && sequence < p->chains) {
		struct request *r = &requests[free_requests[*free_count - 1]];

		fill(r, sequence, most, &p->driver_seed);
		int added = pv_virtq_add(&p->driver, r->buffers, r->count, (uint64_t)(r - requests));
		if (added == PV_STATUS_BAD_STATE)
			break;
		CHECK(added == PV_STATUS_OK);
		--*free_count;
		sequence++;
	}
	if (pv_virtq_publish(&p->driver)) {
		p->doorbells++;
		tell(p->doorbell);
	}
	return sequence;
}

static void drive(struct pair *p)
{
	uint32_t free_requests[PV_LIMIT_QUEUE_SIZE], free_count = p->driver.memory.size;
	uint64_t submitted = 0, completed = 0;

	for (uint32_t i = 0; i < free_count; i++)
		free_requests[i] = i;
	while (completed < p->chains) {
		struct pv_virtq_completion done;
		int got;

		submitted = submit(p, submitted, free_requests, &free_count);
		while ((got = pv_virtq_get(&p->driver, &done)) > 0) {
			verify(&requests[done.cookie], done.written_bytes);
			free_requests[free_count++] = (uint32_t)done.cookie;
			completed++;
		}
		CHECK(got == 0);
		if (submitted == completed || random_below(&p->driver_seed, 3) == 0)
			continue;
		if (!pv_virtq_arm(&p->driver))
			await(p->interrupt, "interrupt");
		if (random_below(&p->driver_seed, 2))
			pv_virtq_disarm(&p->driver);
	}
}

static void complete(struct pair *p, const struct pv_chain *chain)
{
	uint8_t bytes[BUFFERS * BUFFER_BYTES];
	uint64_t got = pv_chain_read(chain, 0, bytes, sizeof(bytes));
	CHECK(got == chain->readable_bytes);
	uint64_t hash = mixed(0xcbf29ce484222325ull, bytes, got);
	uint32_t written = answer_bytes(hash, chain->writable_bytes);

	for (uint32_t i = 0; i < written; i++)
		bytes[i] = answer_byte(hash, i);
	/* in two parts: offsets inside and across segments */
	CHECK(pv_chain_write(chain, 0, bytes, written / 3) == written / 3);
	CHECK(pv_chain_write(chain, written / 3, bytes + written / 3, written - written / 3) == written - written / 3);
	if (random_below(&p->device_seed, 2))
		pv_queue_push(&p->device, chain->head, written);
	else
		pv_queue_stage(&p->device, chain->head, written);
}

static void *serve(void *argument)
{
	static struct pv_chain held[HELD];
	struct pair *p = argument;
	uint64_t completed = 0;
	uint32_t count = 0;

	while (completed < p->chains) {
		int popped = 0;

		while (count < HELD && (popped = pv_queue_pop(&p->device, &held[count])) == 1)
			count++;
		CHECK(popped >= 0);
		/* all of it before it sleeps, for the driver may have no more to give */
		for (uint32_t n = popped ? 1 + random_below(&p->device_seed, count) : count; n > 0; n--) {
			uint32_t i = p->in_order ? 0 : random_below(&p->device_seed, count);

			complete(p, &held[i]);
			completed++;
			count--;
			if (p->in_order)
				memmove(&held[0], &held[1], count * sizeof(held[0]));
			else
				held[i] = held[count];
		}
		if (pv_queue_wants_interrupt(&p->device)) {
			p->interrupts++;
			tell(p->interrupt);
		}
		if (count || completed == p->chains || random_below(&p->device_seed, 3) == 0)
			continue;
		if (!pv_queue_arm(&p->device))
			await(p->doorbell, "doorbell");
		if (random_below(&p->device_seed, 2))
			pv_queue_disarm(&p->device);
	}
	return NULL;
}

static void pair_init(struct pair *p, char **argv)
{
	struct pv_virtq_memory memory = {
		.size = (uint16_t)atoi(argv[1]),
		.event_idx = atoi(argv[3]),
		.packed = atoi(argv[5]),
		.in_order = atoi(argv[6]),
		.ring = ring,
		.slots = slots,
		.indirect = atoi(argv[4]) ? indirect : NULL,
		.indirect_count = (uint16_t)(atoi(argv[1]) < BUFFERS ? atoi(argv[1]) : BUFFERS),
	};
	struct pv_queue_setup setup = { 0 };

	p->chains = strtoull(argv[2], NULL, 10);
	p->driver_seed = strtoull(argv[7], NULL, 10);
	p->device_seed = ~p->driver_seed;
	p->in_order = memory.in_order;
	p->doorbell = eventfd(0, 0);
	p->interrupt = eventfd(0, 0);
	/* guest-physical addresses are host addresses here */
	CHECK(pv_memory_add(&p->memory, (uintptr_t)ring, sizeof(ring), ring) == 0);
	CHECK(pv_memory_add(&p->memory, (uintptr_t)requests, sizeof(requests), requests) == 0);
	CHECK(pv_memory_add(&p->memory, (uintptr_t)indirect, sizeof(indirect), indirect) == 0);
	CHECK(pv_virtq_init(&p->driver, &memory) == PV_STATUS_OK);
	pv_virtq_describe(&p->driver, &setup);
	p->state = (struct pv_queue_state){
		.size = setup.size,
		.descriptors_gpa = setup.descriptors_gpa,
		.driver_gpa = setup.driver_gpa,
		.device_gpa = setup.device_gpa,
	};
	p->device = (struct pv_queue){
		.state = &p->state,
		.memory = &p->memory,
		.maximum = PV_MAX_QUEUE_SIZE,
		.features = PV_VIRTIO_F_VERSION_1 | (memory.event_idx ? PV_VIRTIO_F_EVENT_IDX : 0) |
			    (memory.indirect ? PV_VIRTIO_F_INDIRECT_DESC : 0) |
			    (memory.packed ? PV_VIRTIO_F_RING_PACKED : 0) |
			    (memory.in_order ? PV_VIRTIO_F_IN_ORDER : 0),
	};
	CHECK(pv_queue_enable(&p->device) == PV_STATUS_OK);
}

int main(int argc, char **argv)
{
	static struct pair pair;
	pthread_t thread;

	CHECK(argc == 8);
	pair_init(&pair, argv);
	CHECK(pthread_create(&thread, NULL, serve, &pair) == 0);
	drive(&pair);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(pair.state.next_used == (pair.driver.memory.packed ? pair.driver.next_used : (uint16_t)pair.chains));
	printf("chains %llu doorbells %llu interrupts %llu\n", (unsigned long long)pair.chains,
	       (unsigned long long)pair.doorbells, (unsigned long long)pair.interrupts);
	return 0;
}
