// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's half of the benchmark of events: raises, waits for the guest's answer, in ticks of the counter.
 * Ours goes through pv_event_raise; the floor signals the irqfd itself, and finds a handler of one instruction.
 */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "kvm_vcpu.h"

#define CHANNEL PV_CHANNEL_FIRST_FREE
#define MODE_BLOCK 2
#define SETTLE_NS 50000

struct control {
	uint64_t mode, ready, answered;
};

typedef void (*raiser)(struct pv_machine *, uint32_t, uint32_t);

static int compare(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

	return (one > other) - (one < other);
}

static void signal_irqfd(struct pv_vcpu *vcpu)
{
	uint64_t one = 1;

	(void)!write(((struct pv_kvm_vcpu *)vcpu->opaque)->upcall_fd, &one, sizeof(one));
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What says that it is about to sleep may need so long until it does. */
static void settle(void)
{
	uint64_t begin = now_ns();

	while (now_ns() - begin < SETTLE_NS)
		__builtin_ia32_pause();
}

static void rest(struct pv_vcpu *vcpu)
{
	while (__atomic_load_n(&vcpu->page->state, __ATOMIC_ACQUIRE) != PV_VCPU_STATE_BLOCKED)
		__builtin_ia32_pause();
	settle();
}

/* Sorted ticks from the signal to the answer; raise NULL: the floor. */
void events_turns(struct pv_vcpu *vcpu, struct control *control, raiser raise, uint64_t *ticks, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t seen = __atomic_load_n(&control->answered, __ATOMIC_ACQUIRE);

		if (control->mode == MODE_BLOCK)
			rest(vcpu);
		uint64_t before = __builtin_ia32_rdtsc();
		if (raise)
			raise(vcpu->machine, vcpu->index, CHANNEL);
		else
			signal_irqfd(vcpu);
		while (__atomic_load_n(&control->answered, __ATOMIC_ACQUIRE) == seen)
			__builtin_ia32_pause();
		ticks[i] = __builtin_ia32_rdtsc() - before;
	}
	qsort(ticks, count, sizeof(*ticks), compare);
}

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t wanted, answered;
	int asleep;
} pair;

static void *sleeper(void *argument)
{
	uint64_t last = *(uint64_t *)argument;

	pthread_mutex_lock(&pair.lock);
	while (pair.answered != last) {
		__atomic_store_n(&pair.asleep, 1, __ATOMIC_RELEASE);
		while (pair.wanted == pair.answered)
			pthread_cond_wait(&pair.changed, &pair.lock);
		__atomic_store_n(&pair.answered, pair.wanted, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&pair.lock);
	return NULL;
}

/* The floor of a wake-up: a thread that sleeps in the kernel is woken and stores a word. 0, or an errno. */
int events_wake_floor(uint64_t *ticks, uint32_t count)
{
	uint64_t last = count;
	pthread_t thread;
	int error;

	pthread_mutex_init(&pair.lock, NULL);
	pthread_cond_init(&pair.changed, NULL);
	pair.wanted = pair.answered = 0;
	error = pthread_create(&thread, NULL, sleeper, &last);
	if (error)
		return error;
	for (uint32_t i = 0; i < count; i++) {
		while (!__atomic_exchange_n(&pair.asleep, 0, __ATOMIC_ACQUIRE))
			__builtin_ia32_pause();
		settle();
		pthread_mutex_lock(&pair.lock); /* free once it waits */
		uint64_t before = __builtin_ia32_rdtsc();
		pair.wanted = i + 1;
		pthread_mutex_unlock(&pair.lock);
		pthread_cond_signal(&pair.changed);
		while (__atomic_load_n(&pair.answered, __ATOMIC_ACQUIRE) != i + 1)
			__builtin_ia32_pause();
		ticks[i] = __builtin_ia32_rdtsc() - before;
	}
	pthread_join(thread, NULL);
	qsort(ticks, count, sizeof(*ticks), compare);
	return 0;
}
