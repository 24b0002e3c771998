// SPDX-License-Identifier: BSD-2-Clause
/*
 * A capture: two buffers, one that frames are copied into and one that a thread writes to the file.
 */
#define _GNU_SOURCE
#include "net_capture.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (2u << 20)
#define THREAD_STACK_BYTES (64u << 10)
#define TICK_MS 100 /* how late a reader that does not read is told that it ends */
#define LAST_MS 1000 /* for such a reader to go on, once it ends */
#define BLOCK_PACKET 6u /* pcapng 4.3 */
#define BLOCK_STATISTICS 5u /* pcapng 4.6 */
#define OPTION_FLAGS 2u /* of a packet: 1 inbound, 2 outbound */
#define OPTION_RECEIVED 4u /* of statistics */
#define OPTION_DROPPED 5u

struct packet_head {
	uint32_t kind;
	uint32_t size_bytes;
	uint32_t interface;
	uint32_t time_high;
	uint32_t time_low;
	uint32_t captured_bytes;
	uint32_t frame_bytes;
};

struct packet_tail {
	uint16_t option;
	uint16_t option_bytes;
	uint32_t flags;
	uint32_t end;
	uint32_t size_bytes;
};

struct statistics_block {
	uint32_t kind;
	uint32_t size_bytes;
	uint32_t interface;
	uint32_t time_high;
	uint32_t time_low;
	uint16_t received_option;
	uint16_t received_bytes;
	uint32_t received[2];
	uint16_t dropped_option;
	uint16_t dropped_bytes;
	uint32_t dropped[2];
	uint32_t end;
	uint32_t size_again;
};

struct pv_net_capture {
	int fd;
	int error; /* of the first write that failed: nothing is written after it */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ending; /* written under the lock, read without */
	uint8_t *filling;
	uint8_t *writing;
	uint32_t filled_bytes;
	uint64_t frames;
	uint64_t filled_frames; /* in the buffer */
	uint64_t lost;
};

static void set_time(uint32_t *high, uint32_t *low)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	*high = (uint32_t)(ns >> 32);
	*low = (uint32_t)ns;
}

/* A reader (of a pipe) that does not read is waited for, but does not keep the machine from its end. */
static bool await_reader(const struct pv_net_capture *capture)
{
	struct pollfd reader = { .fd = capture->fd, .events = POLLOUT };

	while (!__atomic_load_n(&capture->ending, __ATOMIC_RELAXED)) {
		if (poll(&reader, 1, TICK_MS) > 0)
			return true;
	}
	if (poll(&reader, 1, LAST_MS) > 0)
		return true;
	errno = ETIMEDOUT;
	return false;
}

static bool write_all(const struct pv_net_capture *capture, const uint8_t *from, size_t size_bytes)
{
	while (size_bytes > 0) {
		ssize_t put = write(capture->fd, from, size_bytes);

		if (put < 0 && (errno == EINTR || (errno == EAGAIN && await_reader(capture))))
			continue;
		if (put <= 0)
			return false;
		from += put;
		size_bytes -= (size_t)put;
	}
	return true;
}

/* Swaps the buffers under the lock and writes without it. */
static void *write_frames(void *argument)
{
	struct pv_net_capture *capture = argument;

	pthread_mutex_lock(&capture->lock);
	for (;;) {
		while (!capture->filled_bytes && !capture->ending)
			pthread_cond_wait(&capture->changed, &capture->lock);
		if (!capture->filled_bytes)
			break;
		uint8_t *full = capture->filling;
		uint32_t size_bytes = capture->filled_bytes;
		uint64_t frames = capture->filled_frames;

		capture->filling = capture->writing;
		capture->writing = full;
		capture->filled_bytes = 0;
		capture->filled_frames = 0;
		pthread_mutex_unlock(&capture->lock);
		bool written = !capture->error && write_all(capture, full, size_bytes);
		int error = errno;
		pthread_mutex_lock(&capture->lock);
		if (written)
			continue;
		if (!capture->error)
			capture->error = error ? error : EIO;
		capture->frames -= frames;
		__atomic_store_n(&capture->lost, capture->lost + frames, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&capture->lock);
	return NULL;
}

static int start(struct pv_net_capture *capture)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
	sigfillset(&all); /* signals are for the threads that run vCPUs */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&capture->thread, &attributes, write_frames, capture);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (!error)
		pthread_setname_np(capture->thread, "capture");
	return error;
}

static void release(struct pv_net_capture *capture)
{
	pthread_cond_destroy(&capture->changed);
	pthread_mutex_destroy(&capture->lock);
	free(capture->filling);
	free(capture->writing);
	free(capture);
}

