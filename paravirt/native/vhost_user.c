// SPDX-License-Identifier: BSD-2-Clause
/*
 * The thread between a peer that serves a device's queues and its driver: the peer's calls become interrupts.
 *
 * The eventfd of a call is not the interrupt line itself: a register, or a channel, has to say what happened first.
 * The thread also follows the rings (lent.c), at each call and, since a driver that polls has calls switched off, at
 * times of its own.  The control of the peer is left to who calls the functions below, one thread at a time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vhost_user.h"

#define THREAD_STACK_BYTES (64u << 10)
/* Between two looks at rings that stand, that move, and that may move most of their size. */
#define IDLE_NS 50000000
#define BUSY_NS 2000000
#define RUSH_NS 200000
#define RUSH 8 /* chains that came since the last look */

enum { WANT_PARKED, WANT_SERVE, WANT_END };

struct pv_vhost_user {
	struct pv_device *device;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t wanted; /* atomic; written under the lock */
	bool serving; /* under the lock */
	uint64_t lent_mask; /* a bit per queue */
	int wake_fd;
	int call_fds[PV_MAX_QUEUES];
	struct pv_lent lent[PV_MAX_QUEUES];
	struct pv_vhost_user_statistics statistics;
};

static const uint64_t ONE = 1;

static bool is_lent(const struct pv_vhost_user *vhost, uint32_t queue)
{
	return vhost->lent_mask >> queue & 1;
}

static void drain(int fd)
{
	uint64_t count;

	(void)!read(fd, &count, sizeof(count)); /* does not block: another look may have emptied it */
}

static void count(uint64_t *counter, uint64_t more)
{
	__atomic_fetch_add(counter, more, __ATOMIC_RELAXED);
}

/* True: the rings moved. */
static bool look(struct pv_vhost_user *vhost, uint32_t queue)
{
	struct pv_lent *lent = &vhost->lent[queue];
	uint16_t used = lent->used;
	bool moved = pv_lent_look(lent);

	count(&vhost->statistics.chains, (uint16_t)(lent->used - used));
	return moved;
}

/*
 * A guest on a software vCPU stores into and loads from its rings without a barrier that the peer could know of
 * (pv_memory_fence), so either side may miss that the other went to sleep.  Nothing is lost by saying it again.
 */
static void remind(struct pv_vhost_user *vhost, uint32_t queue, bool moved)
{
	if (!vhost->device->machine->memory.unfenced)
		return;
	if (moved)
		pv_device_interrupt(vhost->device, queue);
	if (vhost->lent[queue].in_flight)
		(void)!write(vhost->device->queues[queue].doorbell_fd, &ONE, sizeof(ONE));
}

static void serve(struct pv_vhost_user *vhost)
{
	struct pollfd fds[PV_MAX_QUEUES + 1];
	uint32_t queues = vhost->device->queue_count;
	struct timespec wait = { .tv_nsec = BUSY_NS };

	for (uint32_t i = 0; i < queues; i++)
		fds[i] = (struct pollfd){ .fd = is_lent(vhost, i) ? vhost->call_fds[i] : -1, .events = POLLIN };
	fds[queues] = (struct pollfd){ .fd = vhost->wake_fd, .events = POLLIN };
	while (__atomic_load_n(&vhost->wanted, __ATOMIC_ACQUIRE) == WANT_SERVE) {
		uint16_t most = 0;
		bool busy = false;
		int ready = ppoll(fds, queues + 1, &wait, NULL);

		count(&vhost->statistics.sleeps, 1);
		if (ready > 0 && fds[queues].revents)
			drain(vhost->wake_fd); /* before `wanted` is looked at */
		for (uint32_t i = 0; i < queues; i++) {
			if (!is_lent(vhost, i))
				continue;
			if (ready > 0 && fds[i].revents) {
				drain(vhost->call_fds[i]);
				pv_device_interrupt(vhost->device, i);
				count(&vhost->statistics.calls, 1);
			}
			uint16_t before = vhost->lent[i].available;
			bool moved = look(vhost, i);
			uint16_t came = (uint16_t)(vhost->lent[i].available - before);
			most = came > most ? came : most;
			busy |= moved || vhost->lent[i].in_flight;
			if (ready == 0)
				remind(vhost, i, moved);
		}
		wait.tv_nsec = most >= RUSH ? RUSH_NS : busy ? BUSY_NS : IDLE_NS;
	}
}

/* Says that the thread is parked, then waits for something else to be wanted; which. */
static uint32_t park(struct pv_vhost_user *vhost)
{
	uint32_t next;

	pthread_mutex_lock(&vhost->lock);
	while (vhost->wanted == WANT_PARKED) {
		vhost->serving = false; /* each time: it may have been wanted to serve, and not any more */
		pthread_cond_broadcast(&vhost->changed);
		pthread_cond_wait(&vhost->changed, &vhost->lock);
	}
	next = vhost->wanted;
	pthread_mutex_unlock(&vhost->lock);
	return next;
}

