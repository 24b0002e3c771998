// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guest's rings against the host's, several vCPUs at once and their traps between: every completion comes,
 * in order and right; nobody who sleeps is forgotten; a ring that was taken back is not touched any more.
 *
 * usage: callring_pair ROUNDS ENTRIES SEED
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "callring_host.h"
#include "check.h"
#include "paravirt/base.h"
#include "paravirt/callring.h"

#define CHANNEL 20
#define LOST_S 60
#define PATTERN 0x5a
#define STACK_BYTES (2u * 1024 * 1024)

struct vcpu {
	struct pv_submission submissions[PV_LIMIT_RING_ENTRIES] __attribute__((aligned(64)));
	struct pv_completion completions[PV_LIMIT_RING_ENTRIES] __attribute__((aligned(64)));
	struct pv_ring_control control __attribute__((aligned(64)));
	struct pv_callring ring;
	uint32_t index;
	uint64_t seed;
	uint64_t rounds;
	uint64_t calls;
	uint64_t doorbells;
	uint64_t sleeps;
};

static struct {
	uint8_t stacks[HOST_VCPUS][STACK_BYTES]; /* what a guest hands over may lie on its stack */
	struct vcpu vcpus[HOST_VCPUS];
	uint8_t pages[(HOST_VCPUS + 1) * 4096] __attribute__((aligned(4096)));
} arena __attribute__((aligned(4096)));
static uint32_t entries;
static __thread uint32_t this_vcpu;

/* Variables on the stack lie there and nowhere else. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_stack_use_after_return=0";
}

/* The guest library's trap and doorbell. */
struct pv_answer pv_call(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	const uint64_t args[6] = { a0, a1, a2, a3, a4, a5 };
	struct pv_answer answer;

	answer.status = host_trap(this_vcpu, id, args, &answer.value);
	return answer;
}

void pv_out32(uint16_t port, uint32_t value)
{
	CHECK(port == 0x5054);
	host_doorbell(value);
}

/* What a handler of the channel would do: true if it was raised. */
static bool lowered(struct pv_vcpu_page *page)
{
	return __atomic_fetch_and(&page->pending[0], ~(1ull << CHANNEL), __ATOMIC_SEQ_CST) >> CHANNEL & 1;
}

static uint64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

static void wait_for(struct vcpu *v, uint32_t count)
{
	uint64_t since = now_s();

	lowered(host_page(v->index));
	while (pv_callring_want(&v->ring, count)) {
		v->sleeps++;
		while (!lowered(host_page(v->index))) {
			CHECK(now_s() - since < LOST_S); /* a lost event */
			sched_yield();
		}
	}
}

/* One of a few calls, by its number, which is its cookie. */
static void submit(struct vcpu *v, uint32_t n)
{
	uint64_t args[6] = { 0 };
	uint32_t call = PV_CALL_BASE_VERSION;

	switch (n % 5) {
	case 0:
		break;
	case 1:
		call = PV_CALL_EVENT_SEND;
		args[0] = (v->index + 1) % HOST_VCPUS;
		args[1] = 100;
		break;
	case 2:
		call = PV_CALL_TIME_DEADLINE;
		args[0] = PV_DEADLINE_NEVER - 1 - n;
		break;
	case 3:
		call = PV_CALL_VCPU_BLOCK; /* WRONG_ROAD */
		break;
	default:
		args[5] = 1; /* INVALID */
	}
	CHECK(pv_callring_add(&v->ring, call, n, args));
}

static void check(const struct pv_completion *done, uint32_t n)
{
	static const int64_t statuses[] = { PV_STATUS_OK, PV_STATUS_OK, PV_STATUS_OK, PV_STATUS_WRONG_ROAD,
					    PV_STATUS_INVALID };

	CHECK(done->cookie == n);
	CHECK(done->status == statuses[n % 5]);
	CHECK(n % 5 || done->value == ((uint64_t)PV_ABI_MAJOR << 32 | PV_ABI_MINOR));
}

