/* SPDX-License-Identifier: 0BSD
 *
 * Connections of virtio sockets (virtio 5.10).  How packets travel is vsock_packet.c's.
 */
#include "vsock.h"
#include "paravirt/string.h"

#define FIRST_PORT 0x400u /* of the guest's ends of connections that it makes itself */
#define SHUT_BOTH ((uint32_t)(PV_VSOCK_SHUTDOWN_RECEIVE | PV_VSOCK_SHUTDOWN_SEND))

static struct pv_vsock_connection *find(struct pv_vsock *vsock, uint32_t port, uint32_t peer_port)
{
	struct pv_vsock_connection *found = vsock->connections;

	while (found && (found->port != port || found->peer_port != peer_port))
		found = found->next;
	return found;
}

static struct pv_vsock_listener *listens(struct pv_vsock *vsock, uint32_t port)
{
	struct pv_vsock_listener *found = vsock->listeners;

	while (found && found->port != port)
		found = found->next;
	return found;
}

static uint32_t fill(const struct pv_vsock_connection *connection)
{
	return connection->received_bytes - connection->forwarded_bytes;
}

static uint32_t credit(const struct pv_vsock_connection *connection)
{
	uint32_t under_way = connection->sent_bytes - connection->peer_forwarded_bytes;

	return under_way < connection->peer_buffer_bytes ? connection->peer_buffer_bytes - under_way : 0;
}

static int64_t say(struct pv_vsock *vsock, struct pv_vsock_connection *connection, uint32_t operation, uint32_t flags)
{
	int64_t status = pv_vsock_packet_add(vsock, connection, operation, flags, NULL, 0);

	pv_vsock_packet_submit(vsock);
	return status;
}

/* The peer has closed and all was received: the connection is over when it hears so. */
static void answer_end(struct pv_vsock *vsock, struct pv_vsock_connection *connection)
{
	if (connection->state != PV_VSOCK_OPEN || connection->peer_shut != SHUT_BOTH || fill(connection))
		return;
	connection->state = PV_VSOCK_ENDED;
	say(vsock, connection, PV_VSOCK_OPERATION_RESET, 0);
}

static void take_credit(struct pv_vsock_connection *connection, const struct pv_vsock_header *header)
{
	connection->peer_buffer_bytes = header->buffer_bytes;
	connection->peer_forwarded_bytes = header->forwarded_bytes;
	if (credit(connection))
		connection->asked = false;
}

static bool take_data(struct pv_vsock_connection *connection, const uint8_t *data, uint32_t size_bytes)
{
	uint32_t at = connection->received_bytes & (connection->buffer_bytes - 1);
	uint32_t first = connection->buffer_bytes - at;

	if (size_bytes > connection->buffer_bytes - fill(connection) || connection->peer_shut & PV_VSOCK_SHUTDOWN_SEND)
		return false;
	first = first < size_bytes ? first : size_bytes;
	memcpy(connection->buffer + at, data, first);
	memcpy(connection->buffer, data + first, size_bytes - first);
	connection->received_bytes += size_bytes;
	return true;
}

/* A packet of a connection: false if it makes no sense. */
static bool handle(struct pv_vsock *vsock, struct pv_vsock_connection *connection, const struct pv_vsock_header *header,
		   const uint8_t *data)
{
	bool open = connection->state == PV_VSOCK_OPEN;

	take_credit(connection, header);
	switch (header->operation) {
	case PV_VSOCK_OPERATION_RESPONSE:
		if (connection->state != PV_VSOCK_CONNECTING)
			return false;
		connection->state = PV_VSOCK_OPEN;
		return true;
	case PV_VSOCK_OPERATION_RESET:
		connection->state = PV_VSOCK_ENDED;
		return true;
	case PV_VSOCK_OPERATION_SHUTDOWN:
		connection->peer_shut |= header->flags & SHUT_BOTH;
		answer_end(vsock, connection);
		return open;
	case PV_VSOCK_OPERATION_DATA:
		return open && take_data(connection, data, header->size_bytes);
	case PV_VSOCK_OPERATION_CREDIT_UPDATE:
		return open;
	case PV_VSOCK_OPERATION_CREDIT_REQUEST:
		if (open)
			say(vsock, connection, PV_VSOCK_OPERATION_CREDIT_UPDATE, 0);
		return open;
	default:
		return false;
	}
}

