/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio sockets: streams between this guest's ports and the host's, whatever is there.
 *
 *	pv_vsock_init(&vsock, &device);
 *
 *	connection.buffer = room;			the caller's, and the connection too, until it is closed
 *	connection.buffer_bytes = sizeof(room);
 *	pv_vsock_connect(&vsock, &connection, 5000);	or pv_vsock_listen() once, then pv_vsock_accept()
 *	pv_vsock_send_all(&vsock, &connection, "hello", 5);
 *	size = pv_vsock_receive_some(&vsock, &connection, data, sizeof(data));
 *	pv_vsock_close(&vsock, &connection);
 *
 * A program with several connections uses those calls that do not wait (send, receive, accept) in a loop
 * around pv_vsock_wait().  One context at a time; the host is not trusted: what it sends beyond the credit
 * resets its connection.
 */
#ifndef PARAVIRT_VSOCK_H
#define PARAVIRT_VSOCK_H

#include "paravirt/virtio.h"

#define PV_VSOCK_QUEUE_SIZE 16
#define PV_VSOCK_EVENTS 2
#define PV_VSOCK_PACKET_BYTES 4096 /* of data */
#define PV_VSOCK_BACKLOG 16 /* connections that nobody has accepted yet */

struct pv_vsock_connection {
	uint8_t *buffer; /* what came and was not received yet */
	uint32_t buffer_bytes; /* a power of two */

	/* The driver's from here on. */
	struct pv_vsock_connection *next;
	uint32_t state;
	uint32_t port, peer_port; /* of this guest, of the host */
	uint32_t shut, peer_shut; /* PV_VSOCK_SHUTDOWN_, as each side said of itself */
	uint32_t sent_bytes, peer_buffer_bytes, peer_forwarded_bytes;
	uint32_t received_bytes, forwarded_bytes, told_bytes;
	bool asked; /* for credit */
};

struct pv_vsock_listener {
	struct pv_vsock_listener *next;
	uint32_t port;
	uint32_t head, tail;
	struct pv_vsock_header waiting[PV_VSOCK_BACKLOG];
};

struct pv_vsock_packet {
	struct pv_vsock_header header;
	uint8_t data[PV_VSOCK_PACKET_BYTES];
};

struct pv_vsock {
	struct pv_virtio *device;
	uint32_t cid; /* of this guest */
	uint32_t next_port;
	uint32_t spare; /* packets of `out` that are not with the device, a bit each */
	uint32_t resets; /* of the transport: all connections were gone then */
	struct pv_vsock_connection *connections;
	struct pv_vsock_listener *listeners;
	struct pv_virtq receive, transmit, events;
	uint8_t receive_memory[PV_VIRTIO_QUEUE_BYTES(PV_VSOCK_QUEUE_SIZE)] __attribute__((aligned(64)));
	uint8_t transmit_memory[PV_VIRTIO_QUEUE_BYTES(PV_VSOCK_QUEUE_SIZE)] __attribute__((aligned(64)));
	uint8_t event_memory[PV_VIRTIO_QUEUE_BYTES(PV_VSOCK_EVENTS)] __attribute__((aligned(64)));
	struct pv_vsock_packet in[PV_VSOCK_QUEUE_SIZE];
	struct pv_vsock_packet out[PV_VSOCK_QUEUE_SIZE];
	struct pv_vsock_event event[PV_VSOCK_EVENTS];
};

/* Takes the device into use. The struct stays where it is: the device knows parts of it. */
int64_t pv_vsock_init(struct pv_vsock *vsock, struct pv_virtio *device);
/* Takes it out of use; connections are over, and their buffers the caller's. */
void pv_vsock_deinit(struct pv_vsock *vsock);

/* Looks at what came, without waiting: how many packets, or FAILED: the device is gone. */
int64_t pv_vsock_poll(struct pv_vsock *vsock);
/* The same, but waits until something has come. */
int64_t pv_vsock_wait(struct pv_vsock *vsock);

/* Takes connections to a port of this guest from now on; INVALID: somebody does already. */
int64_t pv_vsock_listen(struct pv_vsock *vsock, struct pv_vsock_listener *listener, uint32_t port);
/* No more; those not accepted are refused. */
void pv_vsock_unlisten(struct pv_vsock *vsock, struct pv_vsock_listener *listener);
/* The next connection, which becomes `connection`: OK, NOT_FOUND (none now), INVALID (its buffer), FAILED. */
int64_t pv_vsock_accept(struct pv_vsock *vsock, struct pv_vsock_listener *listener,
			struct pv_vsock_connection *connection);
/* Connects to a port of the host's: OK, NOT_FOUND (nobody takes it), INVALID (its buffer), FAILED. */
int64_t pv_vsock_connect(struct pv_vsock *vsock, struct pv_vsock_connection *connection, uint32_t port);

/* As many bytes as there is credit for now, perhaps 0; BAD_STATE: the peer takes no more. */
int64_t pv_vsock_send(struct pv_vsock *vsock, struct pv_vsock_connection *connection, const void *data,
		      uint32_t size_bytes);
/* Up to `room` bytes that came; 0: the stream has ended; NOT_FOUND: none now. */
int64_t pv_vsock_receive(struct pv_vsock *vsock, struct pv_vsock_connection *connection, void *data, uint32_t room);
/* The same, waiting: for all to be sent (OK), for at least one byte or the end. */
int64_t pv_vsock_send_all(struct pv_vsock *vsock, struct pv_vsock_connection *connection, const void *data,
			  uint32_t size_bytes);
int64_t pv_vsock_receive_some(struct pv_vsock *vsock, struct pv_vsock_connection *connection, void *data,
			      uint32_t room);
/* Ends one direction or both (PV_VSOCK_SHUTDOWN_): what was sent still arrives. */
int64_t pv_vsock_shutdown(struct pv_vsock *vsock, struct pv_vsock_connection *connection, uint32_t directions);
/* Ends it and gives it and its buffer back; what was not received is lost. */
void pv_vsock_close(struct pv_vsock *vsock, struct pv_vsock_connection *connection);

#endif
