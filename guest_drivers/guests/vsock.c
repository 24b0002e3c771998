/* SPDX-License-Identifier: 0BSD
 *
 * Streams to the host and from it.  Port 7 of the guest echoes what comes, on many connections at once;
 * port 9 takes and counts it; port 8 ends the guest.  With a command line "connect P N" it begins by sending N
 * bytes to port P of the host and expects them back.
 */
#include "paravirt/vsock.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("socks", PV_DEVICE_TYPE_VSOCK, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define ECHO 7
#define END 8
#define SINK 9
#define CLIENTS 64
#define BUFFER_BYTES 16384

/* A connection that is served: what it sent is either in `pending` or was sent back. */
struct client {
	struct pv_vsock_connection connection;
	bool used, sink;
	uint64_t bytes;
	uint32_t pending_at, pending_bytes;
	uint8_t pending[4096];
	uint8_t buffer[BUFFER_BYTES];
};

static struct pv_vsock vsock;
static struct client clients[CLIENTS];
static struct pv_vsock_listener echo, sink, end;

static void finish(struct client *client)
{
	if (client->sink)
		pv_print("# port %u took %lu bytes\n", SINK, client->bytes);
	pv_vsock_close(&vsock, &client->connection);
	client->used = false;
}

/* All that can be done without waiting. */
static void serve(struct client *client)
{
	for (;;) {
		int64_t size;

		while (client->pending_bytes) {
			size = pv_vsock_send(&vsock, &client->connection, client->pending + client->pending_at,
					     client->pending_bytes);
			if (size < 0)
				client->pending_bytes = 0; /* the peer reads no more */
			if (size <= 0)
				break;
			client->pending_at += (uint32_t)size;
			client->pending_bytes -= (uint32_t)size;
		}
		if (client->pending_bytes)
			return;
		size = pv_vsock_receive(&vsock, &client->connection, client->pending, sizeof(client->pending));
		if (size == PV_STATUS_NOT_FOUND)
			return;
		if (size <= 0) {
			finish(client);
			return;
		}
		client->bytes += (uint64_t)size;
		client->pending_at = 0;
		client->pending_bytes = client->sink ? 0 : (uint32_t)size;
	}
}

static struct client *spare(void)
{
	for (uint32_t i = 0; i < CLIENTS; i++)
		if (!clients[i].used)
			return &clients[i];
	return NULL;
}

static void accept_from(struct pv_vsock_listener *listener)
{
	struct client *client;

	while ((client = spare())) {
		client->connection.buffer = client->buffer;
		client->connection.buffer_bytes = BUFFER_BYTES;
		if (pv_vsock_accept(&vsock, listener, &client->connection) < 0)
			return;
		client->used = true;
		client->sink = listener == &sink;
		client->bytes = client->pending_bytes = 0;
	}
}

/* Until somebody connects to the port END. */
static int64_t serve_all(void)
{
	struct pv_vsock_connection last = { .buffer = clients[0].buffer, .buffer_bytes = 1024 };

	for (;;) {
		accept_from(&echo);
		accept_from(&sink);
		for (uint32_t i = 0; i < CLIENTS; i++)
			if (clients[i].used)
				serve(&clients[i]);
		if (pv_vsock_accept(&vsock, &end, &last) >= 0) {
			pv_vsock_close(&vsock, &last);
			return PV_STATUS_OK;
		}
		int64_t status = pv_vsock_wait(&vsock);
		if (status < 0)
			return status;
	}
}

static uint8_t byte_at(uint64_t place)
{
	uint32_t mixed = (uint32_t)place * 2654435761u;

	return (uint8_t)(mixed >> 24);
}

/* Sends so many bytes and takes them back, both at once, as far as credit goes. */
static void talk(uint32_t port, uint64_t bytes)
{
	struct client *client = &clients[0];
	struct pv_vsock_connection *connection = &client->connection;
	uint64_t sent = 0, got = 0, wrong = 0;
	uint8_t piece[1024];

	connection->buffer = client->buffer;
	connection->buffer_bytes = BUFFER_BYTES;
	if (!tap_is(pv_vsock_connect(&vsock, connection, port), PV_STATUS_OK, "connect to the host"))
		return;
	while (got < bytes) {
		uint32_t part = bytes - sent < sizeof(piece) ? (uint32_t)(bytes - sent) : (uint32_t)sizeof(piece);

		for (uint32_t i = 0; i < part; i++)
			piece[i] = byte_at(sent + i);
		int64_t size = pv_vsock_send(&vsock, connection, piece, part);
		if (size < 0)
			break;
		sent += (uint64_t)size;
		if (sent == bytes && part)
			pv_vsock_shutdown(&vsock, connection, PV_VSOCK_SHUTDOWN_SEND);
		bool idle = !size;
		while ((size = pv_vsock_receive(&vsock, connection, piece, sizeof(piece))) > 0) {
			for (uint32_t i = 0; i < size; i++)
				wrong += piece[i] != byte_at(got + i);
			got += (uint64_t)size;
			idle = false;
		}
		if (size != PV_STATUS_NOT_FOUND || (idle && pv_vsock_wait(&vsock) < 0))
			break;
	}
	tap_ok(got == bytes, "all came back", (int64_t)got);
	tap_ok(!wrong, "as it was sent", (int64_t)wrong);
	tap_is(pv_vsock_receive_some(&vsock, connection, piece, sizeof(piece)), 0, "and then it ends");
	pv_vsock_close(&vsock, connection);
}

static uint64_t number(const char **text)
{
	uint64_t value = 0;

	while (**text == ' ')
		++*text;
	for (; **text >= '0' && **text <= '9'; ++*text)
		value = value * 10 + (uint64_t)(**text - '0');
	return value;
}

int pv_main(void)
{
	static const char word[] = "connect ";
	const char *text = strstr(pv_guest.command_line, word);
	struct pv_vsock_connection nobody = { .buffer = clients[1].buffer, .buffer_bytes = BUFFER_BYTES };
	struct pv_vsock_connection odd = { .buffer = clients[1].buffer, .buffer_bytes = 1000 };
	struct pv_virtio device;

	if (!tap_is(pv_device(&device, PV_DEVICE_TYPE_VSOCK, NULL), PV_STATUS_OK, "found") ||
	    !tap_is(pv_vsock_init(&vsock, &device), PV_STATUS_OK, "init"))
		return tap_done();
	pv_print("# cid %u\n", vsock.cid);
	/* Before anything is waited for: who connects from now on is not refused. */
	tap_is(pv_vsock_listen(&vsock, &echo, ECHO), PV_STATUS_OK, "listen");
	tap_is(pv_vsock_listen(&vsock, &echo, ECHO), PV_STATUS_INVALID, "listen twice");
	pv_vsock_listen(&vsock, &sink, SINK);
	pv_vsock_listen(&vsock, &end, END);
	tap_is(pv_vsock_connect(&vsock, &odd, 1), PV_STATUS_INVALID, "a buffer whose size is no power of two");
	tap_is(pv_vsock_connect(&vsock, &nobody, 1), PV_STATUS_NOT_FOUND, "nobody listens at port 1 of the host");
	if (text) {
		text += sizeof(word) - 1;
		uint32_t port = (uint32_t)number(&text);
		talk(port, number(&text));
	}
	pv_print("# ready\n");
	tap_is(serve_all(), PV_STATUS_OK, "served to the end");
	pv_vsock_deinit(&vsock);
	return tap_done();
}
