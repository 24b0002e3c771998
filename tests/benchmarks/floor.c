// SPDX-License-Identifier: BSD-2-Clause
/*
 * The floors of a call.  By trap: a guest that is already up goes on, its base.version answered by entering
 * again at once; other calls are served as always, so that it can tell its figures.  By ring: two threads.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm_vcpu.h"

typedef void (*dispatcher)(struct pv_vcpu *, const struct pv_call *, struct pv_result *);

void floor_run(struct pv_vcpu *vcpu, dispatcher dispatch)
{
	struct pv_kvm_vcpu *own = vcpu->opaque;
	struct kvm_run *run = own->run;
	struct kvm_regs *regs = &run->s.regs.regs;

	run->immediate_exit = 0; /* the kick may have come when the vCPU had stopped already */
	while (!__atomic_load_n(&vcpu->stop, __ATOMIC_SEQ_CST)) {
		if (ioctl(own->fd, KVM_RUN, 0) < 0) {
			if (errno != EINTR)
				return;
			continue;
		}
		if (run->exit_reason != KVM_EXIT_IO)
			return;
		if (run->io.port != PV_TRAP_PORT)
			continue;
		if (regs->rax == PV_CALL_BASE_VERSION)
			continue;
		struct pv_call call = {
			.id = (uint32_t)regs->rax,
			.road = PV_ROAD_TRAP,
			.args = { regs->rdi, regs->rsi, regs->rcx, regs->r8, regs->r9, regs->r10 },
		};
		struct pv_result result;

		dispatch(vcpu, &call, &result);
		regs->rax = (uint64_t)result.status;
		regs->rdx = result.value;
		run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	}
}

/*
 * The floor of a call ring: two threads, the same records through the same lines of cache, and no call in between.
 * With size 0 nothing but one word goes there and another comes back.
 */
static struct floor_ring {
	struct pv_submission submissions[64];
	struct pv_completion completions[64];
	struct pv_ring_control control;
	uint32_t size;
} ring __attribute__((aligned(64)));

static void *answer(void *argument)
{
	uint32_t next = 0;

	(void)argument;
	while (!__atomic_load_n(&ring.control.state, __ATOMIC_RELAXED)) {
		uint32_t tail = __atomic_load_n(&ring.control.submission_tail, __ATOMIC_ACQUIRE);

		if (tail == next) {
			__builtin_ia32_pause();
			continue;
		}
		for (; ring.size && next != tail; next++) {
			struct pv_submission copy = ring.submissions[next % 64];

			ring.completions[next % 64] =
				(struct pv_completion){ .cookie = copy.cookie, .value = copy.call };
		}
		next = tail;
		__atomic_store_n(&ring.control.completion_tail, tail, __ATOMIC_RELEASE);
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

	return (one > other) - (one < other);
}

static void turn(uint32_t *tail)
{
	uint32_t first = *tail, end = first + (ring.size ? ring.size : 1);

	for (; ring.size && *tail != end; ++*tail)
		ring.submissions[*tail % 64] = (struct pv_submission){ .call = PV_CALL_BASE_VERSION, .cookie = *tail };
	*tail = end;
	__atomic_store_n(&ring.control.submission_tail, end, __ATOMIC_RELEASE);
	while (__atomic_load_n(&ring.control.completion_tail, __ATOMIC_ACQUIRE) != end)
		__builtin_ia32_pause();
	for (uint32_t i = first; ring.size && i != end; i++)
		if (ring.completions[i % 64].cookie != i)
			abort();
}

/* Median ticks of a turn of `size` submissions; 0 if there is no thread to be had. */
uint64_t floor_ring(uint32_t size, uint64_t *ticks, uint32_t count)
{
	pthread_t other;
	uint32_t tail = 0;

	memset(&ring, 0, sizeof(ring));
	ring.size = size;
	if (pthread_create(&other, NULL, answer, NULL))
		return 0;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t before = __builtin_ia32_rdtsc();

		turn(&tail);
		ticks[i] = __builtin_ia32_rdtsc() - before;
	}
	__atomic_store_n(&ring.control.state, 1, __ATOMIC_RELAXED);
	pthread_join(other, NULL);
	qsort(ticks, count, sizeof(*ticks), compare);
	return ticks[count / 2];
}
