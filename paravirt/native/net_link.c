// SPDX-License-Identifier: BSD-2-Clause
/*
 * Links of the host's.  A TAP device has virtio's own header before each frame, so that one system call moves
 * a frame between the kernel and guest memory; so has a datagram, without the header.  A stream is read and
 * written in large pieces, which costs a copy and saves a system call for most frames.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net_pair.h"

#define LENGTH_BYTES 4u

int pv_net_link_init(struct pv_net_link *link, uint32_t kind, int fd, bool exact, struct pv_net_statistics *statistics)
{
	int type = 0;
	socklen_t size = sizeof(type);

	*link = (struct pv_net_link){ .kind = kind, .fd = fd, .attached = true, .statistics = statistics };
	if (kind == PV_NET_LINK_TAP) {
		link->burst = exact ? NULL : pv_net_burst_create(fd);
		return 0;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size))
		return -errno;
	link->connected = type != SOCK_DGRAM;
	if (kind != PV_NET_LINK_STREAM)
		return 0;
	link->inbound.bytes = malloc(PV_NET_STREAM_BYTES);
	link->outbound.bytes = malloc(PV_NET_STREAM_BYTES);
	return link->inbound.bytes && link->outbound.bytes ? 0 : -ENOMEM;
}

void pv_net_link_deinit(struct pv_net_link *link)
{
	free(link->inbound.bytes);
	free(link->outbound.bytes);
	pv_net_burst_destroy(link->burst);
}

void pv_net_link_start(struct pv_net_link *link, uint64_t frame_bytes)
{
	if (!link->burst)
		return;
	pv_backend_count(&link->statistics->receive_dropped_reset, pv_net_burst_forget(link->burst));
	link->reads_ahead = pv_net_burst_fits(frame_bytes);
}

static bool later(int error)
{
	return error == EAGAIN || error == EINTR || error == ENOBUFS;
}

void pv_net_link_failed(struct pv_net_link *link, int error)
{
	/* A queue that is just being detached says that its descriptor is bad. */
	if (!later(error) && __atomic_load_n(&link->attached, __ATOMIC_ACQUIRE))
		link->lost = true;
}

void pv_net_gather(uint8_t *to, const struct iovec *segments, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		memcpy(to, segments[i].iov_base, segments[i].iov_len);
		to += segments[i].iov_len;
	}
}

void pv_net_scatter(const struct iovec *segments, uint32_t count, uint64_t offset, const void *from,
		    uint64_t size_bytes)
{
	const uint8_t *next = from;

	for (uint32_t i = 0; i < count && size_bytes > 0; i++) {
		uint64_t length = segments[i].iov_len;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		length = length - offset < size_bytes ? length - offset : size_bytes;
		memcpy((uint8_t *)segments[i].iov_base + offset, next, length);
		next += length;
		size_bytes -= length;
		offset = 0;
	}
}

/* The segments without their first `skip` bytes; how many there are before. */
static uint32_t advance(struct iovec *segments, uint32_t count, uint64_t skip)
{
	uint32_t gone = 0;

	while (gone < count && skip >= segments[gone].iov_len)
		skip -= segments[gone++].iov_len;
	if (gone < count) {
		segments[gone].iov_base = (uint8_t *)segments[gone].iov_base + skip;
		segments[gone].iov_len -= skip;
	}
	return gone;
}

/* ---- receiving ---- */

static uint64_t receive_tap(struct pv_net_link *link, const struct iovec *room, uint32_t count)
{
	ssize_t got = readv(link->fd, room, (int)count);

	if (got < 0)
		pv_net_link_failed(link, errno);
	return got > (ssize_t)PV_NET_HEADER_BYTES ? (uint64_t)got - PV_NET_HEADER_BYTES : 0;
}

static void put_plain_header(const struct iovec *room, uint32_t count)
{
	static const struct pv_net_header plain;

	pv_net_scatter(room, count, 0, &plain, sizeof(plain));
}

