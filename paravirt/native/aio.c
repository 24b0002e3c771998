// SPDX-License-Identifier: BSD-2-Clause
/*
 * Asynchronous file I/O: the choice of an engine, and how a request is cut into steps.  Steps are
 * bounded, so that ending never waits for more than one step of each request.  How a step is
 * carried out is left to aio_uring.c and aio_threads.c.
 */
#define _GNU_SOURCE
#include "aio_engine.h"
#include "eventfd.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

#define STEP_BYTES (4u << 20)
#define ZEROS_BYTES (64u << 10)
#define ZEROS_COUNT 16u
#define BLOCK_BYTES 4096u /* that O_DIRECT goes by, at most */
#define REFUSED_MOST_NS 1000000000u

/* Written to no one but the disk; aligned for O_DIRECT. */
static uint8_t zeros[ZEROS_BYTES] __attribute__((aligned(4096)));
static const struct iovec zero_segments[ZEROS_COUNT] = {
	[0 ... ZEROS_COUNT - 1] = { zeros, ZEROS_BYTES },
};

/* What a request to write zeros becomes when the file system cannot do it for us. */
#define OPERATION_FILL 0x100

struct pv_aio *pv_aio_create(uint32_t engine, uint32_t depth)
{
	struct pv_aio *aio = NULL;

	if (engine != PV_AIO_THREADS)
		aio = pv_aio_uring_create(depth);
	if (!aio && engine != PV_AIO_URING)
		aio = pv_aio_threads_create();
	return aio;
}

void pv_aio_destroy(struct pv_aio *aio)
{
	if (aio)
		aio->engine->destroy(aio);
}

uint32_t pv_aio_engine(const struct pv_aio *aio)
{
	return aio->engine->kind;
}

void pv_aio_files(struct pv_aio *aio, const int *fds, uint32_t count)
{
	if (aio->engine->files && count <= PV_AIO_FILES)
		aio->engine->files(aio, fds, count);
}

void pv_aio_memory(struct pv_aio *aio, const struct iovec *areas, uint32_t count)
{
	if (aio->engine->memory)
		aio->engine->memory(aio, areas, count);
}

void pv_aio_start(struct pv_aio *aio, struct pv_aio_request *request)
{
	request->error = 0;
	request->refused_ns = 0;
	if (request->operation == PV_AIO_SYNC)
		request->size_bytes = 1; /* Something is left to do until it is done. */
	aio->engine->start(aio, request);
}

void pv_aio_submit(struct pv_aio *aio)
{
	aio->engine->submit(aio);
}

uint32_t pv_aio_collect(struct pv_aio *aio, struct pv_aio_request **requests, uint32_t count)
{
	return aio->engine->collect(aio, requests, count);
}

void pv_aio_wait(struct pv_aio *aio, const int wake_fds[PV_AIO_WAKES], int64_t timeout_ns)
{
	aio->engine->wait(aio, wake_fds, timeout_ns);
}

void pv_aio_unwatch(struct pv_aio *aio)
{
	if (aio->engine->unwatch)
		aio->engine->unwatch(aio);
}

void pv_aio_cancel(struct pv_aio *aio, bool cancel)
{
	__atomic_store_n(&aio->cancel, cancel, __ATOMIC_RELAXED);
}

void pv_aio_woken(int wake_fd)
{
	/* Nothing to take is fine too: another wait took it. */
	(void)pv_eventfd_take(wake_fd);
}

/* Whole segments as far as they fit in a step, or a part of one that does not. */
static void step_of_segments(const struct iovec *segments, uint32_t count, uint64_t left, struct pv_aio_step *step)
{
	step->segments = segments;
	while (step->segment_count < count) {
		uint64_t size = segments[step->segment_count].iov_len;

		if (step->size_bytes + size > STEP_BYTES || step->size_bytes + size > left)
			break;
		step->size_bytes += size;
		step->segment_count++;
	}
	if (step->segment_count == 0) {
		step->size_bytes = left < STEP_BYTES ? left : STEP_BYTES;
		if (step->size_bytes > segments[0].iov_len)
			step->size_bytes = segments[0].iov_len;
		step->clipped = (struct iovec){ segments[0].iov_base, step->size_bytes };
		step->segments = &step->clipped;
		step->segment_count = 1;
	}
}

