/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of vsock know together.  All of it belongs to the device's thread, but for words that
 * say otherwise.
 *
 *	vsock.c			the device: turns of its thread, from create to destroy
 *	vsock_packet.c		what a packet of the guest's means
 *	vsock_connection.c	connections: found, made, ended; who has something to send to the guest
 *	vsock_gather.c		data of the guest's on its way to a socket, several packets at once
 *	vsock_host.c		their sockets: made, read to the line's end, written, watched
 *	vsock_receive.c		packets to the guest
 */
#ifndef PARAVIRT_VSOCK_STATE_H
#define PARAVIRT_VSOCK_STATE_H

#include "backend.h"
#include "vsock.h"

#define HEADER_BYTES ((uint32_t)sizeof(struct pv_vsock_header))
#define BUFFER_BYTES ((uint32_t)PV_VSOCK_BUFFER_BYTES)
#define SHUT_RECEIVE ((uint32_t)PV_VSOCK_SHUTDOWN_RECEIVE)
#define SHUT_SEND ((uint32_t)PV_VSOCK_SHUTDOWN_SEND)
#define SHUT_BOTH (SHUT_RECEIVE | SHUT_SEND)
#define HASH_SIZE 1024u /* a power of two */
#define RESETS 256u /* a power of two: RESETs that wait for room and belong to no connection */

#define GATHERED_MOST 32u /* packets */
#define GATHERED_PIECES (2u * PV_MAX_QUEUE_SIZE) /* a chain has no more than half of them */

enum state {
	FREE,
	GREETING, /* a program of the host's is to write its line; no ports yet */
	REQUESTED, /* the guest is to answer our REQUEST */
	OPEN,
	DRAINING, /* the guest is done with it and its ports are free: its last bytes go to the socket */
	DEAD, /* only a RESET is still to be sent */
};

/* Packets without data that a connection has to send. */
#define OWES_REQUEST 1u
#define OWES_RESPONSE 2u
#define OWES_CREDIT_REQUEST 4u
#define OWES_CREDIT_UPDATE 8u

struct connection {
	struct connection *next; /* of its hash chain, or of the free ones */
	struct connection *after, *before; /* in the list of those with something to send; NULL: is not in it */
	enum state state;
	int fd;
	uint32_t guest_port, host_port;
	uint32_t owes;
	bool readable; /* the socket may have something for us */
	bool hung_up; /* its peer is gone */
	bool deaf; /* its peer reads no more: what the guest sends is thrown away */
	bool starved; /* the kernel had no memory for what its peer is to have */
	bool ended; /* its peer has sent all */
	bool asked; /* for credit, since there was none */
	uint32_t guest_shut; /* PV_VSOCK_SHUTDOWN_, as the guest said */
	uint32_t shut; /* the same, as we told the guest */
	uint32_t sent_bytes; /* to the guest, modulo 2^32 as those that follow */
	uint32_t guest_buffer_bytes, guest_forwarded_bytes; /* what the guest said last */
	uint32_t received_bytes; /* from the guest */
	uint32_t forwarded_bytes; /* of those: to the socket, or thrown away */
	uint32_t told_bytes; /* forwarded_bytes as we told the guest last */
	uint32_t buffer_at; /* first byte of the buffer that is in use: received - forwarded are */
	bool buffer_used; /* its pages may be there */
	uint64_t due_ns; /* when we run out of patience; 0: we have it */
};

/* A RESET without connection. */
struct reset {
	uint32_t source_cid, source_cid_high, source_port; /* as the packet that it answers had them */
	uint32_t destination_cid, destination_cid_high, destination_port;
	uint16_t type;
};

/* Packets of one connection whose data goes to its socket in one piece; only within a turn. */
struct gathered {
	struct connection *connection; /* NULL: there are none */
	uint32_t size_bytes;
	uint32_t piece_count, head_count;
	uint16_t heads[GATHERED_MOST];
	struct iovec pieces[GATHERED_PIECES];
};

struct pv_vsock {
	struct pv_backend backend; /* first: the device's opaque */
	struct pv_vsock_options options;
	struct pv_vsock_statistics statistics;
	struct pv_device *device;
	struct pv_chain chain; /* from the guest */
	struct pv_chain room; /* to the guest, taken and not used yet */
	bool has_room;
	struct pv_chain event;
	int epoll_fd;
	int timer_fd;
	bool timer_runs;
	bool may_accept; /* the listener may have somebody */
	bool event_due; /* the guest is to be told of the transport's reset */
	uint32_t reset_wanted; /* of the transport; any thread sets it */
	uint32_t next_port;
	uint32_t resets_head, resets_tail; /* free-running */
	struct reset resets[RESETS];
	struct connection *hash[HASH_SIZE];
	struct connection *free;
	struct connection *first, *last; /* have something to send */
	uint8_t *buffers; /* of all connections: memory that is there once it was written */
	struct connection connections[PV_VSOCK_CONNECTIONS];
	struct iovec pieces[PV_MAX_QUEUE_SIZE];
	struct gathered gathered;
};

static inline void add(uint64_t *counter, uint64_t more)
{
	pv_backend_count(counter, more);
}

/* ---- vsock_connection.c ---- */

