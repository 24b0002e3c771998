// SPDX-License-Identifier: BSD-2-Clause
/*
 * The threads of a back end, and what the device's ops ask of them.  When a thread works, looks and sleeps
 * is backend_serve.c's.
 *
 * A thread lives as long as its back end and is parked while its queues are not in use, so activation
 * cannot fail and what a thread opened stays with the one thread that may want to be alone with it.  Ops
 * say what they want and wake the thread through a doorbell; the thread says what it is under the lock.
 */
#define _GNU_SOURCE
#include "backend_serve.h"
#include "nudge.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREAD_STACK_BYTES (128u << 10)

#define IS_STARTING 0
#define IS_FAILED 1
#define IS_PARKED 2
#define IS_SERVING 3

/* Says what the thread is, then waits for something else to be wanted; which. */
static uint32_t park(struct pv_backend_thread *thread, uint32_t is)
{
	struct pv_backend *backend = thread->backend;
	uint32_t next;

	pthread_mutex_lock(&backend->lock);
	thread->is = is;
	pthread_cond_broadcast(&backend->changed);
	while (thread->wanted == PV_WANT_PARKED)
		pthread_cond_wait(&backend->changed, &backend->lock);
	next = thread->wanted;
	if (next == PV_WANT_SERVE)
		thread->is = IS_SERVING;
	pthread_mutex_unlock(&backend->lock);
	return next;
}

static void *thread_main(void *argument)
{
	struct pv_backend_thread *thread = argument;
	const struct pv_backend_ops *ops = thread->backend->ops;

	thread->error = ops->open ? ops->open(thread) : 0;
	if (thread->error) {
		park(thread, IS_FAILED);
		return NULL;
	}
	while (park(thread, IS_PARKED) != PV_WANT_END)
		pv_backend_serve(thread);
	if (ops->close)
		ops->close(thread);
	return NULL;
}

static void want(struct pv_backend_thread *thread, uint32_t what)
{
	struct pv_backend *backend = thread->backend;

	pthread_mutex_lock(&backend->lock);
	__atomic_store_n(&thread->wanted, what, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&backend->changed);
	pthread_mutex_unlock(&backend->lock);
	pv_backend_wake(thread);
}

static void wait_while(struct pv_backend_thread *thread, uint32_t is)
{
	struct pv_backend *backend = thread->backend;

	pthread_mutex_lock(&backend->lock);
	while (thread->is == is)
		pthread_cond_wait(&backend->changed, &backend->lock);
	pthread_mutex_unlock(&backend->lock);
}

/* Whether another program can have a thread wait: by an eventfd for calls that is full when it is written to. */
static bool may_wait(const struct pv_backend *backend)
{
	bool called = false;

	for (uint32_t i = 0; i < backend->device->queue_count; i++)
		called |= backend->device->queues[i].call_fd >= 0;
	return called || backend->nudged;
}

/* The signal is repeated, for the thread may begin to wait just behind it. */
static void wait_parked(struct pv_backend_thread *thread)
{
	struct pv_backend *backend = thread->backend;
	struct timespec until;

	if (!may_wait(backend)) {
		wait_while(thread, IS_SERVING);
		return;
	}
	pthread_mutex_lock(&backend->lock);
	while (thread->is == IS_SERVING) {
		uint64_t until_ns = pv_clock_ns() + PV_NUDGE_NS;

		until = (struct timespec){ .tv_sec = (time_t)(until_ns / 1000000000),
					   .tv_nsec = (long)(until_ns % 1000000000) };
		if (pthread_cond_clockwait(&backend->changed, &backend->lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT)
			pthread_kill(thread->thread, PV_NUDGE);
	}
	pthread_mutex_unlock(&backend->lock);
}

static void stop(struct pv_backend_thread *thread)
{
	want(thread, PV_WANT_PARKED);
	wait_parked(thread);
}

/* Queues that are not enabled may be, later (queue_changed): a thread must not look at them before. */
static void serve_enabled(struct pv_backend_thread *thread)
{
	thread->enabled = 0;
	for (uint32_t i = 0; i < thread->queue_count; i++) {
		if (thread->device->queues[thread->queues[i]].state->enabled)
			thread->enabled |= 1u << i;
	}
	if (thread->enabled)
		want(thread, PV_WANT_SERVE);
}

void pv_backend_activate(struct pv_backend *backend)
{
	for (uint32_t i = 0; i < backend->thread_count; i++)
		serve_enabled(backend->threads[i]);
}

static void activate(struct pv_device *device)
{
	pv_backend_activate(device->opaque);
}

void pv_backend_reset(struct pv_backend *backend)
{
	/* All are told before one is waited for: they end what is in flight at the same time. */
	for (uint32_t i = 0; i < backend->thread_count; i++)
		want(backend->threads[i], PV_WANT_PARKED);
	for (uint32_t i = 0; i < backend->thread_count; i++)
		wait_parked(backend->threads[i]);
}

static void reset(struct pv_device *device)
{
	pv_backend_reset(device->opaque);
}

static void notify(struct pv_device *device, uint32_t queue)
{
	uint64_t one = 1;

	(void)!write(device->queues[queue].doorbell_fd, &one, sizeof(one));
}

static struct pv_backend_thread *thread_of(const struct pv_backend *backend, uint32_t queue, uint32_t *bit)
{
	for (uint32_t i = 0; i < backend->thread_count; i++) {
		struct pv_backend_thread *thread = backend->threads[i];

		for (uint32_t n = 0; n < thread->queue_count; n++) {
			*bit = 1u << n;
			if (thread->queues[n] == queue)
				return thread;
		}
	}
	return NULL;
}

static void queue_changed(struct pv_device *device, uint32_t queue, bool enabled)
{
	uint32_t bit;
	struct pv_backend_thread *thread = thread_of(device->opaque, queue, &bit);

	if (!thread)
		return;
	stop(thread);
	/* A queue that is reset still says enabled; it ends after this. */
	thread->enabled = enabled ? thread->enabled | bit : thread->enabled & ~bit;
	if (thread->enabled)
		want(thread, PV_WANT_SERVE);
}

/* Signals are for the threads that run vCPUs, but for nudges, and for what says that a copy failed (fault_copy.c). */
static int start_thread(struct pv_backend_thread *thread)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	char name[16];
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, PV_NUDGE);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread->thread, &attributes, thread_main, thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error)
		return error;
	if (thread->number == 0)
		snprintf(name, sizeof(name), "%.4s %.10s", thread->backend->word, thread->device->name);
	else
		snprintf(name, sizeof(name), "%.4s%u %.8s", thread->backend->word, thread->number % 100,
			 thread->device->name);
	pthread_setname_np(thread->thread, name);
	wait_while(thread, IS_STARTING);
	if (thread->is == IS_PARKED)
		return 0;
	want(thread, PV_WANT_END);
	pthread_join(thread->thread, NULL);
	return thread->error;
}

