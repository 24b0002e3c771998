// SPDX-License-Identifier: BSD-2-Clause
/*
 * The ends of a stream between the guest bench_vsock and a program of the host's, or, for the floor, between two
 * threads: `serve_` are the program's, and the others what the guest does.  A stream that ends early is 0.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE_BYTES (64u << 10)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool put(int fd, uint64_t bytes, uint32_t size_bytes)
{
	static const uint8_t piece[PIECE_BYTES];

	while (bytes) {
		ssize_t sent = send(fd, piece, bytes < size_bytes ? bytes : size_bytes, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			return false;
		bytes -= sent > 0 ? (uint64_t)sent : 0;
	}
	return true;
}

static bool get(int fd, uint64_t bytes)
{
	uint8_t piece[PIECE_BYTES];

	while (bytes) {
		ssize_t got = recv(fd, piece, bytes < sizeof(piece) ? bytes : sizeof(piece), 0);

		if (got == 0 || (got < 0 && errno != EINTR))
			return false;
		bytes -= got > 0 ? (uint64_t)got : 0;
	}
	return true;
}

bool serve_send(int fd, uint64_t bytes)
{
	return get(fd, bytes) && put(fd, 1, 1);
}

bool serve_receive(int fd, uint64_t bytes)
{
	return get(fd, 1) && put(fd, bytes, PIECE_BYTES);
}

/* Until the other end has enough. */
bool serve_echo(int fd, uint64_t size_bytes)
{
	while (get(fd, size_bytes)) {
		if (!put(fd, size_bytes, (uint32_t)size_bytes))
			return false;
	}
	return true;
}

/* ns of each. */
uint64_t floor_send(int fd, uint64_t bytes, uint32_t size_bytes)
{
	uint64_t begin = now_ns();

	return put(fd, bytes, size_bytes) && get(fd, 1) ? now_ns() - begin : 0;
}

uint64_t floor_receive(int fd, uint64_t bytes)
{
	uint64_t begin = now_ns();

	return put(fd, 1, 1) && get(fd, bytes) ? now_ns() - begin : 0;
}

static int compare(const void *left, const void *right)
{
	const uint64_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

/* The median of so many messages there and back, one at a time. */
uint64_t floor_echo(int fd, uint64_t count, uint32_t size_bytes)
{
	uint64_t *took = calloc(count, sizeof(*took)), median = 0;

	for (uint64_t i = 0; took && i < count; i++) {
		uint64_t begin = now_ns();

		if (!put(fd, size_bytes, size_bytes) || !get(fd, size_bytes))
			goto out;
		took[i] = now_ns() - begin;
	}
	if (!took)
		return 0;
	qsort(took, count, sizeof(*took), compare);
	median = took[count / 2];
out:
	free(took);
	return median;
}
