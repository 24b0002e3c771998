/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One queue of a link of the host's, whatever its kind: frames in, frames out, never waiting.  Chains, rooms
 * and what is counted are left to net_receive.c and net_send.c.
 */
#ifndef PARAVIRT_NET_LINK_H
#define PARAVIRT_NET_LINK_H

#include "net.h"
#include "net_burst.h"

#define PV_NET_HEADER_BYTES ((uint32_t)sizeof(struct pv_net_header))
/* Of a large segment; any frame is at most that. */
#define PV_NET_FRAME_MOST (65535u + 18u)
#define PV_NET_TOO_LARGE (1ull << 62) /* of a frame that fits in no room, and is not known better */
#define PV_NET_STREAM_BYTES (256u << 10) /* of a stream's buffer, in each direction */

/* Bytes of a stream between the socket and frames. */
struct pv_net_stream {
	uint8_t *bytes;
	uint32_t begin;
	uint32_t end;
};

struct pv_net_link {
	uint32_t kind;
	int fd;
	bool connected; /* a socket that says so when its other end is gone */
	bool lost;
	bool attached; /* a TAP device gives its frames to this queue, among others; any thread */
	bool reads_ahead; /* frames of a TAP device come in bursts */
	struct pv_net_statistics *statistics; /* counts what is sent and refused, and bursts */
	struct pv_net_burst *burst; /* of a TAP device; NULL: one by one */
	struct pv_net_stream inbound; /* of a stream */
	struct pv_net_stream outbound;
};

/* 0 or -errno.  With `exact`, what becomes of a frame is known when it was sent, and none is read before its time. */
int pv_net_link_init(struct pv_net_link *link, uint32_t kind, int fd, bool exact, struct pv_net_statistics *statistics);
void pv_net_link_deinit(struct pv_net_link *link);
/* For a driver whose frames have at most that many bytes; those read for another one are dropped. While it is not used. */
void pv_net_link_start(struct pv_net_link *link, uint64_t frame_bytes);

/* Whether frames may come: the other end is there, and a TAP device has this queue in use. */
static inline bool pv_net_link_is_usable(const struct pv_net_link *link)
{
	return !link->lost && __atomic_load_n(&link->attached, __ATOMIC_ACQUIRE);
}

/* What became of a frame to send. */
#define PV_NET_SENT 0
#define PV_NET_BLOCKED 1 /* not now: the link is writable first */
#define PV_NET_REFUSED 2

/*
 * The next frame, put into `room` from offset PV_NET_HEADER_BYTES on, and its header at the start, but for
 * `chains`: its bytes without the header, or 0: there is none now (or no more: link->lost).  More bytes
 * than there was room for: it did not fit, and is gone.  The last segment of room is not for the frame but the
 * link's to see that.
 */
uint64_t pv_net_link_receive(struct pv_net_link *link, struct iovec *room, uint32_t count);
/*
 * Sends one; the first segment is its header, which not every link takes.  SENT: the frame is the link's, which counts
 * what becomes of it.
 */
int pv_net_link_send(struct pv_net_link *link, struct iovec *segments, uint32_t count, uint64_t frame_bytes);
/* What was sent goes on its way; true if all of it has. */
bool pv_net_link_flush(struct pv_net_link *link);

/* What the result of sending a frame, bytes or -errno, means: it is counted unless BLOCKED. */
int pv_net_link_sent(struct pv_net_link *link, int64_t result, uint64_t frame_bytes);
/* Whether an error of receiving says that there is no more to come. */
void pv_net_link_failed(struct pv_net_link *link, int error);

/* Copies all segments to `to`. */
void pv_net_gather(uint8_t *to, const struct iovec *segments, uint32_t count);
/* Copies to segments from a byte offset on. */
void pv_net_scatter(const struct iovec *segments, uint32_t count, uint64_t offset, const void *from,
		    uint64_t size_bytes);

#endif