int pv_backend_add_watching(struct pv_backend *backend, void *opaque, const uint32_t *queues, uint32_t queue_count,
			    const struct pollfd *fds, uint32_t fd_count)
{
	struct pv_backend_thread *thread;
	int error;

	if (queue_count == 0 || queue_count > PV_BACKEND_QUEUES || fd_count > PV_BACKEND_FDS ||
	    backend->thread_count == PV_MAX_QUEUES)
		return EINVAL;
	thread = calloc(1, sizeof(*thread));
	if (!thread)
		return ENOMEM;
	thread->opaque = opaque;
	thread->backend = backend;
	thread->device = backend->device;
	thread->queue_count = queue_count;
	memcpy(thread->queues, queues, queue_count * sizeof(*queues));
	thread->fd_count = fd_count;
	if (fd_count)
		memcpy(thread->fds, fds, fd_count * sizeof(*fds));
	thread->poll_ns = backend->poll_ns;
	thread->number = backend->thread_count;
	error = start_thread(thread);
	if (error)
		free(thread);
	else
		backend->threads[backend->thread_count++] = thread;
	return error;
}

int pv_backend_add(struct pv_backend *backend, void *opaque, const uint32_t *queues, uint32_t queue_count)
{
	return pv_backend_add_watching(backend, opaque, queues, queue_count, NULL, 0);
}

void pv_backend_wake(const struct pv_backend_thread *thread)
{
	int doorbell_fd = thread->device->queues[thread->queues[0]].doorbell_fd;
	uint64_t one = 1;

	/* A thread that was never active waits for `changed` alone; if the counter is full it is rung as it is. */
	if (doorbell_fd >= 0)
		(void)!write(doorbell_fd, &one, sizeof(one));
}

void pv_backend_init(struct pv_backend *backend, struct pv_device *device, const struct pv_backend_ops *ops,
		     const char *word, uint64_t poll_ns)
{
	*backend = (struct pv_backend){ .device = device, .ops = ops, .word = word, .poll_ns = poll_ns };
	pthread_mutex_init(&backend->lock, NULL);
	pthread_cond_init(&backend->changed, NULL);
	device->opaque = backend;
	device->ops = (struct pv_device_ops){
		.activate = activate,
		.reset = reset,
		.notify = notify,
		.queue_changed = queue_changed,
	};
}

void pv_backend_deinit(struct pv_backend *backend)
{
	for (uint32_t i = 0; i < backend->thread_count; i++)
		want(backend->threads[i], PV_WANT_END);
	for (uint32_t i = 0; i < backend->thread_count; i++) {
		pthread_join(backend->threads[i]->thread, NULL);
		free(backend->threads[i]);
	}
	backend->device->ops = (struct pv_device_ops){ .activate = NULL };
	pthread_cond_destroy(&backend->changed);
	pthread_mutex_destroy(&backend->lock);
}

void pv_backend_get_statistics(const struct pv_backend *backend, struct pv_backend_statistics *statistics)
{
	*statistics = (struct pv_backend_statistics){ .polls = 0 };
	for (uint32_t i = 0; i < backend->thread_count; i++) {
		const struct pv_backend_thread *thread = backend->threads[i];

		statistics->polls += __atomic_load_n(&thread->polls, __ATOMIC_RELAXED);
		statistics->poll_ns += __atomic_load_n(&thread->polled_ns, __ATOMIC_RELAXED);
		statistics->sleeps += __atomic_load_n(&thread->sleeps, __ATOMIC_RELAXED);
	}
}
