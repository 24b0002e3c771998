// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a packet of the guest's means.  Its header is copied once and all of it is the guest's choice: what
 * makes no sense is answered by a RESET (VSK-3), what is no packet at all is a fault (VSK-1).
 */
#include <errno.h>
#include <unistd.h>

#include "vsock_state.h"
#include "way.h"

static void reply_reset(struct pv_vsock *vsock, const struct pv_vsock_header *header, uint64_t *reason)
{
	if (header->operation == PV_VSOCK_OPERATION_RESET)
		return;
	add(reason, 1);
	/* There is room: packet_can_handle() was asked before the packet was taken. */
	vsock->resets[vsock->resets_head++ % RESETS] = (struct reset){
		.source_cid = header->source_cid,
		.source_cid_high = header->source_cid_high,
		.source_port = header->source_port,
		.destination_cid = header->destination_cid,
		.destination_cid_high = header->destination_cid_high,
		.destination_port = header->destination_port,
		.type = header->type,
	};
}

static bool addressed(const struct pv_vsock *vsock, const struct pv_vsock_header *header)
{
	return header->type == PV_VSOCK_TYPE_STREAM && header->destination_cid == PV_VSOCK_CID_HOST &&
	       !header->destination_cid_high && header->source_cid == vsock->options.guest_cid &&
	       !header->source_cid_high;
}

static void take_credit(struct connection *connection, const struct pv_vsock_header *header)
{
	connection->guest_buffer_bytes = header->buffer_bytes;
	connection->guest_forwarded_bytes = header->forwarded_bytes;
	if (connection_credit(connection) > 0)
		connection->asked = false;
}

/* The guest connects to a port of the host's. */
static void request(struct pv_vsock *vsock, const struct pv_vsock_header *header)
{
	struct connection *connection;
	int fd;

	if (!vsock->free) {
		reply_reset(vsock, header, &vsock->statistics.resets_full);
		return;
	}
	fd = host_connect(vsock, header->destination_port);
	if (fd < 0) {
		bool full = fd == -EMFILE || fd == -ENFILE;

		reply_reset(vsock, header, full ? &vsock->statistics.resets_full : &vsock->statistics.resets_refused);
		return;
	}
	connection = connection_create(vsock, fd);
	if (!connection) {
		close(fd);
		reply_reset(vsock, header, &vsock->statistics.resets_full);
		return;
	}
	connection_name(vsock, connection, header->source_port, header->destination_port);
	connection->state = OPEN;
	connection->owes = OWES_RESPONSE;
	take_credit(connection, header);
	connection_schedule(vsock, connection);
	add(&vsock->statistics.connections, 1);
}

/* True: the packet stays with us for a while. */
static bool data(struct pv_vsock *vsock, struct connection *connection, uint32_t size_bytes)
{
	/* Before this packet counts as received: what stays of those gathered lies in front of it.  It may make room. */
	if (size_bytes > BUFFER_BYTES - connection_fill(connection) || gather_is_full(vsock))
		gather_end(vsock);
	if (connection->guest_shut & SHUT_SEND) {
		connection_reset(vsock, connection, &vsock->statistics.resets_protocol);
	} else if (size_bytes > BUFFER_BYTES - connection_fill(connection)) { /* VSK-4 */
		connection_reset(vsock, connection, &vsock->statistics.resets_credit);
	} else {
		connection->received_bytes += size_bytes;
		add(&vsock->statistics.from_guest_bytes, size_bytes);
		return gather_add(vsock, connection, size_bytes);
	}
	return false;
}

/* The guest is done with it. What it sent before it said that it sends no more still goes to the socket. */
static void reset(struct pv_vsock *vsock, struct connection *connection)
{
	if (connection->state == REQUESTED)
		host_say(connection, "ERROR nobody in the guest listens at port %u", connection->guest_port);
	if (connection->state != OPEN || !(connection->guest_shut & SHUT_SEND) || !connection_fill(connection)) {
		connection_destroy(vsock, connection);
		return;
	}
	connection_unname(vsock, connection);
	connection_unschedule(vsock, connection);
	connection->state = DRAINING;
	connection->due_ns = 0;
}

static void respond(struct pv_vsock *vsock, struct connection *connection)
{
	connection->state = OPEN;
	connection->due_ns = 0;
	add(&vsock->statistics.connections, 1);
	host_accepted(vsock, connection);
}

/* A packet of a connection; true: it stays with us for a while. */
static bool handle(struct pv_vsock *vsock, struct connection *connection, const struct pv_vsock_header *header)
{
	bool open = connection->state == OPEN, stays = false;

	take_credit(connection, header);
	if (header->operation == PV_VSOCK_OPERATION_RESET) {
		reset(vsock, connection);
		return false;
	}
	if (connection->state == DEAD)
		return false; /* it will see our RESET */
	if (header->operation == PV_VSOCK_OPERATION_RESPONSE && connection->state == REQUESTED) {
		respond(vsock, connection);
	} else if (header->operation == PV_VSOCK_OPERATION_SHUTDOWN && open) {
		connection->guest_shut |= header->flags & SHUT_BOTH;
		host_shut(vsock, connection);
	} else if (header->operation == PV_VSOCK_OPERATION_DATA && open) {
		stays = data(vsock, connection, header->size_bytes);
	} else if (header->operation == PV_VSOCK_OPERATION_CREDIT_REQUEST && open) {
		connection->owes |= OWES_CREDIT_UPDATE;
	} else if (header->operation != PV_VSOCK_OPERATION_CREDIT_UPDATE || !open) {
		connection_reset(vsock, connection, &vsock->statistics.resets_protocol);
	}
	if (connection->state != FREE)
		connection_schedule(vsock, connection);
	return stays;
}

const char *packet_handle(struct pv_vsock *vsock, bool *stays)
{
	const struct pv_chain *chain = &vsock->chain;
	struct pv_vsock_header header;
	struct connection *connection;

	if (pv_chain_read(chain, 0, &header, HEADER_BYTES) != HEADER_BYTES ||
	    header.size_bytes > chain->readable_bytes - HEADER_BYTES)
		return "VSK-1";
	add(&vsock->statistics.from_guest_packets, 1);
	pv_way_describe(&vsock->device->queues[PV_VSOCK_QUEUE_TRANSMIT], chain->head, header.operation,
			header.destination_port, header.size_bytes);
	if (!addressed(vsock, &header)) {
		reply_reset(vsock, &header, &vsock->statistics.resets_protocol);
		return NULL;
	}
	connection = connection_find(vsock, header.source_port, header.destination_port);
	if (connection != vsock->gathered.connection || header.operation != PV_VSOCK_OPERATION_DATA)
		gather_end(vsock);
	if (connection)
		*stays = handle(vsock, connection, &header);
	else if (header.operation == PV_VSOCK_OPERATION_REQUEST)
		request(vsock, &header);
	else
		reply_reset(vsock, &header, &vsock->statistics.resets_unknown);
	return NULL;
}
