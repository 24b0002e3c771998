// SPDX-License-Identifier: BSD-2-Clause
/*
 * Drives asynchronous file I/O by itself, without a guest: random operations, many at a time, compared
 * with a copy of the file in memory.  Built by test_aio.py with the sanitizers, threads' included.
 *
 *   aio_harness ENGINE FILE SEED
 *
 * An odd seed has the file registered, one with the second bit half of the memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "aio_engine.h"

#define DEPTH 64u
#define PART_BYTES (16u << 10) /* of the file, one for each request under way, so that order does not matter */
#define PIECES 8u
#define TURNS 4000u

struct lane {
	struct pv_aio_request request; /* first: what is collected is a lane */
	struct iovec segments[PIECES];
	uint8_t buffer[PART_BYTES];
	uint32_t from, size;
	bool busy;
};

static struct lane lanes[DEPTH];
static uint8_t model[DEPTH * PART_BYTES];
static uint64_t state;

static void check(bool good, const char *what)
{
	if (!good) {
		printf("failed: %s\n", what);
		exit(1);
	}
}

static uint32_t chance(uint32_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33) % below;
}

static uint8_t *expected(const struct lane *lane)
{
	return model + (size_t)(lane - lanes) * PART_BYTES + lane->from;
}

static void cut(struct lane *lane)
{
	uint32_t at = 0, count = 0;

	while (at < lane->size) {
		uint32_t size = count == PIECES - 1 ? lane->size - at : 1 + chance(lane->size - at);

		lane->segments[count++] = (struct iovec){ lane->buffer + at, size };
		at += size;
	}
	lane->request.segments = lane->segments;
	lane->request.segment_count = count;
}

static void begin(struct pv_aio *aio, struct lane *lane, int fd)
{
	static const uint32_t operations[] = { PV_AIO_READ, PV_AIO_READ, PV_AIO_WRITE,	   PV_AIO_WRITE,
					       PV_AIO_SYNC, PV_AIO_ZERO, PV_AIO_ZERO_UNMAP };
	struct pv_aio_request *request = &lane->request;

	lane->from = chance(PART_BYTES);
	lane->size = 1 + chance(PART_BYTES - lane->from);
	lane->busy = true;
	cut(lane);
	request->operation = operations[chance(sizeof(operations) / sizeof(operations[0]))];
	request->durable = chance(8) == 0;
	request->fd = fd;
	request->offset_bytes = (uint64_t)(expected(lane) - model);
	request->size_bytes = lane->size;
	if (request->operation == PV_AIO_READ)
		memset(lane->buffer, 0xEE, lane->size);
	if (request->operation == PV_AIO_WRITE) {
		memset(lane->buffer, (int)chance(256), lane->size);
		memcpy(expected(lane), lane->buffer, lane->size);
	}
	if (request->operation == PV_AIO_ZERO || request->operation == PV_AIO_ZERO_UNMAP)
		memset(expected(lane), 0, lane->size);
	pv_aio_start(aio, request);
}

static uint32_t collect(struct pv_aio *aio)
{
	struct pv_aio_request *done[7];
	uint32_t count = pv_aio_collect(aio, done, 7);

	for (uint32_t i = 0; i < count; i++) {
		struct lane *lane = (struct lane *)done[i];

		check(lane->busy && done[i]->error == 0 && done[i]->size_bytes == 0, "a request is done, once");
		if (done[i]->operation == PV_AIO_READ)
			check(memcmp(lane->buffer, expected(lane), lane->size) == 0, "what was read");
		lane->busy = false;
	}
	return count;
}

static void drain(struct pv_aio *aio, uint32_t in_flight, int wake_fd)
{
	while (in_flight > 0) {
		uint32_t count = collect(aio);

		in_flight -= count;
		if (count == 0)
			pv_aio_wait(aio, (const int[PV_AIO_WAKES]){ wake_fd, -1 }, -1);
	}
}

