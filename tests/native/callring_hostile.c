// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest that changes indexes, wishes, submissions and completions while the host works with them, and
 * takes rings in and out of use: the sanitizers find nothing, and the host ends in good order (RING-8, CALL-12).
 *
 * usage: callring_hostile ROUNDS SEED
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "callring_host.h"
#include "check.h"

#define ARENA_BYTES (256u * 1024)
#define AREA_BYTES 32768u /* of a vCPU's ring */
#define CONTROL 0u
#define SUBMISSIONS 4096u
#define COMPLETIONS 24576u

static uint8_t arena[ARENA_BYTES] __attribute__((aligned(4096)));
static uint32_t stop, faults;
static uint64_t refused;

static uint64_t gpa_of(uint32_t vcpu, uint32_t offset)
{
	return (uintptr_t)arena + vcpu * AREA_BYTES + offset;
}

static struct pv_ring_control *control_of(uint32_t vcpu)
{
	return (struct pv_ring_control *)gpa_of(vcpu, CONTROL);
}

/* A number that is worth trying. */
static uint64_t number(uint64_t *seed)
{
	switch (random_below(seed, 4)) {
	case 0:
		return random_below(seed, 300);
	case 1:
		return (uintptr_t)arena + random_below(seed, ARENA_BYTES + 64);
	case 2:
		return ~(uint64_t)0 - random_below(seed, 70);
	default:
		return random_next(seed);
	}
}

static void submission(uint64_t *seed, uint32_t vcpu)
{
	struct pv_submission *s = (struct pv_submission *)gpa_of(vcpu, SUBMISSIONS) + random_below(seed, 256);

	s->call = (1 + random_below(seed, 12)) << 16 | random_below(seed, 16);
	if (s->call == PV_CALL_BASE_ACCEPT) /* so that the ring road stays */
		s->call = PV_CALL_BASE_LIMIT;
	s->flags = random_below(seed, 30) == 0;
	for (uint32_t i = 0; i < 6; i++)
		s->args[i] = random_below(seed, 3) ? 0 : number(seed);
	s->cookie = random_next(seed);
}

/* Writes where the host reads and writes, with no regard for it. */
static void *scribble(void *argument)
{
	uint64_t seed = *(const uint64_t *)argument;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint32_t vcpu = random_below(&seed, HOST_VCPUS);
		struct pv_ring_control *control = control_of(vcpu);

		switch (random_below(&seed, 8)) {
		case 0:
			if (random_below(&seed, 200) == 0)
				__atomic_store_n(&control->submission_tail, (uint32_t)random_next(&seed),
						 __ATOMIC_RELAXED);
			break;
		case 1:
			__atomic_store_n(&control->completion_tail, (uint32_t)random_next(&seed), __ATOMIC_RELAXED);
			break;
		case 2:
			__atomic_store_n(&control->completion_event, (uint32_t)random_next(&seed), __ATOMIC_RELAXED);
			break;
		case 3:
			__atomic_store_n(&control->doorbell_wanted, random_below(&seed, 3), __ATOMIC_RELAXED);
			break;
		case 4:
			host_doorbell((uint32_t)PV_RING_DOORBELL << 16 | random_below(&seed, 80));
			break;
		default:
			submission(&seed, vcpu);
			__atomic_fetch_add(&control->submission_tail, random_below(&seed, 4), __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

static struct pv_ring_setup *describe(uint64_t *seed, uint32_t vcpu)
{
	struct pv_ring_setup *setup = (struct pv_ring_setup *)gpa_of(vcpu, 2048);

	memset(setup, 0, sizeof(*setup));
	setup->control_gpa = gpa_of(vcpu, CONTROL);
	setup->submissions_gpa = gpa_of(vcpu, SUBMISSIONS);
	setup->completions_gpa = gpa_of(vcpu, COMPLETIONS);
	setup->entries = 1u << random_below(seed, 9);
	setup->channel = random_below(seed, 2) ? 20 : PV_RING_NO_CHANNEL;
	switch (random_below(seed, 12)) {
	case 0:
		setup->control_gpa = number(seed);
		break;
	case 1:
		setup->submissions_gpa = number(seed) & ~(uint64_t)63; /* perhaps over another ring, or a page */
		break;
	case 2:
		setup->completions_gpa = number(seed) & ~(uint64_t)31;
		break;
	case 3:
		setup->entries = (uint32_t)number(seed);
		break;
	default:
		break;
	}
	return setup;
}

static void set_up_and_remove(uint64_t *seed, uint32_t vcpu)
{
	static const uint64_t none[6];
	const uint64_t one[6] = { gpa_of(vcpu, 2048), 1 };
	uint64_t value;

	describe(seed, vcpu);
	__atomic_store_n(&control_of(vcpu)->submission_tail, 0, __ATOMIC_RELAXED);
	int64_t status = host_trap(vcpu, PV_CALL_BASE_RING, one, &value);
	CHECK(status <= 0 && status != PV_STATUS_NOT_SUPPORTED);
	refused += status < 0;
	for (uint32_t i = random_below(seed, 30); i; i--)
		sched_yield();
	faults += __atomic_load_n(&control_of(vcpu)->state, __ATOMIC_RELAXED) == PV_RING_STATE_FAULT;
	CHECK(host_trap(vcpu, PV_CALL_BASE_RING, none, &value) == PV_STATUS_OK);
}

static uint64_t calls_served(void)
{
	uint64_t calls = 0;

	for (uint32_t i = 0; i < HOST_VCPUS; i++)
		calls += host_ring_calls(i);
	return calls;
}

int main(int argc, char **argv)
{
	pthread_t scribbler;
	uint64_t seed, other, rounds;

	CHECK(argc == 3);
	rounds = strtoull(argv[1], NULL, 10);
	seed = strtoull(argv[2], NULL, 10);
	other = seed + 1000;
	host_start(arena, sizeof(arena));
	CHECK(pthread_create(&scribbler, NULL, scribble, &other) == 0);
	/* On a busy machine the host may get no CPU during all of the rounds: then there are more. */
	for (uint64_t i = 0; i < rounds || (i < 1000 * rounds && !(faults && calls_served())); i++)
		set_up_and_remove(&seed, random_below(&seed, HOST_VCPUS));
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	CHECK(pthread_join(scribbler, NULL) == 0);
	host_stop();
	printf("calls %llu faults %u refused %llu\n", (unsigned long long)calls_served(), faults,
	       (unsigned long long)refused);
	return 0;
}
