/* SPDX-License-Identifier: 0BSD
 *
 * Services over TCP: what a service does with bytes is a struct service, how connections come, wait for room and end is
 * the same for all of them.
 */
#ifndef WEB_STREAMS_H
#define WEB_STREAMS_H

#include "lwip/tcp.h"

struct stream {
	const struct service *service;
	struct tcp_pcb *pcb;
	void *state; /* the service's, state_bytes of it, zero at first */
	uint32_t taken; /* of what lwIP offers, before there was no more room */
	uint32_t owed; /* taken, and for the peer's window only to be counted when what came of it has arrived */
	bool closing; /* nothing is to be written any more */
};

struct service {
	uint16_t port;
	uint16_t state_bytes;
	bool echoes; /* writes as much as it takes, so that it takes no more than it can write */
	/* Bytes of the peer's, in order. False: there is no room for what they cause, offer them again. */
	bool (*take)(struct stream *stream, const uint8_t *bytes, uint32_t size_bytes);
	void (*end)(struct stream *stream); /* the peer has sent all; NULL: then so have we */
	void (*more)(struct stream *stream); /* there may be room to write; NULL: nothing waits for that */
};

struct stream_counts {
	uint64_t connections, resets;
	uint32_t open;
};

extern struct stream_counts stream_counts;

/* False: lwIP has no memory for it. */
bool stream_listen(const struct service *service);
/* Copies bytes; false: there is no room for all of them, and none were taken. */
bool stream_write(struct stream *stream, const void *bytes, uint32_t size_bytes);
/* What was written goes, then the connection ends. */
void stream_close(struct stream *stream);

#endif