void pv_vsock_packet_came(struct pv_vsock *vsock, const struct pv_vsock_header *header, const uint8_t *data)
{
	bool reset = header->operation == PV_VSOCK_OPERATION_RESET;
	bool ours = header->type == PV_VSOCK_TYPE_STREAM && header->destination_cid == vsock->cid &&
		    header->source_cid == PV_VSOCK_CID_HOST;
	struct pv_vsock_connection *connection = find(vsock, header->destination_port, header->source_port);
	struct pv_vsock_listener *listener = listens(vsock, header->destination_port);

	if (ours && connection) {
		if (connection->state == PV_VSOCK_ENDED || handle(vsock, connection, header, data))
			return;
		connection->state = PV_VSOCK_ENDED;
	} else if (ours && listener && header->operation == PV_VSOCK_OPERATION_REQUEST &&
		   listener->head - listener->tail < PV_VSOCK_BACKLOG) {
		listener->waiting[listener->head++ % PV_VSOCK_BACKLOG] = *header;
		return;
	}
	if (!reset)
		pv_vsock_packet_refuse(vsock, header);
}

void pv_vsock_transport_came(struct pv_vsock *vsock)
{
	struct pv_vsock_config config = { .guest_cid = vsock->cid };

	vsock->resets++;
	pv_virtio_config(vsock->device, &config, sizeof(config));
	vsock->cid = (uint32_t)config.guest_cid;
	for (struct pv_vsock_connection *each = vsock->connections; each; each = each->next)
		each->state = PV_VSOCK_ENDED;
	for (struct pv_vsock_listener *each = vsock->listeners; each; each = each->next)
		each->head = each->tail = 0;
}

/* ---- connections are made ---- */

/* Places in the buffer are found by masking. */
static bool can_buffer(const struct pv_vsock_connection *connection)
{
	uint32_t size = connection->buffer_bytes;

	return connection->buffer && size && !(size & (size - 1));
}

static void begin(struct pv_vsock *vsock, struct pv_vsock_connection *connection, uint32_t port, uint32_t peer_port)
{
	*connection = (struct pv_vsock_connection){
		.buffer = connection->buffer,
		.buffer_bytes = connection->buffer_bytes,
		.next = vsock->connections,
		.port = port,
		.peer_port = peer_port,
	};
	vsock->connections = connection;
}

static void forget(struct pv_vsock *vsock, const struct pv_vsock_connection *connection)
{
	struct pv_vsock_connection **at = &vsock->connections;

	while (*at && *at != connection)
		at = &(*at)->next;
	if (*at)
		*at = connection->next;
}

int64_t pv_vsock_listen(struct pv_vsock *vsock, struct pv_vsock_listener *listener, uint32_t port)
{
	if (listens(vsock, port))
		return PV_STATUS_INVALID;
	*listener = (struct pv_vsock_listener){ .next = vsock->listeners, .port = port };
	vsock->listeners = listener;
	return PV_STATUS_OK;
}

void pv_vsock_unlisten(struct pv_vsock *vsock, struct pv_vsock_listener *listener)
{
	struct pv_vsock_listener **at = &vsock->listeners;

	while (*at && *at != listener)
		at = &(*at)->next;
	if (*at)
		*at = listener->next;
	while (listener->tail != listener->head)
		pv_vsock_packet_refuse(vsock, &listener->waiting[listener->tail++ % PV_VSOCK_BACKLOG]);
}

int64_t pv_vsock_accept(struct pv_vsock *vsock, struct pv_vsock_listener *listener,
			struct pv_vsock_connection *connection)
{
	const struct pv_vsock_header *request;

	if (!can_buffer(connection))
		return PV_STATUS_INVALID;
	if (listener->tail == listener->head)
		return PV_STATUS_NOT_FOUND;
	request = &listener->waiting[listener->tail++ % PV_VSOCK_BACKLOG];
	begin(vsock, connection, listener->port, request->source_port);
	take_credit(connection, request);
	connection->state = PV_VSOCK_OPEN;
	return say(vsock, connection, PV_VSOCK_OPERATION_RESPONSE, 0);
}

int64_t pv_vsock_connect(struct pv_vsock *vsock, struct pv_vsock_connection *connection, uint32_t port)
{
	int64_t status;

	if (!can_buffer(connection))
		return PV_STATUS_INVALID;
	do
		vsock->next_port = vsock->next_port < FIRST_PORT ? FIRST_PORT : vsock->next_port + 1;
	while (find(vsock, vsock->next_port, port));
	begin(vsock, connection, vsock->next_port, port);
	connection->state = PV_VSOCK_CONNECTING;
	status = say(vsock, connection, PV_VSOCK_OPERATION_REQUEST, 0);
	while (status >= 0 && connection->state == PV_VSOCK_CONNECTING)
		status = pv_vsock_wait(vsock);
	if (status >= 0 && connection->state == PV_VSOCK_OPEN)
		return PV_STATUS_OK;
	forget(vsock, connection);
	return status < 0 ? status : PV_STATUS_NOT_FOUND;
}

/* ---- and used ---- */