void connections_init(struct pv_vsock *vsock);
/* Ends all of them at once, without a word to the guest. */
void connections_drop(struct pv_vsock *vsock);
/* NULL: there is none. */
struct connection *connection_find(struct pv_vsock *vsock, uint32_t guest_port, uint32_t host_port);
/* A new one in a state without ports, with a socket that is its own from now on; NULL: no room. */
struct connection *connection_create(struct pv_vsock *vsock, int fd);
/* Gives it its ports, so that it is found. */
void connection_name(struct pv_vsock *vsock, struct connection *connection, uint32_t guest_port, uint32_t host_port);
/* A port of the host's that no connection to guest_port has. */
uint32_t connection_port(struct pv_vsock *vsock, uint32_t guest_port);
/* Takes its name away, so that the guest can have another one with those ports. */
void connection_unname(struct pv_vsock *vsock, struct connection *connection);
void connection_destroy(struct pv_vsock *vsock, struct connection *connection);
/* Closes its socket; a RESET follows, counted by `reason`, one of the resets_ of the statistics. */
void connection_reset(struct pv_vsock *vsock, struct connection *connection, uint64_t *reason);
/* Whatever changed: puts it into the list of those with something to send, if it has. */
void connection_schedule(struct pv_vsock *vsock, struct connection *connection);
void connection_unschedule(struct pv_vsock *vsock, struct connection *connection);
/* Data that the guest can take now. */
uint32_t connection_credit(const struct connection *connection);
/* Whether its socket may have data that the guest has credit for. */
bool connection_can_receive(const struct connection *connection);
/* What the guest is to know of the directions that are shut. */
static inline uint32_t connection_shut(const struct connection *connection)
{
	return (connection->ended ? SHUT_SEND : 0) | (connection->deaf ? SHUT_RECEIVE : 0);
}

/* From now on the guest has so much time and no more. */
void connection_hurry(struct pv_vsock *vsock, struct connection *connection);
uint8_t *connection_buffer(struct pv_vsock *vsock, const struct connection *connection);

static inline uint32_t connection_fill(const struct connection *connection)
{
	return connection->received_bytes - connection->forwarded_bytes;
}

/* ---- vsock_packet.c ---- */

/* Does what the packet in vsock->chain says: NULL, or the rule that the driver broke. `stays`: as of gather_add. */
const char *packet_handle(struct pv_vsock *vsock, bool *stays);
/* Whether a packet could be answered by a RESET of its own, if it had to be. */
static inline bool packet_can_handle(const struct pv_vsock *vsock)
{
	return vsock->resets_head - vsock->resets_tail < RESETS;
}

/* ---- vsock_gather.c ---- */

/* Whether another chain might not find its place among those gathered. */
static inline bool gather_is_full(const struct pv_vsock *vsock)
{
	return vsock->gathered.connection && vsock->gathered.piece_count > GATHERED_PIECES - PV_MAX_QUEUE_SIZE;
}

/*
 * Data behind the header in vsock->chain, which received_bytes counts already: on its way to the socket, or into the
 * connection's buffer, which has room for it.  True: the chain is given back with the others of its kind.  Not while
 * gather_is_full.
 */
bool gather_add(struct pv_vsock *vsock, struct connection *connection, uint32_t size_bytes);
/* Sends what is gathered and gives the chains back; before anything else is done about any connection. */
void gather_end(struct pv_vsock *vsock);

/* ---- vsock_host.c ---- */

/* Watches the listener and the timer: 0 or an errno. */
int host_init(struct pv_vsock *vsock);
void host_deinit(struct pv_vsock *vsock);
/* Looks at what happened to sockets, a bounded number; whether anything had. */
bool host_look(struct pv_vsock *vsock);
/* Watches a socket; false: the kernel refuses. */
bool host_watch(struct pv_vsock *vsock, struct connection *connection);
/* A connected socket of the guest's choice of port: a descriptor, or a negative errno. */
int host_connect(struct pv_vsock *vsock, uint32_t port);
/* The guest took the connection. */
void host_accepted(struct pv_vsock *vsock, struct connection *connection);
/* How much its socket took of the pieces; that may make it deaf. */
uint32_t host_send(struct pv_vsock *vsock, struct connection *connection, struct iovec *pieces, uint32_t count);
/* Something of the guest's data has left for the socket, or nothing was there to do so. */
void host_forwarded(struct pv_vsock *vsock, struct connection *connection, uint32_t size_bytes);
/* The peer reads no more: whatever was sent and will be counts as forwarded, or the guest would wait for room. */
void host_throw_away(struct pv_vsock *vsock, struct connection *connection);
/* The bytes of its buffer, which is a ring, from a place on: vsock->pieces, and how many. */
uint32_t host_buffer_pieces(struct pv_vsock *vsock, const struct connection *connection, uint32_t at,
			    uint32_t size_bytes);
/* The guest said which directions it shuts. */
void host_shut(struct pv_vsock *vsock, struct connection *connection);
/* Reads to vsock->pieces: bytes, 0: there are none now. */
size_t host_receive(struct pv_vsock *vsock, struct connection *connection, uint32_t pieces);
void host_timer(struct pv_vsock *vsock, bool runs);
/* A line for the program at the other end; false: it does not take it. */
bool host_say(const struct connection *connection, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- vsock_receive.c ---- */

/* Sends to the guest what waits, a bounded number of packets; whether it did anything. */
bool receive_turn(struct pv_vsock *vsock);
/* Whether more would be sent if there was room. */
static inline bool receive_waits(const struct pv_vsock *vsock)
{
	return vsock->first || vsock->resets_head != vsock->resets_tail;
}

#endif