struct pv_net_capture *pv_net_capture_create(int fd)
{
	struct pv_net_capture *capture = calloc(1, sizeof(*capture));
	int error = ENOMEM;

	if (!capture)
		return NULL;
	capture->fd = fd;
	pthread_mutex_init(&capture->lock, NULL);
	pthread_cond_init(&capture->changed, NULL);
	capture->filling = malloc(BUFFER_BYTES);
	capture->writing = malloc(BUFFER_BYTES);
	if (capture->filling && capture->writing)
		error = start(capture);
	if (!error)
		return capture;
	release(capture);
	errno = error;
	return NULL;
}

/* The last block: how many frames are there, and how many are not. */
static void write_counts(struct pv_net_capture *capture)
{
	struct statistics_block block = {
		.kind = BLOCK_STATISTICS,
		.size_bytes = sizeof(block),
		.received_option = OPTION_RECEIVED,
		.received_bytes = sizeof(block.received),
		.dropped_option = OPTION_DROPPED,
		.dropped_bytes = sizeof(block.dropped),
		.size_again = sizeof(block),
	};
	uint64_t received = capture->frames + capture->lost;

	set_time(&block.time_high, &block.time_low);
	memcpy(block.received, &received, sizeof(received));
	memcpy(block.dropped, &capture->lost, sizeof(capture->lost));
	if (!write_all(capture, (const uint8_t *)&block, sizeof(block)))
		capture->error = errno;
}

int pv_net_capture_destroy(struct pv_net_capture *capture)
{
	int error;

	pthread_mutex_lock(&capture->lock);
	__atomic_store_n(&capture->ending, true, __ATOMIC_RELAXED);
	pthread_cond_signal(&capture->changed);
	pthread_mutex_unlock(&capture->lock);
	pthread_join(capture->thread, NULL);
	if (!capture->error)
		write_counts(capture);
	error = capture->error;
	release(capture);
	return error;
}

/* Copies the bytes from `skip` on. */
static void gather(uint8_t *to, const struct iovec *segments, uint32_t count, uint64_t skip, uint64_t size_bytes)
{
	for (uint32_t i = 0; i < count && size_bytes > 0; i++) {
		uint64_t length = segments[i].iov_len;

		if (skip >= length) {
			skip -= length;
			continue;
		}
		length = length - skip < size_bytes ? length - skip : size_bytes;
		memcpy(to, (const uint8_t *)segments[i].iov_base + skip, length);
		to += length;
		size_bytes -= length;
		skip = 0;
	}
}

static void append(struct pv_net_capture *capture, bool sent, const struct iovec *segments, uint32_t count,
		   uint64_t skip, uint32_t frame_bytes)
{
	uint32_t padded = (frame_bytes + 3) & ~3u;
	struct packet_head head = {
		.kind = BLOCK_PACKET,
		.size_bytes = (uint32_t)sizeof(struct packet_head) + padded + (uint32_t)sizeof(struct packet_tail),
		.captured_bytes = frame_bytes,
		.frame_bytes = frame_bytes,
	};
	struct packet_tail tail = {
		.option = OPTION_FLAGS,
		.option_bytes = sizeof(tail.flags),
		.flags = sent ? 2 : 1,
		.size_bytes = head.size_bytes,
	};
	uint8_t *at = capture->filling + capture->filled_bytes;

	if (BUFFER_BYTES - capture->filled_bytes < head.size_bytes) {
		__atomic_store_n(&capture->lost, capture->lost + 1, __ATOMIC_RELAXED);
		return;
	}
	set_time(&head.time_high, &head.time_low);
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	gather(at, segments, count, skip, frame_bytes);
	memset(at + frame_bytes, 0, padded - frame_bytes);
	memcpy(at + padded, &tail, sizeof(tail));
	capture->filled_bytes += head.size_bytes;
	capture->filled_frames++;
	capture->frames++;
}

void pv_net_capture_put(struct pv_net_capture *capture, bool sent, const struct iovec *segments, uint32_t count,
			uint64_t skip, uint64_t frame_bytes)
{
	/* Held for copies alone, never while the file is written. */
	pthread_mutex_lock(&capture->lock);
	append(capture, sent, segments, count, skip, (uint32_t)frame_bytes);
	pthread_cond_signal(&capture->changed);
	pthread_mutex_unlock(&capture->lock);
}

uint64_t pv_net_capture_lost(const struct pv_net_capture *capture)
{
	return __atomic_load_n(&capture->lost, __ATOMIC_RELAXED);
}