/* One packet, not yet submitted, of as many bytes as there is credit for; perhaps none. */
static int64_t add_data(struct pv_vsock *vsock, struct pv_vsock_connection *connection, const uint8_t *data,
			uint32_t size_bytes)
{
	uint32_t most = credit(connection);
	int64_t status = PV_STATUS_OK;

	if (connection->state != PV_VSOCK_OPEN || connection->peer_shut & PV_VSOCK_SHUTDOWN_RECEIVE ||
	    connection->shut & PV_VSOCK_SHUTDOWN_SEND)
		return PV_STATUS_BAD_STATE;
	most = most < PV_VSOCK_PACKET_BYTES ? most : PV_VSOCK_PACKET_BYTES;
	size_bytes = size_bytes < most ? size_bytes : most;
	if (size_bytes)
		status = pv_vsock_packet_add(vsock, connection, PV_VSOCK_OPERATION_DATA, 0, data, size_bytes);
	if (status < 0)
		return status;
	connection->sent_bytes += size_bytes;
	return size_bytes;
}

int64_t pv_vsock_send(struct pv_vsock *vsock, struct pv_vsock_connection *connection, const void *data,
		      uint32_t size_bytes)
{
	uint32_t sent = 0;
	int64_t part = 0;

	while (sent < size_bytes) {
		part = add_data(vsock, connection, (const uint8_t *)data + sent, size_bytes - sent);
		if (part <= 0)
			break;
		sent += (uint32_t)part;
	}
	pv_vsock_packet_submit(vsock);
	if (part < 0)
		return part;
	if (sent < size_bytes && !connection->asked) {
		connection->asked = true;
		say(vsock, connection, PV_VSOCK_OPERATION_CREDIT_REQUEST, 0);
	}
	return sent;
}

int64_t pv_vsock_receive(struct pv_vsock *vsock, struct pv_vsock_connection *connection, void *data, uint32_t room)
{
	uint32_t part = fill(connection) < room ? fill(connection) : room;
	uint32_t at = connection->forwarded_bytes & (connection->buffer_bytes - 1);
	uint32_t first = part < connection->buffer_bytes - at ? part : connection->buffer_bytes - at;

	if (!part) {
		bool ended = connection->state == PV_VSOCK_ENDED || connection->peer_shut & PV_VSOCK_SHUTDOWN_SEND;

		return ended ? 0 : PV_STATUS_NOT_FOUND;
	}
	memcpy(data, connection->buffer + at, first);
	memcpy((uint8_t *)data + first, connection->buffer, part - first);
	connection->forwarded_bytes += part;
	/* The peer knows of half of the buffer otherwise. */
	if (connection->state == PV_VSOCK_OPEN &&
	    connection->received_bytes - connection->told_bytes >= connection->buffer_bytes / 2)
		say(vsock, connection, PV_VSOCK_OPERATION_CREDIT_UPDATE, 0);
	answer_end(vsock, connection);
	return part;
}

int64_t pv_vsock_send_all(struct pv_vsock *vsock, struct pv_vsock_connection *connection, const void *data,
			  uint32_t size_bytes)
{
	uint32_t sent = 0;

	for (;;) {
		int64_t status = pv_vsock_send(vsock, connection, (const uint8_t *)data + sent, size_bytes - sent);

		if (status < 0)
			return status;
		sent += (uint32_t)status;
		if (sent == size_bytes)
			return PV_STATUS_OK;
		status = pv_vsock_wait(vsock);
		if (status < 0)
			return status;
	}
}

int64_t pv_vsock_receive_some(struct pv_vsock *vsock, struct pv_vsock_connection *connection, void *data, uint32_t room)
{
	int64_t status;

	while ((status = pv_vsock_receive(vsock, connection, data, room)) == PV_STATUS_NOT_FOUND) {
		status = pv_vsock_wait(vsock);
		if (status < 0)
			break;
	}
	return status;
}

int64_t pv_vsock_shutdown(struct pv_vsock *vsock, struct pv_vsock_connection *connection, uint32_t directions)
{
	if (connection->state != PV_VSOCK_OPEN)
		return PV_STATUS_BAD_STATE;
	connection->shut |= directions & SHUT_BOTH;
	return say(vsock, connection, PV_VSOCK_OPERATION_SHUTDOWN, connection->shut);
}

void pv_vsock_close(struct pv_vsock *vsock, struct pv_vsock_connection *connection)
{
	/* What the peer still sends, its RESET among it, is of no connection then. */
	if (connection->state == PV_VSOCK_OPEN && connection->peer_shut == SHUT_BOTH)
		say(vsock, connection, PV_VSOCK_OPERATION_RESET, 0);
	else if (connection->state == PV_VSOCK_OPEN)
		say(vsock, connection, PV_VSOCK_OPERATION_SHUTDOWN, SHUT_BOTH);
	connection->state = PV_VSOCK_ENDED;
	forget(vsock, connection);
}
