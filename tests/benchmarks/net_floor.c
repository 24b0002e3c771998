// SPDX-License-Identifier: BSD-2-Clause
/*
 * The floor of a network: frames written to a TAP device and read from it with nothing in between, and what fills
 * the device's queue from the other side.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEADER_BYTES 12 /* before each frame of a TAP device with IFF_VNET_HDR */
#define MOST_BYTES 2048
#define PROTOCOL 0x88b5 /* for experiments */

static const uint8_t to[] = { 2, 0, 0, 0, 0, 0x99 };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ns for that many frames; 0: it does not work. */
uint64_t floor_write(int fd, uint32_t size_bytes, uint64_t frames)
{
	uint8_t frame[HEADER_BYTES + MOST_BYTES] = { 0 };
	uint64_t begin = now_ns();

	memcpy(frame + HEADER_BYTES, to, sizeof(to));
	frame[HEADER_BYTES + 12] = PROTOCOL >> 8;
	frame[HEADER_BYTES + 13] = PROTOCOL & 0xff;
	while (frames) {
		ssize_t put = write(fd, frame, HEADER_BYTES + size_bytes);

		if (put > 0)
			frames--;
		else if (errno != EAGAIN && errno != EINTR)
			return 0;
	}
	return now_ns() - begin;
}

/* The same for frames that wait in the queue. */
uint64_t floor_read(int fd, uint64_t frames)
{
	uint8_t frame[HEADER_BYTES + MOST_BYTES];
	uint64_t begin = now_ns();

	while (frames) {
		ssize_t got = read(fd, frame, sizeof(frame));

		if (got > 0)
			frames--;
		else if (errno != EAGAIN && errno != EINTR)
			return 0;
	}
	return now_ns() - begin;
}

/* Sends that many frames into an interface; how many it took, or -errno. */
int64_t fill(int interface, uint32_t size_bytes, uint64_t frames)
{
	struct sockaddr_ll where = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(PROTOCOL),
		.sll_ifindex = interface,
		.sll_halen = sizeof(to),
	};
	uint8_t frame[MOST_BYTES] = { 0 };
	int fd = socket(AF_PACKET, SOCK_RAW, 0), bypass = 1;
	int64_t sent = 0;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof(bypass));
	memcpy(where.sll_addr, to, sizeof(to));
	memcpy(frame, to, sizeof(to));
	frame[12] = PROTOCOL >> 8;
	frame[13] = PROTOCOL & 0xff;
	for (uint64_t i = 0; i < frames; i++)
		sent += sendto(fd, frame, size_bytes, 0, (struct sockaddr *)&where, sizeof(where)) > 0;
	close(fd);
	return sent;
}
