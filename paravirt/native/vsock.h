/* SPDX-License-Identifier: BSD-2-Clause
 *
 * virtio-vsock whose other end is UNIX stream sockets: one thread between the device's queues and the
 * sockets of its connections.  The listening socket and its path are made and removed by the caller, who
 * also fills the configuration space.
 *
 * A program of the host connects to the listener, writes "CONNECT <port>\n" and reads "OK <port>\n" when
 * the guest took the connection, or a line that begins with ERROR; from there on it is the stream.  A
 * connection of the guest's to port P goes to the socket at the options' path with "_P" behind it.
 */
#ifndef PARAVIRT_VSOCK_H
#define PARAVIRT_VSOCK_H

#include <stddef.h>
#include <stdint.h>

#include "host.h"

#define PV_VSOCK_CONNECTIONS 1024 /* of a machine at a time, those that are being made or ended included */
#define PV_VSOCK_BUFFER_BYTES 0x10000 /* of a connection: what the guest sends and its socket does not take yet */
#define PV_VSOCK_PATH_BYTES 97 /* of options.path with its NUL: "_4294967295" must fit behind it in a sockaddr_un */
#define PV_VSOCK_FIRST_PORT 0x40000000 /* of the host's ends of connections that the host makes */

struct pv_vsock_options {
	int listener_fd; /* stays the caller's, open until pv_vsock_destroy; non-blocking */
	uint32_t guest_cid;
	uint64_t poll_ns; /* longest look for work before the thread sleeps; 0: none */
	uint64_t patience_ns; /* for a guest to answer a REQUEST, and a SHUTDOWN */
	char path[PV_VSOCK_PATH_BYTES];
};

struct pv_vsock_statistics {
	uint64_t connections; /* made: answered by OK or RESPONSE */
	uint64_t open_connections; /* now, those that are being made or ended included */
	uint64_t to_guest_bytes; /* data */
	uint64_t from_guest_bytes;
	uint64_t to_guest_packets; /* with and without data */
	uint64_t from_guest_packets;
	uint64_t interrupts;
	uint64_t resets_refused; /* RESETs to the guest by reason: nobody listens at that port of the host */
	uint64_t resets_unknown; /* packets of no connection */
	uint64_t resets_protocol; /* packets that make no sense (VSK-3), or not now */
	uint64_t resets_credit; /* data beyond the credit (VSK-4) */
	uint64_t resets_full; /* more connections, or descriptors, than there may be */
	uint64_t resets_late; /* the guest did not answer in time */
	uint64_t resets_ended; /* the usual end: the answer to a SHUTDOWN of both directions */
	uint64_t polls; /* looks for work that found it */
	uint64_t poll_ns; /* time spent looking */
	uint64_t sleeps;
};

struct pv_vsock;

/*
 * Makes a vsock of a device, whose ops and opaque it sets, and starts its thread.  NULL: error says why, in
 * one line.
 */
struct pv_vsock *pv_vsock_create(struct pv_device *device, const struct pv_vsock_options *options, char *error,
				 size_t error_bytes);
/* Ends the thread and all connections. No op of the device may run or follow. */
void pv_vsock_destroy(struct pv_vsock *vsock);
/* Ends all connections and tells the guest so by an event, if it is active. Any thread. */
void pv_vsock_reset_transport(struct pv_vsock *vsock);
void pv_vsock_get_statistics(const struct pv_vsock *vsock, struct pv_vsock_statistics *statistics);

#endif