static void round_trip(struct vcpu *v)
{
	static const uint64_t deadline[6] = { PV_DEADLINE_NEVER - 1 };
	uint32_t count = 1 + random_below(&v->seed, entries), first = (uint32_t)v->calls;
	bool sleeps = random_below(&v->seed, 2);
	struct pv_completion done;
	uint64_t value;

	for (uint32_t i = 0; i < count; i++) {
		submit(v, first + i);
		if (random_below(&v->seed, 8) == 0)
			pv_callring_publish(&v->ring);
	}
	pv_callring_publish(&v->ring);
	CHECK(host_trap(v->index, PV_CALL_TIME_DEADLINE, deadline, &value) == PV_STATUS_OK);
	for (uint32_t i = 0; i < count; i++) {
		if (sleeps)
			wait_for(v, 1 + random_below(&v->seed, count - i));
		while (!pv_callring_take(&v->ring, &done))
			sched_yield();
		check(&done, first + i);
	}
	CHECK(!pv_callring_take(&v->ring, &done));
	v->calls += count;
}

/* RING-12: what was submitted last may or may not be done, but afterwards the memory is ours alone. */
static void take_back(struct vcpu *v)
{
	for (uint32_t i = 0; i < entries; i++)
		submit(v, i);
	pv_callring_publish(&v->ring);
	if (random_below(&v->seed, 2))
		sched_yield();
	v->doorbells += v->ring.doorbells;
	CHECK(pv_callring_deinit(&v->ring) == PV_STATUS_OK);
	CHECK(pv_callring_state(&v->ring) == PV_RING_STATE_OFF);
	memset(v->completions, PATTERN, sizeof(v->completions));
	memset(&v->control, PATTERN, sizeof(v->control));
	for (uint32_t i = 0; i < 20; i++)
		sched_yield();
	for (uint32_t i = 0; i < sizeof(v->completions); i++)
		CHECK(((const uint8_t *)v->completions)[i] == PATTERN);
	for (uint32_t i = 0; i < sizeof(v->control); i++)
		CHECK(((const uint8_t *)&v->control)[i] == PATTERN);
}

static void *run(void *argument)
{
	struct vcpu *v = argument;

	this_vcpu = v->index;
	while (v->rounds) {
		CHECK(pv_callring_init(&v->ring, v->index, CHANNEL, 0x5054) == PV_STATUS_OK);
		for (uint32_t i = random_below(&v->seed, 200); i && v->rounds; i--, v->rounds--)
			round_trip(v);
		take_back(v);
	}
	return NULL;
}

static void vcpu_start(struct vcpu *v, pthread_t *thread)
{
	pthread_attr_t attributes;

	v->ring = (struct pv_callring){
		.submissions = v->submissions,
		.completions = v->completions,
		.control = &v->control,
		.entries = entries,
	};
	CHECK(pthread_attr_init(&attributes) == 0);
	CHECK(pthread_attr_setstack(&attributes, arena.stacks[v->index], STACK_BYTES) == 0);
	CHECK(pthread_create(thread, &attributes, run, v) == 0);
	pthread_attr_destroy(&attributes);
}

int main(int argc, char **argv)
{
	pthread_t threads[HOST_VCPUS];
	uint64_t calls = 0, doorbells = 0, sleeps = 0;

	CHECK(argc == 4);
	entries = (uint32_t)strtoul(argv[2], NULL, 10);
	host_start(&arena, sizeof(arena));
	for (uint32_t i = 0; i < HOST_VCPUS; i++) {
		struct vcpu *v = &arena.vcpus[i];

		v->index = i;
		v->seed = strtoull(argv[3], NULL, 10) + i;
		v->rounds = strtoull(argv[1], NULL, 10);
		vcpu_start(v, &threads[i]);
	}
	for (uint32_t i = 0; i < HOST_VCPUS; i++) {
		CHECK(pthread_join(threads[i], NULL) == 0);
		calls += arena.vcpus[i].calls;
		doorbells += arena.vcpus[i].doorbells;
		sleeps += arena.vcpus[i].sleeps;
	}
	host_stop();
	for (uint32_t i = 0; i < HOST_VCPUS; i++) {
		CHECK(!host_ring_fault(i));
		CHECK(host_ring_calls(i) >= arena.vcpus[i].calls);
	}
	printf("calls %llu doorbells %llu sleeps %llu\n", (unsigned long long)calls, (unsigned long long)doorbells,
	       (unsigned long long)sleeps);
	return 0;
}
