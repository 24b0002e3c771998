// SPDX-License-Identifier: BSD-2-Clause
/*
 * A device that is killed again and again, at any instruction, and goes on each time from the memory that it kept its
 * chains in: each comes back once, done, and none is lost.  The driver lives through it all, and believes nothing.
 *
 * usage: inflight_crash SIZE CHAINS INDIRECT PACKED IN_ORDER SEED
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "host.h"
#include "inflight.h"
#include "paravirt/virtqueue.h"

#define BUFFERS 4 /* at most, per chain */
#define HELD 12 /* chains that the device keeps before it completes some */
#define KEPT 3 /* that most devices die with */
#define LIFE_NS 400000u
#define PATIENCE_NS 90000000000ull /* on a machine that does much else */
#define ANSWER(question) ((question)*0x9e3779b97f4a7c15ull + 1)

struct request {
	uint64_t question[BUFFERS - 1];
	uint64_t answer;
	uint32_t count; /* of questions; 0: it is free */
};

/* What a successor finds: the ring, and the region beside it. */
struct shared {
	uint8_t ring[PV_VIRTQ_RING_BYTES(PV_LIMIT_QUEUE_SIZE)] __attribute__((aligned(PV_VIRTQ_RING_ALIGN)));
	struct pv_virtq_desc indirect[PV_LIMIT_QUEUE_SIZE * BUFFERS] __attribute__((aligned(16)));
	uint8_t region[64 + 32 * PV_LIMIT_QUEUE_SIZE] __attribute__((aligned(64)));
	struct request requests[PV_LIMIT_QUEUE_SIZE];
	uint64_t taken; /* chains, those of predecessors included */
};

struct test {
	struct shared *shared;
	uint64_t chains;
	uint64_t seed;
	uint64_t features;
	struct pv_virtq driver;
	struct pv_queue_setup setup;
};

static struct pv_virtq_slot slots[PV_LIMIT_QUEUE_SIZE];

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the device, in a process that does not end by itself ---- */

static void complete(struct pv_queue *queue, const struct pv_chain *chain, bool stays)
{
	uint64_t question[BUFFERS - 1], answer = 0;
	uint64_t got = pv_chain_read(chain, 0, question, sizeof(question));

	for (uint64_t i = 0; i < got / sizeof(question[0]); i++)
		answer += ANSWER(question[i]);
	pv_chain_write(chain, 0, &answer, sizeof(answer));
	if (stays)
		pv_queue_stage(queue, chain->head, sizeof(answer));
	else
		pv_queue_push(queue, chain->head, sizeof(answer));
}

static void serve(const struct test *t, uint64_t seed, uint32_t stay)
{
	static struct pv_chain held[HELD];
	static struct pv_inflight inflight;
	static struct pv_memory memory;
	const struct pv_virtq_used *used = (const void *)(uintptr_t)t->setup.device_gpa;
	struct pv_queue_state state = {
		.size = t->setup.size,
		.descriptors_gpa = t->setup.descriptors_gpa,
		.driver_gpa = t->setup.driver_gpa,
		.device_gpa = t->setup.device_gpa,
	};
	struct pv_queue queue = { .state = &state, .memory = &memory, .maximum = 256, .features = t->features };
	uint32_t count = 0;

	CHECK(pv_memory_add(&memory, (uintptr_t)t->shared, sizeof(*t->shared), t->shared) == 0);
	CHECK(pv_queue_enable(&queue) == PV_STATUS_OK);
	if (!(t->features & PV_VIRTIO_F_RING_PACKED))
		state.next_avail = state.next_used = state.signalled = used->index;
	CHECK(pv_inflight_begin(&inflight, &queue, t->shared->region, sizeof(t->shared->region)));
	for (;;) {
		int got = 0;

		while (count < HELD && (got = pv_queue_pop(&queue, &held[count])) > 0) {
			count++;
			t->shared->taken++;
		}
		CHECK(got >= 0);
		while (count > stay && random_below(&seed, 3)) {
			uint32_t n = t->features & PV_VIRTIO_F_IN_ORDER ? 0 : random_below(&seed, count);

			complete(&queue, &held[n], random_below(&seed, 2));
			memmove(&held[n], &held[n + 1], (--count - n) * sizeof(held[0]));
		}
		pv_queue_publish(&queue);
	}
}

