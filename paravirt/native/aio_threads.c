// SPDX-License-Identifier: BSD-2-Clause
/*
 * The thread engine, for hosts that refuse io_uring: a few threads carry requests out one after the
 * other with ordinary system calls.
 */
#define _GNU_SOURCE
#include "aio_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 4u

/* Requests in the order in which they came, linked through them. */
struct list {
	struct pv_aio_request *first;
	struct pv_aio_request **end;
};

struct threads {
	struct pv_aio aio;
	struct list staged; /* of the caller's thread alone */
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t work;
	struct list waiting;
	struct list done;
	bool ending;
	uint32_t done_count; /* also read without the lock, as a hint */
	int done_fd; /* written when done gets its first entry */
	uint32_t worker_count;
	pthread_t workers[WORKERS];
};

static struct threads *threads_of(struct pv_aio *aio)
{
	return (struct threads *)aio;
}

static void list_init(struct list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static void list_append(struct list *list, struct pv_aio_request *request)
{
	request->next = NULL;
	*list->end = request;
	list->end = &request->next;
}

static struct pv_aio_request *list_take(struct list *list)
{
	struct pv_aio_request *request = list->first;

	if (request) {
		list->first = request->next;
		if (!list->first)
			list->end = &list->first;
	}
	return request;
}

static int64_t carry_out(const struct pv_aio_request *request, const struct pv_aio_step *step)
{
	off_t offset = (off_t)request->offset_bytes;
	int count = (int)step->segment_count;
	int64_t result;

	switch (step->call) {
	case PV_STEP_READ:
		result = preadv(request->fd, step->segments, count, offset);
		break;
	case PV_STEP_WRITE:
		result = pwritev2(request->fd, step->segments, count, offset, request->durable ? RWF_DSYNC : 0);
		break;
	case PV_STEP_SYNC:
		result = fdatasync(request->fd);
		break;
	default:
		result = fallocate(request->fd, step->mode, offset, (off_t)step->size_bytes);
	}
	return result < 0 ? -errno : result;
}

static void finish(struct threads *threads, struct pv_aio_request *request)
{
	uint64_t one = 1;
	bool first;

	pthread_mutex_lock(&threads->lock);
	first = !threads->done.first;
	list_append(&threads->done, request);
	__atomic_store_n(&threads->done_count, threads->done_count + 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&threads->lock);
	if (first)
		(void)!write(threads->done_fd, &one, sizeof(one));
}

static struct pv_aio_request *next_waiting(struct threads *threads)
{
	struct pv_aio_request *request;

	pthread_mutex_lock(&threads->lock);
	while (!threads->waiting.first && !threads->ending)
		pthread_cond_wait(&threads->work, &threads->lock);
	request = list_take(&threads->waiting);
	pthread_mutex_unlock(&threads->lock);
	return request;
}

/* One step; a kernel that refused the one before is given a moment. */
static bool take_step(const struct threads *threads, struct pv_aio_request *request)
{
	static const struct timespec moment = { .tv_nsec = 1000000 };
	struct pv_aio_step step;

	if (request->refused_ns)
		nanosleep(&moment, NULL);
	pv_aio_step(request, &step);
	return pv_aio_step_done(&threads->aio, request, carry_out(request, &step));
}

static void *worker(void *argument)
{
	struct threads *threads = argument;
	struct pv_aio_request *request;

	while ((request = next_waiting(threads))) {
		while (!take_step(threads, request))
			;
		finish(threads, request);
	}
	return NULL;
}

static void threads_start(struct pv_aio *aio, struct pv_aio_request *request)
{
	list_append(&threads_of(aio)->staged, request);
}

static void threads_submit(struct pv_aio *aio)
{
	struct threads *threads = threads_of(aio);
	struct pv_aio_request *request;

	if (!threads->staged.first)
		return;
	pthread_mutex_lock(&threads->lock);
	while ((request = list_take(&threads->staged))) {
		list_append(&threads->waiting, request);
		pthread_cond_signal(&threads->work);
	}
	pthread_mutex_unlock(&threads->lock);
}

static uint32_t threads_collect(struct pv_aio *aio, struct pv_aio_request **requests, uint32_t count)
{
	struct threads *threads = threads_of(aio);
	uint32_t done = 0;

	if (__atomic_load_n(&threads->done_count, __ATOMIC_RELAXED) == 0)
		return 0;
	pthread_mutex_lock(&threads->lock);
	while (done < count && threads->done.first)
		requests[done++] = list_take(&threads->done);
	__atomic_store_n(&threads->done_count, threads->done_count - done, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&threads->lock);
	return done;
}

static void threads_wait(struct pv_aio *aio, const int *wake_fds, int64_t timeout_ns)
{
	struct threads *threads = threads_of(aio);
	struct pollfd fds[1 + PV_AIO_WAKES] = {
		{ .fd = threads->done_fd, .events = POLLIN },
		{ .fd = wake_fds[0], .events = POLLIN },
		{ .fd = wake_fds[1], .events = POLLIN },
	};
	struct timespec timeout;
	uint64_t told;

	threads_submit(aio);
	/* What is done and not collected was told once and is not told again. */
	if (__atomic_load_n(&threads->done_count, __ATOMIC_RELAXED))
		timeout_ns = 0;
	timeout = (struct timespec){ .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	if (ppoll(fds, 1 + PV_AIO_WAKES, timeout_ns < 0 ? NULL : &timeout, NULL) <= 0)
		return;
	for (uint32_t i = 0; i < PV_AIO_WAKES; i++) {
		if (fds[1 + i].revents & POLLIN)
			pv_aio_woken(wake_fds[i]);
	}
	/* Taken before done is looked at, so that what comes later is told again. */
	if (fds[0].revents & POLLIN)
		(void)!read(threads->done_fd, &told, sizeof(told));
}

static void threads_destroy(struct pv_aio *aio)
{
	struct threads *threads = threads_of(aio);

	pthread_mutex_lock(&threads->lock);
	threads->ending = true;
	pthread_cond_broadcast(&threads->work);
	pthread_mutex_unlock(&threads->lock);
	for (uint32_t i = 0; i < threads->worker_count; i++)
		pthread_join(threads->workers[i], NULL);
	close(threads->done_fd);
	pthread_cond_destroy(&threads->work);
	pthread_mutex_destroy(&threads->lock);
	free(threads);
}

static const struct pv_aio_engine threads_engine = {
	.kind = PV_AIO_THREADS,
	.destroy = threads_destroy,
	.start = threads_start,
	.submit = threads_submit,
	.collect = threads_collect,
	.wait = threads_wait,
};

struct pv_aio *pv_aio_threads_create(void)
{
	struct threads *threads = calloc(1, sizeof(*threads));

	if (!threads)
		return NULL;
	threads->aio = (struct pv_aio){ .engine = &threads_engine };
	threads->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (threads->done_fd < 0) {
		free(threads);
		return NULL;
	}
	pthread_mutex_init(&threads->lock, NULL);
	pthread_cond_init(&threads->work, NULL);
	list_init(&threads->staged);
	list_init(&threads->waiting);
	list_init(&threads->done);
	while (threads->worker_count < WORKERS &&
	       (errno = pthread_create(&threads->workers[threads->worker_count], NULL, worker, threads)) == 0)
		threads->worker_count++;
	if (threads->worker_count == 0) {
		int error = errno;

		threads_destroy(&threads->aio);
		errno = error;
		return NULL;
	}
	return &threads->aio;
}
