// SPDX-License-Identifier: BSD-2-Clause
/*
 * The io_uring engine.  One thread creates, uses and destroys it, so completions are worked off in
 * that thread when it looks for them (DEFER_TASKRUN) instead of interrupting it.
 */
#include "aio_engine.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Threads that the kernel may take for operations that cannot be started without blocking. */
#define WORKERS 4u

/* Registered pieces of memory, and the most that the kernel takes for one. */
#define BUFFERS 64u
#define BUFFER_BYTES (1u << 30)

static const struct timespec MOMENT = { .tv_nsec = 1000000 }; /* while the kernel lacks memory */

struct uring {
	struct pv_aio aio;
	struct io_uring ring;
	struct watch {
		int fd;
		bool on; /* a poll of it is under way, whose user data is this */
	} watches[PV_AIO_WAKES];
	int files[PV_AIO_FILES]; /* registered: the kernel need not look them up for every request */
	uint32_t file_count;
	struct iovec buffers[BUFFERS]; /* registered: the kernel need not look for their pages for every request */
	uint32_t buffer_count;
};

static struct uring *uring_of(struct pv_aio *aio)
{
	return (struct uring *)aio;
}

static void uring_destroy(struct pv_aio *aio)
{
	struct uring *uring = uring_of(aio);

	/* The kernel ends a ring later, by and by, and would hold the files with their locks, and memory, until then. */
	if (uring->file_count)
		io_uring_unregister_files(&uring->ring);
	if (uring->buffer_count)
		io_uring_unregister_buffers(&uring->ring);
	io_uring_queue_exit(&uring->ring);
	free(aio);
}

/* The ring has room for every request and the polls at once, and each has one entry at a time: never NULL. */
static struct io_uring_sqe *take_entry(struct uring *uring)
{
	return io_uring_get_sqe(&uring->ring);
}

/* The registered piece that a segment lies in, or -1. */
static int buffer_of(const struct uring *uring, const struct iovec *segment)
{
	for (uint32_t i = 0; i < uring->buffer_count; i++) {
		uint64_t at = (uint64_t)((uintptr_t)segment->iov_base - (uintptr_t)uring->buffers[i].iov_base);

		if (at < uring->buffers[i].iov_len && segment->iov_len <= uring->buffers[i].iov_len - at)
			return (int)i;
	}
	return -1;
}

static void transfer(const struct uring *uring, struct io_uring_sqe *sqe, const struct pv_aio_request *request,
		     const struct pv_aio_step *step)
{
	bool one = step->segment_count == 1;
	bool out = step->call == PV_STEP_WRITE;
	int buffer = one ? buffer_of(uring, step->segments) : -1;
	int operation = one ? (out ? IORING_OP_WRITE : IORING_OP_READ) : (out ? IORING_OP_WRITEV : IORING_OP_READV);
	const void *address = one ? step->segments->iov_base : (const void *)step->segments;
	unsigned int length = one ? (unsigned int)step->size_bytes : step->segment_count;

	io_uring_prep_rw(operation, sqe, request->fd, address, length, request->offset_bytes);
	if (buffer >= 0) {
		sqe->opcode = out ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		sqe->buf_index = (uint16_t)buffer;
	}
	if (out && request->durable)
		sqe->rw_flags = RWF_DSYNC;
}

/* If the kernel takes none, requests name their file as before. */
static void uring_files(struct pv_aio *aio, const int *fds, uint32_t count)
{
	struct uring *uring = uring_of(aio);

	if (io_uring_register_files(&uring->ring, fds, count) != 0)
		return;
	memcpy(uring->files, fds, count * sizeof(*fds));
	uring->file_count = count;
}

/* All or none: what is not taken is named by its address, as before. */
static void uring_memory(struct pv_aio *aio, const struct iovec *areas, uint32_t count)
{
	struct uring *uring = uring_of(aio);
	uint32_t pieces = 0;

	for (uint32_t i = 0; i < count; i++) {
		for (size_t at = 0; at < areas[i].iov_len; at += BUFFER_BYTES) {
			size_t left = areas[i].iov_len - at;

			if (pieces == BUFFERS)
				return;
			uring->buffers[pieces++] = (struct iovec){
				.iov_base = (uint8_t *)areas[i].iov_base + at,
				.iov_len = left < BUFFER_BYTES ? left : BUFFER_BYTES,
			};
		}
	}
	if (pieces && io_uring_register_buffers(&uring->ring, uring->buffers, pieces) == 0)
		uring->buffer_count = pieces;
}

static void use_registered(const struct uring *uring, struct io_uring_sqe *sqe)
{
	for (uint32_t i = 0; i < uring->file_count; i++) {
		if (uring->files[i] != sqe->fd)
			continue;
		sqe->fd = (int)i;
		sqe->flags |= IOSQE_FIXED_FILE;
		return;
	}
}