/* ---- the driver ---- */

static void submit(struct test *t, uint64_t *submitted)
{
	while (*submitted < t->chains && random_below(&t->seed, 8)) {
		struct pv_virtq_buffer buffers[BUFFERS];
		struct request *r = t->shared->requests;
		uint32_t count = 1 + random_below(&t->seed, BUFFERS - 1);

		while (r->count && ++r < t->shared->requests + t->setup.size)
			;
		if (r == t->shared->requests + t->setup.size)
			break;
		for (uint32_t i = 0; i < count; i++) {
			r->question[i] = random_next(&t->seed);
			buffers[i] = (struct pv_virtq_buffer){ (uintptr_t)&r->question[i], 8, false };
		}
		r->answer = 0;
		buffers[count] = (struct pv_virtq_buffer){ (uintptr_t)&r->answer, 8, true };
		if (pv_virtq_add(&t->driver, buffers, count + 1, (uintptr_t)r) != PV_STATUS_OK)
			break;
		r->count = count;
		++*submitted;
	}
	pv_virtq_publish(&t->driver);
}

/* Takes what came back; how many. */
static uint64_t collect(struct test *t)
{
	struct pv_virtq_completion done;
	uint64_t completed = 0;
	int got;

	while ((got = pv_virtq_get(&t->driver, &done)) > 0) {
		struct request *r = (struct request *)(uintptr_t)done.cookie;
		uint64_t answer = 0;

		for (uint32_t i = 0; i < r->count; i++)
			answer += ANSWER(r->question[i]);
		CHECK(r->count && r->answer == answer);
		r->count = 0;
		completed++;
	}
	CHECK(got == 0); /* a chain that comes back twice breaks the queue */
	return completed;
}

static void drive(struct test *t)
{
	uint64_t submitted = 0, completed = 0, deaths = 0, begin = now_ns();

	while (completed < t->chains) {
		uint64_t until = now_ns() + random_below(&t->seed, LIFE_NS), device_seed = random_next(&t->seed);
		pid_t device = fork();
		int status;

		CHECK(device >= 0);
		if (!device) {
			serve(t, device_seed, deaths % 4 ? KEPT : 0);
			_exit(0);
		}
		while (now_ns() < until) {
			submit(t, &submitted);
			completed += collect(t);
		}
		kill(device, SIGKILL);
		CHECK(waitpid(device, &status, 0) == device);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		deaths++;
		CHECK(now_ns() - begin < PATIENCE_NS);
	}
	printf("chains %llu deaths %llu again %llu\n", (unsigned long long)completed, (unsigned long long)deaths,
	       (unsigned long long)(t->shared->taken - completed));
}

int main(int argc, char **argv)
{
	struct test t = { .features = PV_VIRTIO_F_INDIRECT_DESC };

	CHECK(argc == 7);
	t.chains = (uint64_t)atoll(argv[2]);
	t.seed = (uint64_t)atoll(argv[6]);
	t.features |= atoi(argv[4]) ? PV_VIRTIO_F_RING_PACKED : 0;
	t.features |= atoi(argv[5]) ? PV_VIRTIO_F_IN_ORDER : 0;
	t.shared = mmap(NULL, sizeof(*t.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(t.shared != MAP_FAILED);
	struct pv_virtq_memory memory = {
		.size = (uint16_t)atoi(argv[1]),
		.packed = atoi(argv[4]),
		.in_order = atoi(argv[5]),
		.ring = t.shared->ring,
		.slots = slots,
		.indirect = atoi(argv[3]) ? t.shared->indirect : NULL,
		.indirect_count = BUFFERS,
	};
	CHECK(pv_virtq_init(&t.driver, &memory) == PV_STATUS_OK);
	pv_virtq_describe(&t.driver, &t.setup);
	drive(&t);
	return 0;
}
