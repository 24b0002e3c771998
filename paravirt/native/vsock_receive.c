// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets to the guest: RESETs that belong to no connection first, then what each connection has to send,
 * a packet in turn.  Data goes from the socket to the guest's memory without a stop, so what the guest has
 * no room or no credit for stays in the socket, and whoever writes to that waits.
 */
#include "vsock_state.h"
#include "way.h"

#define BATCH 32u /* packets in a turn */
#define PIECES 64u /* of a read: longer chains are filled in part */

static bool has_room(struct pv_vsock *vsock)
{
	if (vsock->has_room)
		return true;
	if (pv_device_pop(vsock->device, PV_VSOCK_QUEUE_RECEIVE, &vsock->room) != 1)
		return false;
	if (vsock->room.writable_bytes <= HEADER_BYTES) {
		pv_device_fault(vsock->device, "VSK-2");
		return false;
	}
	vsock->has_room = true;
	return true;
}

/* Writes the header in front of data that is there already, and gives the chain back. */
static void finish(struct pv_vsock *vsock, struct pv_vsock_header *header)
{
	struct pv_queue *queue = &vsock->device->queues[PV_VSOCK_QUEUE_RECEIVE];

	pv_chain_write(&vsock->room, 0, header, HEADER_BYTES);
	pv_way_describe(queue, vsock->room.head, header->operation, header->source_port, header->size_bytes);
	pv_queue_push(queue, vsock->room.head, HEADER_BYTES + header->size_bytes);
	vsock->has_room = false;
	add(&vsock->statistics.to_guest_packets, 1);
}

static void send_reset(struct pv_vsock *vsock)
{
	const struct reset *reset = &vsock->resets[vsock->resets_tail++ % RESETS];
	struct pv_vsock_header header = {
		.source_cid = reset->destination_cid,
		.source_cid_high = reset->destination_cid_high,
		.destination_cid = reset->source_cid,
		.destination_cid_high = reset->source_cid_high,
		.source_port = reset->destination_port,
		.destination_port = reset->source_port,
		.type = reset->type,
		.operation = PV_VSOCK_OPERATION_RESET,
	};

	finish(vsock, &header);
}

static void send_packet(struct pv_vsock *vsock, struct connection *connection, uint32_t operation, uint32_t flags,
			uint32_t size_bytes)
{
	struct pv_vsock_header header = {
		.source_cid = PV_VSOCK_CID_HOST,
		.destination_cid = vsock->options.guest_cid,
		.source_port = connection->host_port,
		.destination_port = connection->guest_port,
		.size_bytes = size_bytes,
		.type = PV_VSOCK_TYPE_STREAM,
		.operation = (uint16_t)operation,
		.flags = flags,
		.buffer_bytes = BUFFER_BYTES,
		.forwarded_bytes = connection->forwarded_bytes,
	};

	finish(vsock, &header);
	connection->told_bytes = connection->forwarded_bytes;
	connection->owes &= ~OWES_CREDIT_UPDATE; /* every packet is one */
	connection->sent_bytes += size_bytes;
}

/* The room behind the header, up to `most` bytes, as pieces. */
static uint32_t room_pieces(struct pv_vsock *vsock, uint32_t most)
{
	const struct pv_chain *chain = &vsock->room;
	size_t skip = HEADER_BYTES;
	uint32_t pieces = 0;

	for (uint32_t i = chain->readable; i < (uint32_t)chain->readable + chain->writable; i++) {
		const struct iovec *segment = &chain->segments[i];
		size_t at = skip < segment->iov_len ? skip : segment->iov_len;
		size_t part = segment->iov_len - at < most ? segment->iov_len - at : most;

		skip -= at;
		if (!part)
			continue;
		vsock->pieces[pieces++] = (struct iovec){ (uint8_t *)segment->iov_base + at, part };
		most -= (uint32_t)part;
		if (!most || pieces == PIECES)
			break;
	}
	return pieces;
}

static void send_data(struct pv_vsock *vsock, struct connection *connection)
{
	size_t received = host_receive(vsock, connection, room_pieces(vsock, connection_credit(connection)));

	if (!received)
		return;
	send_packet(vsock, connection, PV_VSOCK_OPERATION_DATA, 0, (uint32_t)received);
	add(&vsock->statistics.to_guest_bytes, received);
}

/* Packets without data: true if it had one to send. */
static bool send_owed(struct pv_vsock *vsock, struct connection *connection)
{
	static const struct {
		uint32_t owes, operation;
	} packets[] = {
		{ OWES_REQUEST, PV_VSOCK_OPERATION_REQUEST },
		{ OWES_RESPONSE, PV_VSOCK_OPERATION_RESPONSE },
		{ OWES_CREDIT_REQUEST, PV_VSOCK_OPERATION_CREDIT_REQUEST },
		{ OWES_CREDIT_UPDATE, PV_VSOCK_OPERATION_CREDIT_UPDATE },
	};

	for (uint32_t i = 0; i < sizeof(packets) / sizeof(*packets); i++) {
		if (connection->owes & packets[i].owes) {
			connection->owes &= ~packets[i].owes;
			send_packet(vsock, connection, packets[i].operation, 0, 0);
			return true;
		}
	}
	return false;
}

/* One packet of the first connection in the list, which goes to its end if it has more. */
static void send_next(struct pv_vsock *vsock)
{
	struct connection *connection = vsock->first;
	uint32_t shut = connection_shut(connection);

	connection_unschedule(vsock, connection);
	if (connection->state == DEAD) {
		send_packet(vsock, connection, PV_VSOCK_OPERATION_RESET, 0, 0);
		connection_destroy(vsock, connection);
		return;
	}
	if (send_owed(vsock, connection)) {
		/* that was it */
	} else if (connection_can_receive(connection)) { /* still: the guest may have taken its credit back */
		send_data(vsock, connection);
	} else if (connection->shut != shut) { /* behind the data: one that hung up then says both at once */
		connection->shut = shut;
		send_packet(vsock, connection, PV_VSOCK_OPERATION_SHUTDOWN, shut, 0);
		if (shut == SHUT_BOTH)
			connection_hurry(vsock, connection);
	}
	connection_schedule(vsock, connection);
}

bool receive_turn(struct pv_vsock *vsock)
{
	struct pv_queue *queue = &vsock->device->queues[PV_VSOCK_QUEUE_RECEIVE];
	uint64_t before = vsock->statistics.to_guest_packets;
	uint32_t sent = 0;

	for (; sent < BATCH && receive_waits(vsock) && has_room(vsock); sent++) {
		if (vsock->resets_head != vsock->resets_tail)
			send_reset(vsock);
		else
			send_next(vsock);
	}
	if (vsock->statistics.to_guest_packets != before && pv_queue_wants_interrupt(queue)) {
		add(&vsock->statistics.interrupts, 1);
		pv_device_interrupt(vsock->device, PV_VSOCK_QUEUE_RECEIVE);
	}
	return sent > 0;
}
