// SPDX-License-Identifier: BSD-2-Clause
/*
 * When a back end's thread works, looks for work, and sleeps.  Its life is backend.c's.
 */
#define _GNU_SOURCE
#include "backend_serve.h"
#include "eventfd.h"
#include "way.h"

#include <unistd.h>

/* The least time to look is that part of the most; a sleep is short up to that multiple, for it has the wake-up in it. */
#define LEAST_POLL 16u
#define SHORT_SLEEP 8u
/* So many looks of full length in vain, each with a short sleep behind it, are followed by so many of the least. */
#define VAIN_LOOKS 32u
#define REST_LOOKS 512u

static bool serving(const struct pv_backend_thread *thread)
{
	return __atomic_load_n(&thread->wanted, __ATOMIC_ACQUIRE) == PV_WANT_SERVE;
}

static struct pv_queue *queue_of(const struct pv_backend_thread *thread, uint32_t n)
{
	return &thread->device->queues[thread->queues[n]];
}

static bool is_enabled(const struct pv_backend_thread *thread, uint32_t n)
{
	return thread->enabled & (1u << n);
}

static bool take_turn(struct pv_backend_thread *thread)
{
	thread->unwatched = 0;
	thread->due_ns = 0;
	return thread->backend->ops->turn(thread);
}

/* Looks for work for as long as experience says it pays. */
static bool look(struct pv_backend_thread *thread)
{
	uint64_t begin, now;
	bool found = false;

	/* Who waits for a time knows when there will be work. */
	if (!thread->poll_ns || thread->due_ns)
		return false;
	begin = now = pv_clock_ns();
	while (!found && now - begin < thread->poll_ns && serving(thread)) {
		__builtin_ia32_pause();
		found = take_turn(thread);
		now = pv_clock_ns();
	}
	pv_backend_count(&thread->polled_ns, now - begin);
	if (found) {
		pv_backend_count(&thread->polls, 1);
		thread->vain = 0;
	}
	return found;
}

/*
 * A short sleep says that looking longer would have found the work, a long one that looking was in vain.
 * It is never given up altogether, or there would be no way back where every wake-up is slow.
 * Where even the longest look finds nothing time and again, and the work comes once we sleep, it is the looking that
 * keeps it: the guest waits for this CPU.
 */
static void learn(struct pv_backend_thread *thread, uint64_t slept_ns)
{
	uint64_t most = thread->backend->poll_ns, least = most / LEAST_POLL, next = thread->poll_ns / 2;

	if (thread->rest) {
		thread->rest--;
		return;
	}
	if (slept_ns < most * SHORT_SLEEP) {
		next = thread->poll_ns * 2;
		if (thread->poll_ns == most && ++thread->vain == VAIN_LOOKS) {
			thread->vain = 0;
			thread->rest = REST_LOOKS;
			next = least;
		}
	}
	thread->poll_ns = next > most ? most : next < least ? least : next;
}

/* A device whose driver broke a rule takes no chain before its reset, which is wanted of us and no chain's news. */
static bool stopped(const struct pv_backend_thread *thread)
{
	return __atomic_load_n(&thread->device->state.status, __ATOMIC_ACQUIRE) & PV_VIRTIO_STATUS_NEEDS_RESET;
}

/* Asks for the doorbells of the queues that are waited for; true if buffers came meanwhile. */
static bool arm(struct pv_backend_thread *thread)
{
	bool came = false;

	if (stopped(thread))
		return false;
	for (uint32_t i = 0; i < thread->queue_count; i++) {
		if (is_enabled(thread, i) && !(thread->unwatched & (1u << i)))
			came |= pv_queue_arm(queue_of(thread, i));
	}
	return came;
}

static void disarm(struct pv_backend_thread *thread)
{
	for (uint32_t i = 0; i < thread->queue_count; i++) {
		if (is_enabled(thread, i))
			pv_queue_disarm(queue_of(thread, i));
	}
}

/* The sleep of a back end that has none of its own. */
static void wait_for_fds(struct pv_backend_thread *thread, int64_t timeout_ns)
{
	struct pollfd fds[2 * PV_BACKEND_QUEUES + PV_BACKEND_FDS], *own, *kicks;
	struct timespec timeout = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	uint32_t queues = thread->queue_count;
	uint64_t count;

	kicks = &fds[queues];
	own = &fds[2 * queues];
	for (uint32_t i = 0; i < queues; i++) {
		fds[i] = (struct pollfd){ .fd = queue_of(thread, i)->doorbell_fd, .events = POLLIN };
		kicks[i] = (struct pollfd){ .fd = queue_of(thread, i)->kick_fd, .events = POLLIN };
	}
	for (uint32_t i = 0; i < thread->fd_count; i++) {
		own[i] = thread->fds[i];
		/* poll(2) tells of errors whatever it is asked for: what is ignored would never let us sleep. */
		if (!thread->fds[i].events)
			own[i].fd = -1;
	}
	if (ppoll(fds, 2 * queues + thread->fd_count, timeout_ns < 0 ? NULL : &timeout, NULL) <= 0)
		return;
	for (uint32_t i = 0; i < queues; i++) {
		if (fds[i].revents & POLLIN)
			(void)!read(fds[i].fd, &count, sizeof(count)); /* the count does not matter */
		if (kicks[i].revents & POLLIN)
			(void)pv_eventfd_take(kicks[i].fd);
	}
	for (uint32_t i = 0; i < thread->fd_count; i++)
		thread->fds[i].revents = own[i].revents;
}

static void sleep_until_work(struct pv_backend_thread *thread)
{
	const struct pv_backend_ops *ops = thread->backend->ops;
	uint64_t begin = pv_clock_ns();
	int64_t timeout_ns = -1;

	if (thread->due_ns)
		timeout_ns = thread->due_ns > begin ? (int64_t)(thread->due_ns - begin) : 0;
	/*
	 * Both are looked at after the doorbell's count was last taken, so that whoever changes one of
	 * them from here on writes the doorbell into our wait.
	 */
	if (!arm(thread) && serving(thread)) {
		pv_backend_count(&thread->sleeps, 1);
		if (ops->wait)
			ops->wait(thread, queue_of(thread, 0)->doorbell_fd, timeout_ns);
		else
			wait_for_fds(thread, timeout_ns);
		uint64_t end = pv_clock_ns();
		pv_way_slept(queue_of(thread, 0), begin, end);
		if (!thread->due_ns)
			learn(thread, end - begin);
	}
	disarm(thread);
}

void pv_backend_serve(struct pv_backend_thread *thread)
{
	disarm(thread);
	while (serving(thread)) {
		if (!take_turn(thread) && !look(thread))
			sleep_until_work(thread);
	}
	if (thread->backend->ops->drain)
		thread->backend->ops->drain(thread);
}