void pv_aio_step(const struct pv_aio_request *request, struct pv_aio_step *step)
{
	*step = (struct pv_aio_step){ .size_bytes = 0 };
	switch (request->operation) {
	case PV_AIO_READ:
	case PV_AIO_WRITE:
		step->call = request->operation == PV_AIO_READ ? PV_STEP_READ : PV_STEP_WRITE;
		step_of_segments(request->segments, request->segment_count, request->size_bytes, step);
		return;
	case OPERATION_FILL:
		step->call = PV_STEP_WRITE;
		step_of_segments(zero_segments, ZEROS_COUNT, request->size_bytes, step);
		return;
	case PV_AIO_SYNC:
		step->call = PV_STEP_SYNC;
		return;
	default:
		step->call = PV_STEP_ALLOCATE;
		step->mode = FALLOC_FL_KEEP_SIZE |
			     (request->operation == PV_AIO_ZERO ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
		step->size_bytes = request->size_bytes;
	}
}

/* The next best way, if the file system lacks what was tried; false if there is none. */
static bool fall_back(struct pv_aio_request *request)
{
	switch (request->operation) {
	case PV_AIO_ZERO:
		request->operation = PV_AIO_ZERO_UNMAP;
		return true;
	case PV_AIO_ZERO_UNMAP:
		request->operation = OPERATION_FILL;
		return true;
	case PV_AIO_DISCARD: /* A hint: to keep the contents is allowed. */
		request->size_bytes = 0;
		return true;
	default:
		return false;
	}
}

/* Moves bytes step by step; the other operations are done at once. */
static bool is_transfer(const struct pv_aio_request *request)
{
	return request->operation == PV_AIO_READ || request->operation == PV_AIO_WRITE ||
	       request->operation == OPERATION_FILL;
}

static void advance(struct pv_aio_request *request, uint64_t done)
{
	request->offset_bytes += done;
	request->size_bytes -= done;
	while (request->operation != OPERATION_FILL && done > 0) {
		struct iovec *segment = request->segments;
		uint64_t part = done < segment->iov_len ? done : segment->iov_len;

		segment->iov_base = (uint8_t *)segment->iov_base + part;
		segment->iov_len -= part;
		done -= part;
		if (segment->iov_len == 0) {
			request->segments++;
			request->segment_count--;
		}
	}
}

/*
 * How much of what was done counts: past the page cache the rest has to begin with a block, so a part of one is done
 * again.  Less than a block counts as it is, or nothing would ever be done.
 */
static uint64_t counted(const struct pv_aio_request *request, uint64_t done)
{
	return done < request->size_bytes && done > BLOCK_BYTES ? done - done % BLOCK_BYTES : done;
}

/* Whether to try once more what the kernel refused for the moment: some time, but not for ever. */
static bool may_try_again(struct pv_aio_request *request, int64_t result)
{
	struct timespec now;

	if (result != -EINTR && result != -EAGAIN)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (!request->refused_ns)
		request->refused_ns = now_ns;
	return now_ns - request->refused_ns < REFUSED_MOST_NS;
}

bool pv_aio_step_done(const struct pv_aio *aio, struct pv_aio_request *request, int64_t result)
{
	bool lacking = result == -EOPNOTSUPP || result == -ENOSYS || result == -ENODEV;

	if (result >= 0)
		request->refused_ns = 0;
	if (result < 0 && !may_try_again(request, result) && !(lacking && fall_back(request)))
		request->error = (int)-result;
	else if (result >= 0 && !is_transfer(request))
		request->size_bytes = 0;
	else if (result == 0 || result > (int64_t)request->size_bytes)
		request->error = EIO; /* The file ends before the disk does: it was truncated. */
	else if (result > 0)
		advance(request, counted(request, (uint64_t)result));
	if (request->error || request->size_bytes == 0)
		return true;
	if (__atomic_load_n(&aio->cancel, __ATOMIC_RELAXED))
		request->error = ECANCELED;
	return request->error != 0;
}