static void *call_thread(void *argument)
{
	struct pv_vhost_user *vhost = argument;

	while (park(vhost) != WANT_END)
		serve(vhost);
	return NULL;
}

static void want(struct pv_vhost_user *vhost, uint32_t what)
{
	pthread_mutex_lock(&vhost->lock);
	__atomic_store_n(&vhost->wanted, what, __ATOMIC_RELEASE);
	if (what == WANT_SERVE)
		vhost->serving = true; /* here: a park may follow at once */
	pthread_cond_broadcast(&vhost->changed);
	pthread_mutex_unlock(&vhost->lock);
	(void)!write(vhost->wake_fd, &ONE, sizeof(ONE));
}

void pv_vhost_user_serve(struct pv_vhost_user *vhost)
{
	want(vhost, WANT_SERVE);
}

void pv_vhost_user_park(struct pv_vhost_user *vhost)
{
	want(vhost, WANT_PARKED);
	pthread_mutex_lock(&vhost->lock);
	while (vhost->serving)
		pthread_cond_wait(&vhost->changed, &vhost->lock);
	pthread_mutex_unlock(&vhost->lock);
}

int pv_vhost_user_call_fd(const struct pv_vhost_user *vhost, uint32_t queue)
{
	return vhost->call_fds[queue];
}

int pv_vhost_user_lend(struct pv_vhost_user *vhost, uint32_t queue, bool again, bool tracked)
{
	int result = PV_LENT_GOOD;

	if (again)
		result = pv_lent_recover(&vhost->lent[queue], tracked);
	else
		pv_lent_begin(&vhost->lent[queue], &vhost->device->queues[queue]);
	if (result == PV_LENT_GOOD)
		vhost->lent_mask |= 1ULL << queue;
	return result;
}

void pv_vhost_user_stir(struct pv_vhost_user *vhost, uint32_t queue)
{
	(void)!write(vhost->call_fds[queue], &ONE, sizeof(ONE));
	(void)!write(vhost->device->queues[queue].doorbell_fd, &ONE, sizeof(ONE));
}

void pv_vhost_user_returned(struct pv_vhost_user *vhost, uint32_t queue, uint16_t position)
{
	struct pv_queue_state *s = vhost->device->queues[queue].state;

	look(vhost, queue);
	vhost->lent_mask &= ~(1ULL << queue);
	s->next_avail = position;
	s->next_used = s->signalled = vhost->lent[queue].used;
}

static bool start_thread(struct pv_vhost_user *vhost)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	char name[16];

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
	sigfillset(&all); /* signals are for the threads that run vCPUs */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&vhost->thread, &attributes, call_thread, vhost);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error) {
		errno = error;
		return false;
	}
	snprintf(name, sizeof(name), "calls %.9s", vhost->device->name);
	pthread_setname_np(vhost->thread, name);
	return true;
}

static void release(struct pv_vhost_user *vhost)
{
	for (uint32_t i = 0; i < PV_MAX_QUEUES; i++)
		if (vhost->call_fds[i] >= 0)
			close(vhost->call_fds[i]);
	if (vhost->wake_fd >= 0)
		close(vhost->wake_fd);
	pthread_cond_destroy(&vhost->changed);
	pthread_mutex_destroy(&vhost->lock);
	free(vhost);
}

static bool open_fds(struct pv_vhost_user *vhost)
{
	for (uint32_t i = 0; i < vhost->device->queue_count; i++) {
		vhost->call_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vhost->call_fds[i] < 0)
			return false;
	}
	vhost->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return vhost->wake_fd >= 0;
}

struct pv_vhost_user *pv_vhost_user_create(struct pv_device *device, char *error, size_t error_bytes)
{
	struct pv_vhost_user *vhost = calloc(1, sizeof(*vhost));

	if (vhost) {
		vhost->device = device;
		vhost->wake_fd = -1;
		for (uint32_t i = 0; i < PV_MAX_QUEUES; i++)
			vhost->call_fds[i] = -1;
		pthread_mutex_init(&vhost->lock, NULL);
		pthread_cond_init(&vhost->changed, NULL);
		if (open_fds(vhost) && start_thread(vhost))
			return vhost;
	}
	snprintf(error, error_bytes, "cannot start its thread: %s", strerror(errno));
	if (vhost)
		release(vhost);
	return NULL;
}

void pv_vhost_user_destroy(struct pv_vhost_user *vhost)
{
	if (!vhost)
		return;
	want(vhost, WANT_END);
	pthread_join(vhost->thread, NULL);
	release(vhost);
}

void pv_vhost_user_get_statistics(const struct pv_vhost_user *vhost, struct pv_vhost_user_statistics *statistics)
{
	const uint64_t *from = (const uint64_t *)&vhost->statistics;
	uint64_t *to = (uint64_t *)statistics;

	for (size_t i = 0; i < sizeof(*statistics) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < vhost->device->queue_count; i++)
		statistics->in_flight += __atomic_load_n(&vhost->lent[i].in_flight, __ATOMIC_RELAXED);
}
