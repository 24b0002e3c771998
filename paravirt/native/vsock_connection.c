// SPDX-License-Identifier: BSD-2-Clause
/*
 * The connections of a vsock: a fixed number of them, found by their two ports, and the list of those that
 * have something to send to the guest.  Sockets are vsock_host.c's.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vsock_state.h"

static struct connection **chain_of(struct pv_vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	/* The guest chooses ports as it likes: long chains are at most PV_VSOCK_CONNECTIONS long. */
	uint32_t mixed = (guest_port * 0x9e3779b1u) ^ (host_port * 0x85ebca77u);

	return &vsock->hash[(mixed >> 16) & (HASH_SIZE - 1)];
}

void connections_init(struct pv_vsock *vsock)
{
	vsock->free = NULL;
	for (uint32_t i = PV_VSOCK_CONNECTIONS; i-- > 0;) {
		vsock->connections[i] = (struct connection){ .next = vsock->free, .fd = -1 };
		vsock->free = &vsock->connections[i];
	}
}

void connections_drop(struct pv_vsock *vsock)
{
	for (uint32_t i = 0; i < PV_VSOCK_CONNECTIONS; i++) {
		if (vsock->connections[i].state != FREE)
			connection_destroy(vsock, &vsock->connections[i]);
	}
	vsock->resets_head = vsock->resets_tail = 0;
	host_timer(vsock, false);
	vsock->may_accept = true; /* those that found no room */
}

struct connection *connection_find(struct pv_vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	struct connection *found = *chain_of(vsock, guest_port, host_port);

	while (found && (found->guest_port != guest_port || found->host_port != host_port))
		found = found->next;
	return found;
}

struct connection *connection_create(struct pv_vsock *vsock, int fd)
{
	struct connection *connection = vsock->free;

	if (!connection)
		return NULL;
	vsock->free = connection->next;
	*connection = (struct connection){ .state = GREETING, .fd = fd };
	if (!host_watch(vsock, connection)) {
		*connection = (struct connection){ .next = vsock->free, .fd = -1 };
		vsock->free = connection;
		return NULL;
	}
	add(&vsock->statistics.open_connections, 1);
	return connection;
}

void connection_name(struct pv_vsock *vsock, struct connection *connection, uint32_t guest_port, uint32_t host_port)
{
	struct connection **chain = chain_of(vsock, guest_port, host_port);

	connection->guest_port = guest_port;
	connection->host_port = host_port;
	connection->next = *chain;
	*chain = connection;
}

uint32_t connection_port(struct pv_vsock *vsock, uint32_t guest_port)
{
	uint32_t port;

	/* Ends: there are more ports than connections. */
	do
		port = PV_VSOCK_FIRST_PORT | (vsock->next_port++ & (PV_VSOCK_FIRST_PORT - 1u));
	while (connection_find(vsock, guest_port, port));
	return port;
}

void connection_unname(struct pv_vsock *vsock, struct connection *connection)
{
	struct connection **at = chain_of(vsock, connection->guest_port, connection->host_port);

	if (connection->state == GREETING || connection->state == DRAINING)
		return; /* has none */
	while (*at != connection)
		at = &(*at)->next;
	*at = connection->next;
}

static void close_socket(struct connection *connection)
{
	if (connection->fd >= 0)
		close(connection->fd); /* which takes it out of the epoll, too: nobody else has it */
	connection->fd = -1;
}

void connection_destroy(struct pv_vsock *vsock, struct connection *connection)
{
	connection_unname(vsock, connection);
	connection_unschedule(vsock, connection);
	close_socket(connection);
	if (connection->buffer_used)
		madvise(connection_buffer(vsock, connection), BUFFER_BYTES, MADV_DONTNEED);
	*connection = (struct connection){ .next = vsock->free, .fd = -1 };
	vsock->free = connection;
	vsock->may_accept = true; /* there is room for one more */
	add(&vsock->statistics.open_connections, (uint64_t)-1);
}

void connection_reset(struct pv_vsock *vsock, struct connection *connection, uint64_t *reason)
{
	add(reason, 1);
	if (connection->state == GREETING || connection->state == DRAINING) {
		connection_destroy(vsock, connection); /* the guest does not know of it */
		return;
	}
	close_socket(connection);
	connection->state = DEAD;
	connection->due_ns = 0;
	connection_schedule(vsock, connection);
}

uint32_t connection_credit(const struct connection *connection)
{
	uint32_t under_way = connection->sent_bytes - connection->guest_forwarded_bytes;

	/* A guest that says it forwarded more than it was sent gets nothing. */
	return under_way < connection->guest_buffer_bytes ? connection->guest_buffer_bytes - under_way : 0;
}

/* There may be data for the guest, if it has credit for it. */
static bool waits_for_guest(const struct connection *connection)
{
	return connection->state == OPEN && connection->readable && !connection->ended &&
	       !(connection->guest_shut & SHUT_RECEIVE);
}

bool connection_can_receive(const struct connection *connection)
{
	return waits_for_guest(connection) && connection_credit(connection) > 0;
}

static bool has_to_send(struct connection *connection)
{
	if (connection->state == DRAINING)
		return false; /* its ports may be another one's by now */
	if (connection->state == DEAD || connection->owes)
		return true;
	if (connection->state != OPEN)
		return false;
	if (connection->shut != connection_shut(connection))
		return true;
	if (connection_can_receive(connection))
		return true;
	if (!waits_for_guest(connection))
		return false;
	/* The guest need not tell of new room by itself. */
	if (!connection->asked)
		connection->owes |= OWES_CREDIT_REQUEST;
	connection->asked = true;
	return connection->owes;
}

void connection_schedule(struct pv_vsock *vsock, struct connection *connection)
{
	bool listed = connection->before || vsock->first == connection;

	if (listed || !has_to_send(connection))
		return;
	connection->after = NULL;
	connection->before = vsock->last;
	*(vsock->last ? &vsock->last->after : &vsock->first) = connection;
	vsock->last = connection;
}

void connection_unschedule(struct pv_vsock *vsock, struct connection *connection)
{
	if (!connection->before && vsock->first != connection)
		return;
	*(connection->before ? &connection->before->after : &vsock->first) = connection->after;
	*(connection->after ? &connection->after->before : &vsock->last) = connection->before;
	connection->after = connection->before = NULL;
}

void connection_hurry(struct pv_vsock *vsock, struct connection *connection)
{
	connection->due_ns = pv_clock_ns() + vsock->options.patience_ns;
	host_timer(vsock, true);
}

uint8_t *connection_buffer(struct pv_vsock *vsock, const struct connection *connection)
{
	return vsock->buffers + (size_t)(connection - vsock->connections) * BUFFER_BYTES;
}