static void uring_start(struct pv_aio *aio, struct pv_aio_request *request)
{
	struct uring *uring = uring_of(aio);
	struct io_uring_sqe *sqe = take_entry(uring);
	struct pv_aio_step step;

	pv_aio_step(request, &step);
	switch (step.call) {
	case PV_STEP_SYNC:
		io_uring_prep_fsync(sqe, request->fd, IORING_FSYNC_DATASYNC);
		break;
	case PV_STEP_ALLOCATE:
		io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, request->fd, NULL, (unsigned int)step.mode,
				 request->offset_bytes);
		sqe->addr = step.size_bytes;
		break;
	default:
		transfer(uring, sqe, request, &step);
	}
	use_registered(uring, sqe);
	io_uring_sqe_set_data(sqe, request);
}

static void uring_submit(struct pv_aio *aio)
{
	/* What the kernel does not take now stays in the ring and goes with the next call. */
	if (io_uring_sq_ready(&uring_of(aio)->ring) > 0)
		io_uring_submit(&uring_of(aio)->ring);
}

/* NULL: the data are a request. */
static struct watch *watch_of(struct uring *uring, const void *data)
{
	for (uint32_t i = 0; i < PV_AIO_WAKES; i++) {
		if (data == &uring->watches[i])
			return &uring->watches[i];
	}
	return NULL;
}

static uint32_t uring_collect(struct pv_aio *aio, struct pv_aio_request **requests, uint32_t count)
{
	struct uring *uring = uring_of(aio);
	struct io_uring_cqe *cqe;
	uint32_t done = 0;

	while (done < count && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
		struct pv_aio_request *request = io_uring_cqe_get_data(cqe);
		struct watch *watch = watch_of(uring, request);
		int result = cqe->res;

		io_uring_cqe_seen(&uring->ring, cqe);
		if (watch) {
			watch->on = false;
			pv_aio_woken(watch->fd);
		} else if (pv_aio_step_done(aio, request, result)) {
			requests[done++] = request;
		} else {
			uring_start(aio, request);
		}
	}
	return done;
}

static void watch(struct uring *uring, struct watch *which, int fd)
{
	struct io_uring_sqe *sqe;

	if (which->on || fd < 0)
		return;
	sqe = take_entry(uring);
	io_uring_prep_poll_add(sqe, fd, POLLIN);
	io_uring_sqe_set_data(sqe, which);
	*which = (struct watch){ .fd = fd, .on = true };
}

static void uring_wait(struct pv_aio *aio, const int *wake_fds, int64_t timeout_ns)
{
	struct __kernel_timespec timeout = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	struct uring *uring = uring_of(aio);
	struct io_uring_cqe *first;
	int result;

	for (uint32_t i = 0; i < PV_AIO_WAKES; i++)
		watch(uring, &uring->watches[i], wake_fds[i]);
	if (timeout_ns < 0)
		result = io_uring_submit_and_wait(&uring->ring, 1);
	else
		result = io_uring_submit_and_wait_timeout(&uring->ring, &first, 1, &timeout, NULL);
	if (result < 0 && result != -EINTR && result != -ETIME)
		nanosleep(&MOMENT, NULL);
}

/* Nothing is in flight but the polls.  Each completes, and so does its removal, in either order. */
static void uring_unwatch(struct pv_aio *aio)
{
	static const uint8_t removal;
	struct uring *uring = uring_of(aio);
	uint32_t left = 0;

	for (uint32_t i = 0; i < PV_AIO_WAKES; i++) {
		struct io_uring_sqe *sqe;

		if (!uring->watches[i].on)
			continue;
		sqe = take_entry(uring);
		io_uring_prep_poll_remove(sqe, (uintptr_t)&uring->watches[i]);
		io_uring_sqe_set_data(sqe, (void *)(uintptr_t)&removal);
		left += 2;
	}
	while (left > 0) {
		struct io_uring_cqe *cqe;

		if (io_uring_submit_and_wait(&uring->ring, 1) < 0)
			nanosleep(&MOMENT, NULL);
		while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
			io_uring_cqe_seen(&uring->ring, cqe);
			left--;
		}
	}
	memset(uring->watches, 0, sizeof(uring->watches));
}

static const struct pv_aio_engine uring_engine = {
	.kind = PV_AIO_URING,
	.destroy = uring_destroy,
	.files = uring_files,
	.memory = uring_memory,
	.start = uring_start,
	.submit = uring_submit,
	.collect = uring_collect,
	.wait = uring_wait,
	.unwatch = uring_unwatch,
};

struct pv_aio *pv_aio_uring_create(uint32_t depth)
{
	struct uring *uring = calloc(1, sizeof(*uring));
	unsigned int workers[2] = { WORKERS, WORKERS };
	const unsigned int flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
	int result;

	if (!uring)
		return NULL;
	uring->aio = (struct pv_aio){ .engine = &uring_engine };
	result = io_uring_queue_init(depth + PV_AIO_WAKES, &uring->ring, flags);
	if (result == -EINVAL) /* Linux before 6.1 */
		result = io_uring_queue_init(depth + PV_AIO_WAKES, &uring->ring, 0);
	if (result < 0) {
		free(uring);
		errno = -result;
		return NULL;
	}
	io_uring_register_iowq_max_workers(&uring->ring, workers);
	/* Spares a look-up with every call; where it is refused the ring works as well. */
	io_uring_register_ring_fd(&uring->ring);
	return &uring->aio;
}
