// SPDX-License-Identifier: BSD-2-Clause
/*
 * Data of the guest's on its way to a socket.  Packets that come together for one connection are gathered and sent
 * by one system call, which wakes the program at the other end once; what the socket does not take is kept in the
 * connection's buffer.  Data is not copied before.
 *
 * While something is gathered, nothing is in the connection's buffer: what comes behind that waits there, too.
 */
#include <string.h>

#include "vsock_state.h"

/* The segments of vsock->chain behind the header, `size_bytes` of them, as pieces; how many. */
static uint32_t chain_pieces(const struct pv_vsock *vsock, struct iovec *pieces, uint32_t size_bytes)
{
	const struct pv_chain *chain = &vsock->chain;
	uint32_t skip = HEADER_BYTES, count = 0;

	for (uint32_t i = 0; i < chain->readable && size_bytes; i++) {
		const struct iovec *segment = &chain->segments[i];
		uint32_t at = skip < segment->iov_len ? skip : (uint32_t)segment->iov_len;
		size_t part = segment->iov_len - at < size_bytes ? segment->iov_len - at : size_bytes;

		skip -= at;
		if (!part)
			continue;
		pieces[count++] = (struct iovec){ (uint8_t *)segment->iov_base + at, part };
		size_bytes -= (uint32_t)part;
	}
	return count;
}

/* Copies `size_bytes` from the pieces, without their first `skip`, into the buffer behind what is there. */
static void keep(struct pv_vsock *vsock, struct connection *connection, const struct iovec *pieces, uint32_t skip,
		 uint32_t size_bytes)
{
	uint32_t at = connection->buffer_at + connection_fill(connection) - size_bytes;
	uint8_t *buffer = connection_buffer(vsock, connection);

	connection->buffer_used = true;
	for (; size_bytes; pieces++) {
		uint32_t length = (uint32_t)pieces->iov_len, from = skip < length ? skip : length;
		uint32_t part = length - from < size_bytes ? length - from : size_bytes;
		uint32_t place = at % BUFFER_BYTES;
		uint32_t first = part < BUFFER_BYTES - place ? part : BUFFER_BYTES - place;

		memcpy(buffer + place, (uint8_t *)pieces->iov_base + from, first);
		memcpy(buffer, (uint8_t *)pieces->iov_base + from + first, part - first);
		skip -= from;
		at += part;
		size_bytes -= part;
	}
}

void gather_end(struct pv_vsock *vsock)
{
	struct gathered *gathered = &vsock->gathered;
	struct connection *connection = gathered->connection;
	struct pv_queue *queue = &vsock->device->queues[PV_VSOCK_QUEUE_TRANSMIT];

	if (!connection)
		return;
	uint32_t sent = host_send(vsock, connection, gathered->pieces, gathered->piece_count);
	gathered->connection = NULL;
	if (connection->deaf) {
		host_throw_away(vsock, connection);
	} else {
		host_forwarded(vsock, connection, sent);
		if (sent < gathered->size_bytes)
			keep(vsock, connection, gathered->pieces, sent, gathered->size_bytes - sent);
	}
	for (uint32_t i = 0; i < gathered->head_count; i++)
		pv_queue_stage(queue, gathered->heads[i], 0);
	pv_queue_publish(queue);
	if (connection->state != FREE)
		connection_schedule(vsock, connection);
}

bool gather_add(struct pv_vsock *vsock, struct connection *connection, uint32_t size_bytes)
{
	struct gathered *gathered = &vsock->gathered;

	if (!size_bytes)
		return false;
	if (connection->deaf) {
		host_throw_away(vsock, connection);
		return false;
	}
	if (!gathered->connection && connection_fill(connection) > size_bytes) {
		chain_pieces(vsock, vsock->pieces, size_bytes);
		host_forwarded(vsock, connection, 0);
		keep(vsock, connection, vsock->pieces, 0, size_bytes);
		return false;
	}
	if (!gathered->connection) {
		gathered->connection = connection;
		gathered->size_bytes = gathered->piece_count = gathered->head_count = 0;
	}
	gathered->piece_count += chain_pieces(vsock, &gathered->pieces[gathered->piece_count], size_bytes);
	gathered->size_bytes += size_bytes;
	gathered->heads[gathered->head_count++] = vsock->chain.head;
	return true;
}
