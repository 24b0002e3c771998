// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk: its thread, and what the device's ops ask of it.  The work itself is block_serve.c's.
 *
 * The thread lives as long as the disk and is parked while the device is not active, so activation
 * cannot fail and the engine stays with the one thread it wants.  Ops say what they want and wake the
 * thread through the queue's doorbell; the thread says what it is under the lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block_serve.h"

#define THREAD_STACK_BYTES (128u << 10)

/* Says what the thread is, then waits for something else to be wanted; which. */
static uint32_t park(struct pv_block *block, uint32_t is)
{
	uint32_t next;

	pthread_mutex_lock(&block->lock);
	block->is = is;
	pthread_cond_broadcast(&block->changed);
	while (block->wanted == WANT_PARKED)
		pthread_cond_wait(&block->changed, &block->lock);
	next = block->wanted;
	if (next == WANT_SERVE)
		block->is = IS_SERVING;
	pthread_mutex_unlock(&block->lock);
	return next;
}

static void *disk_thread(void *argument)
{
	struct pv_block *block = argument;

	block->aio = pv_aio_create(block->options.engine, PV_MAX_QUEUE_SIZE);
	if (!block->aio) {
		block->start_error = errno;
		park(block, IS_FAILED);
		return NULL;
	}
	while (park(block, IS_PARKED) != WANT_END)
		pv_block_serve(block);
	pv_aio_destroy(block->aio);
	return NULL;
}

static void want(struct pv_block *block, uint32_t what)
{
	uint64_t one = 1;

	pthread_mutex_lock(&block->lock);
	__atomic_store_n(&block->wanted, what, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&block->changed);
	pthread_mutex_unlock(&block->lock);
	/* A thread that was never active waits for `changed` alone; if the counter is full it is rung as it is. */
	if (block->doorbell_fd >= 0)
		(void)!write(block->doorbell_fd, &one, sizeof(one));
}

static void wait_while(struct pv_block *block, uint32_t is)
{
	pthread_mutex_lock(&block->lock);
	while (block->is == is)
		pthread_cond_wait(&block->changed, &block->lock);
	pthread_mutex_unlock(&block->lock);
}

static void activate(struct pv_device *device)
{
	struct pv_block *block = device->opaque;

	block->doorbell_fd = device->queues[0].doorbell_fd;
	/* A queue that is not enabled may be, later (queue_changed): the thread must not look at it before. */
	if (device->queues[0].state->enabled)
		want(block, WANT_SERVE);
}

static void reset(struct pv_device *device)
{
	want(device->opaque, WANT_PARKED);
	wait_while(device->opaque, IS_SERVING);
}

static void notify(struct pv_device *device, uint32_t queue)
{
	uint64_t one = 1;

	(void)!write(device->queues[queue].doorbell_fd, &one, sizeof(one));
}

static void queue_changed(struct pv_device *device, uint32_t queue, bool enabled)
{
	(void)queue; /* there is one */
	if (enabled)
		activate(device);
	else
		reset(device);
}

/* Signals are for the threads that run vCPUs. */
static int start_thread(struct pv_block *block)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	char name[16];
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&block->thread, &attributes, disk_thread, block);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error)
		return error;
	snprintf(name, sizeof(name), "disk %.10s", block->device->name);
	pthread_setname_np(block->thread, name);
	wait_while(block, IS_STARTING);
	if (block->is == IS_PARKED)
		return 0;
	want(block, WANT_END);
	pthread_join(block->thread, NULL);
	return block->start_error;
}

static void release(struct pv_block *block)
{
	pthread_cond_destroy(&block->changed);
	pthread_mutex_destroy(&block->lock);
	free(block->requests);
	free(block);
}

struct pv_block *pv_block_create(struct pv_device *device, const struct pv_block_options *options, char *error,
				 size_t error_bytes)
{
	struct pv_block *block = calloc(1, sizeof(*block));
	int failure = ENOMEM;

	if (!block)
		goto failed;
	block->device = device;
	block->options = *options;
	block->poll_ns = options->poll_ns;
	block->doorbell_fd = -1;
	pthread_mutex_init(&block->lock, NULL);
	pthread_cond_init(&block->changed, NULL);
	/* Not touched before it is used: a disk costs the memory of as many requests as were under way at once. */
	block->requests = calloc(PV_MAX_QUEUE_SIZE, sizeof(*block->requests));
	if (!block->requests)
		goto failed;
	failure = start_thread(block);
	if (failure)
		goto failed;
	device->opaque = block;
	device->ops = (struct pv_device_ops){
		.activate = activate,
		.reset = reset,
		.notify = notify,
		.queue_changed = queue_changed,
	};
	return block;
failed:
	snprintf(error, error_bytes, "cannot start its I/O: %s", strerror(failure));
	if (block)
		release(block);
	return NULL;
}

void pv_block_destroy(struct pv_block *block)
{
	if (!block)
		return;
	want(block, WANT_END);
	pthread_join(block->thread, NULL);
	block->device->ops = (struct pv_device_ops){ .activate = NULL };
	release(block);
}

uint32_t pv_block_engine(const struct pv_block *block)
{
	return pv_aio_engine(block->aio);
}

void pv_block_get_statistics(const struct pv_block *block, struct pv_block_statistics *statistics)
{
	const uint64_t *from = (const uint64_t *)&block->statistics;
	uint64_t *to = (uint64_t *)statistics;

	for (size_t i = 0; i < sizeof(*statistics) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