/* Something that is not there, in the midst of things that are. */
static void failures(struct pv_aio *aio, int wake_fd)
{
	static const struct {
		uint32_t operation;
		int error;
	} cases[] = { { PV_AIO_READ, EIO }, { PV_AIO_WRITE, EBADF }, { PV_AIO_ZERO, EBADF }, { PV_AIO_SYNC, EBADF } };

	for (uint32_t i = 0; i < 4; i++) {
		struct pv_aio_request *request = &lanes[0].request, *done = NULL;
		bool beyond = cases[i].operation == PV_AIO_READ;

		lanes[0].segments[0] = (struct iovec){ lanes[0].buffer, 512 };
		*request = (struct pv_aio_request){ .operation = cases[i].operation,
						    .fd = beyond ? lanes[1].request.fd : -1,
						    .offset_bytes = beyond ? sizeof(model) : 0,
						    .size_bytes = 512,
						    .segments = lanes[0].segments,
						    .segment_count = 1 };
		pv_aio_start(aio, request);
		pv_aio_submit(aio);
		while (pv_aio_collect(aio, &done, 1) == 0)
			pv_aio_wait(aio, (const int[PV_AIO_WAKES]){ wake_fd, -1 }, -1);
		check(done == request && done->error == cases[i].error, "the error of a request that cannot be done");
	}
}

/* What a kernel may answer, and files here do not. */
static void answers(const struct pv_aio *aio)
{
	struct pv_aio_request *request = &lanes[0].request;
	struct pv_aio_step step;
	uint32_t tries = 1;

	lanes[0].segments[0] = (struct iovec){ lanes[0].buffer, PART_BYTES };
	*request = (struct pv_aio_request){
		.operation = PV_AIO_READ, .size_bytes = PART_BYTES, .segments = lanes[0].segments, .segment_count = 1
	};
	check(!pv_aio_step_done(aio, request, 4096 + 512), "a part was done");
	pv_aio_step(request, &step);
	check(request->offset_bytes == 4096 && step.segments->iov_base == lanes[0].buffer + 4096, "the rest is whole");
	check(!pv_aio_step_done(aio, request, 512) && request->offset_bytes == 4096 + 512, "it always goes on");
	check(!pv_aio_step_done(aio, request, -EAGAIN), "not now");
	check(!pv_aio_step_done(aio, request, 512) && !request->refused_ns, "it went on");
	while (!pv_aio_step_done(aio, request, -EAGAIN))
		tries++;
	check(tries > 1 && request->error == EAGAIN, "not for ever");
	request->error = 0;
	check(pv_aio_step_done(aio, request, -EINVAL) && request->error == EINVAL, "what does not fit");
}

/* A wake-up is not lost, whether it comes before the wait or during it. */
static void wake(struct pv_aio *aio, int wake_fd)
{
	struct pv_aio_request *none;

	for (int i = 0; i < 3; i++) {
		check(eventfd_write(wake_fd, 1) == 0, "eventfd");
		pv_aio_wait(aio, (const int[PV_AIO_WAKES]){ wake_fd, -1 }, -1);
		check(pv_aio_collect(aio, &none, 1) == 0, "nothing was started");
	}
}

int main(int argc, char **argv)
{
	uint32_t engine = argc == 4 && argv[1][0] == 'u' ? PV_AIO_URING : PV_AIO_THREADS;
	int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int fd = argc == 4 ? open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	struct pv_aio *aio = pv_aio_create(engine, DEPTH);
	uint32_t in_flight = 0;

	check(fd >= 0 && ftruncate(fd, sizeof(model)) == 0 && aio, "set-up");
	state = strtoull(argv[3], NULL, 10);
	check(pv_aio_engine(aio) == engine, "the engine asked for");
	if (state & 1)
		pv_aio_files(aio, &fd, 1);
	if (state & 2)
		pv_aio_memory(aio, &(struct iovec){ lanes, sizeof(lanes) / 2 }, 1);
	for (uint32_t turn = 0; turn < TURNS; turn++) {
		for (uint32_t i = chance(DEPTH); i < DEPTH && chance(8); i++) {
			if (!lanes[i].busy) {
				begin(aio, &lanes[i], fd);
				in_flight++;
			}
		}
		if (chance(2))
			pv_aio_submit(aio);
		else if (in_flight > 0 && chance(4) == 0)
			pv_aio_wait(aio, (const int[PV_AIO_WAKES]){ wake_fd, -1 }, -1);
		in_flight -= collect(aio);
	}
	drain(aio, in_flight, wake_fd);
	check(pread(fd, lanes[0].buffer, PART_BYTES, 0) == PART_BYTES, "reading back");
	check(memcmp(lanes[0].buffer, model, PART_BYTES) == 0, "what is in the file");
	lanes[1].request.fd = fd;
	failures(aio, wake_fd);
	answers(aio);
	wake(aio, wake_fd);
	pv_aio_destroy(aio);
	close(fd);
	close(wake_fd);
	puts("good");
	return 0;
}