/* Whether an empty read was the end, and no empty message: all has been read, and nothing follows. */
static bool ended(int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLRDHUP };
	uint8_t more;

	return poll(&end, 1, 0) == 1 && recv(fd, &more, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static uint64_t receive_datagram(struct pv_net_link *link, struct iovec *room, uint32_t count)
{
	put_plain_header(room, count);
	uint32_t gone = advance(room, count, PV_NET_HEADER_BYTES);
	struct msghdr message = { .msg_iov = room + gone, .msg_iovlen = count - gone };
	ssize_t got = recvmsg(link->fd, &message, MSG_TRUNC | MSG_DONTWAIT);

	/* An empty message is no frame. */
	if (got == 0)
		link->lost = link->connected && ended(link->fd);
	else if (got < 0)
		link->lost = !later(errno);
	return got > 0 ? (uint64_t)got : 0;
}

static uint32_t waiting(const struct pv_net_stream *stream)
{
	return stream->end - stream->begin;
}

static uint32_t frame_length(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Makes room behind what waits. */
static void compact(struct pv_net_stream *stream)
{
	memmove(stream->bytes, stream->bytes + stream->begin, waiting(stream));
	stream->end -= stream->begin;
	stream->begin = 0;
}

/* The length of the whole frame that waits, or 0. */
static uint32_t whole_frame(struct pv_net_link *link)
{
	struct pv_net_stream *in = &link->inbound;

	if (waiting(in) < LENGTH_BYTES)
		return 0;
	uint32_t length = frame_length(in->bytes + in->begin);
	if (length == 0 || length > PV_NET_FRAME_MOST) /* out of step: nothing that follows can be believed */
		link->lost = true;
	return !link->lost && waiting(in) - LENGTH_BYTES >= length ? length : 0;
}

static uint64_t receive_stream(struct pv_net_link *link, const struct iovec *room, uint32_t count)
{
	struct pv_net_stream *in = &link->inbound;
	uint32_t length = whole_frame(link);

	if (!length && !link->lost) {
		compact(in);
		ssize_t got = recv(link->fd, in->bytes + in->end, PV_NET_STREAM_BYTES - in->end, MSG_DONTWAIT);
		if (got > 0)
			in->end += (uint32_t)got;
		else
			link->lost = got == 0 || !later(errno);
		length = got > 0 ? whole_frame(link) : 0;
	}
	if (!length)
		return 0;
	put_plain_header(room, count);
	pv_net_scatter(room, count - 1, PV_NET_HEADER_BYTES, in->bytes + in->begin + LENGTH_BYTES, length);
	in->begin += LENGTH_BYTES + length;
	return length;
}

uint64_t pv_net_link_receive(struct pv_net_link *link, struct iovec *room, uint32_t count)
{
	switch (link->kind) {
	case PV_NET_LINK_TAP:
		return link->reads_ahead ? pv_net_burst_receive(link, room, count) : receive_tap(link, room, count);
	case PV_NET_LINK_FRAMES:
		return receive_datagram(link, room, count);
	default:
		return receive_stream(link, room, count);
	}
}

/* ---- sending ---- */

int pv_net_link_sent(struct pv_net_link *link, int64_t result, uint64_t frame_bytes)
{
	struct pv_net_statistics *statistics = link->statistics;
	int error = result < 0 ? (int)-result : 0;

	if (!error) {
		pv_backend_count(&statistics->sent_frames, 1);
		pv_backend_count(&statistics->sent_bytes, frame_bytes);
		return PV_NET_SENT;
	}
	if (later(error))
		return PV_NET_BLOCKED;
	if (error == EPIPE || error == ECONNRESET || error == EBADFD)
		pv_net_link_failed(link, error);
	pv_backend_count(&statistics->send_dropped_refused, 1);
	return PV_NET_REFUSED;
}

/* Frames stay in their order: one that has no slot waits for those that have. */
static int send_tap(struct pv_net_link *link, struct iovec *segments, uint32_t count, uint64_t frame_bytes)
{
	if (link->burst && pv_net_burst_fits(frame_bytes))
		return pv_net_burst_send(link, segments, count, frame_bytes);
	if (link->burst && !pv_net_burst_flush(link))
		return PV_NET_BLOCKED;
	ssize_t result = writev(link->fd, segments, (int)count);
	return pv_net_link_sent(link, result < 0 ? -errno : result, frame_bytes);
}

static int send_datagram(struct pv_net_link *link, struct iovec *segments, uint32_t count, uint64_t frame_bytes)
{
	struct msghdr message = { .msg_iov = segments, .msg_iovlen = count };
	ssize_t result = sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

	return pv_net_link_sent(link, result < 0 ? -errno : result, frame_bytes);
}

static int send_stream(struct pv_net_link *link, const struct iovec *segments, uint32_t count, uint32_t frame_bytes)
{
	struct pv_net_stream *out = &link->outbound;

	if (PV_NET_STREAM_BYTES - out->end < LENGTH_BYTES + frame_bytes) {
		pv_net_link_flush(link);
		compact(out);
		if (PV_NET_STREAM_BYTES - out->end < LENGTH_BYTES + frame_bytes)
			return pv_net_link_sent(link, link->lost ? -EPIPE : -EAGAIN, frame_bytes);
	}
	uint8_t *at = out->bytes + out->end;
	for (uint32_t i = 0; i < LENGTH_BYTES; i++)
		*at++ = (uint8_t)(frame_bytes >> (8 * (LENGTH_BYTES - 1 - i)));
	pv_net_gather(at, segments, count);
	out->end += LENGTH_BYTES + frame_bytes;
	return pv_net_link_sent(link, 0, frame_bytes);
}

int pv_net_link_send(struct pv_net_link *link, struct iovec *segments, uint32_t count, uint64_t frame_bytes)
{
	if (!pv_net_link_is_usable(link) || frame_bytes == 0 || frame_bytes > PV_NET_FRAME_MOST)
		return pv_net_link_sent(link, -EINVAL, frame_bytes);
	switch (link->kind) {
	case PV_NET_LINK_TAP:
		return send_tap(link, segments, count, frame_bytes);
	case PV_NET_LINK_FRAMES:
		return send_datagram(link, segments + 1, count - 1, frame_bytes);
	default:
		return send_stream(link, segments + 1, count - 1, (uint32_t)frame_bytes);
	}
}

bool pv_net_link_flush(struct pv_net_link *link)
{
	struct pv_net_stream *out = &link->outbound;

	if (link->burst)
		return pv_net_burst_flush(link);
	while (waiting(out) > 0 && !link->lost) {
		ssize_t put = send(link->fd, out->bytes + out->begin, waiting(out), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (put < 0) {
			link->lost = !later(errno);
			break;
		}
		out->begin += (uint32_t)put;
	}
	if (!waiting(out))
		out->begin = out->end = 0;
	return !waiting(out);
}
