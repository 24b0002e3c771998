// SPDX-License-Identifier: BSD-2-Clause
/*
 * Packets of a vsock: any bytes, and whole conversations with programs that connect, send and leave.
 *
 * Input: steps, a byte each and what it takes: a packet of raw bytes, a packet with fields that lead
 * somewhere, room for packets to the guest, or something that a program of the host's does.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "input.h"
#include "vsock_state.h"

#define PEERS 8
#define STEPS 64
#define ROOM_BYTES 300
#define GUEST_CID 5

static struct pv_vsock vsock;
static struct pv_device device;
static char place[] = "/tmp/paravirt-fuzz-XXXXXX";
static int port_fd = -1; /* a program of the host's that listens at port 1 */
static int peers[PEERS];
static uint8_t *pieces_of[GATHERED_MOST][2]; /* of the chains of this turn */
static uint32_t chains;

static int listen_at(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", place, name);
	REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 64) == 0);
	return fd;
}

static void clean_up(void)
{
	char name[64];

	for (uint32_t i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s/%s", place, i ? "v_1" : "v");
		unlink(name);
	}
	rmdir(place);
}

static void set_up(void)
{
	REQUIRE(mkdtemp(place));
	atexit(clean_up);
	for (uint32_t i = 0; i < PV_MAX_QUEUES; i++)
		device.queues[i].state = &device.state.queues[i];
	vsock.device = &device;
	vsock.options.guest_cid = GUEST_CID;
	vsock.options.patience_ns = 1;
	snprintf(vsock.options.path, sizeof(vsock.options.path), "%s/v", place);
	vsock.options.listener_fd = listen_at("v");
	port_fd = listen_at("v_1");
	vsock.buffers = malloc((size_t)PV_VSOCK_CONNECTIONS * PV_VSOCK_BUFFER_BYTES);
	REQUIRE(vsock.buffers && host_init(&vsock) == 0);
	connections_init(&vsock);
	memset(peers, -1, sizeof(peers));
}

/* The turn of the guest's packets is over: what was gathered of them goes. */
static void end_packets(void)
{
	gather_end(&vsock);
	while (chains)
		free(pieces_of[--chains][0]), free(pieces_of[chains][1]);
}

/* A chain of the guest's in two pieces, which AddressSanitizer knows the ends of. */
static void handle(const void *bytes, size_t size_bytes, size_t cut)
{
	size_t first = cut < size_bytes ? cut : size_bytes;
	uint8_t **pieces = pieces_of[chains];
	bool stays = false;

	if (!packet_can_handle(&vsock) || !size_bytes)
		return;
	pieces[0] = malloc(first + 1);
	pieces[1] = malloc(size_bytes - first + 1);
	chains++;
	memcpy(pieces[0], bytes, first);
	memcpy(pieces[1], (const uint8_t *)bytes + first, size_bytes - first);
	vsock.chain.readable = 0;
	vsock.chain.readable_bytes = size_bytes;
	if (first)
		vsock.chain.segments[vsock.chain.readable++] = (struct iovec){ pieces[0], first };
	if (size_bytes > first)
		vsock.chain.segments[vsock.chain.readable++] = (struct iovec){ pieces[1], size_bytes - first };
	const char *rule = packet_handle(&vsock, &stays);
	REQUIRE(!rule || !strcmp(rule, "VSK-1"));
	REQUIRE(!stays || vsock.gathered.connection);
	if (rule || chains == GATHERED_MOST)
		end_packets();
}

static void raw_packet(struct input *input)
{
	uint8_t bytes[128];
	size_t size_bytes = take8(input) % sizeof(bytes), cut = take8(input);

	take(input, bytes, size_bytes);
	handle(bytes, size_bytes, cut);
}

/* A packet of one of a few connections, those that the host made included. */
static void packet(struct input *input)
{
	static struct {
		struct pv_vsock_header header;
		uint8_t data[PV_VSOCK_BUFFER_BYTES + 1];
	} made;
	uint8_t ports = take8(input);
	uint32_t size_bytes = take16(input) + (uint32_t)(ports & 1);

	made.header = (struct pv_vsock_header){
		.source_cid = GUEST_CID,
		.destination_cid = PV_VSOCK_CID_HOST,
		.source_port = ports >> 1 & 7,
		.destination_port = ports & 0x80 ? PV_VSOCK_FIRST_PORT | (ports >> 4 & 7) : 1,
		.type = PV_VSOCK_TYPE_STREAM,
		.operation = take8(input) % 9,
		.flags = take8(input) % 4,
		.buffer_bytes = take16(input),
		.forwarded_bytes = take8(input),
	};
	if (made.header.operation == PV_VSOCK_OPERATION_DATA)
		made.header.size_bytes = size_bytes;
	handle(&made, HEADER_BYTES + made.header.size_bytes, take8(input));
}

/* What the host does in a turn, with room for so many packets. */
static void turn(uint32_t rooms)
{
	host_look(&vsock);
	do {
		uint8_t *room = malloc(ROOM_BYTES);

		vsock.room.segments[0] = (struct iovec){ room, ROOM_BYTES };
		vsock.room.writable = 1;
		vsock.room.writable_bytes = ROOM_BYTES;
		vsock.has_room = rooms > 0;
		receive_turn(&vsock);
		vsock.has_room = false;
		free(room);
	} while (rooms-- > 1);
}

static void program(struct input *input)
{
	static const char greeting[] = "CONNECT 3\n";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	uint8_t what = take8(input), bytes[64];
	int *peer = &peers[what % PEERS];

	switch (what >> 3 & 3) {
	case 0: /* connects, or is connected to */
		if (*peer >= 0)
			close(*peer);
		*peer = accept4(port_fd, NULL, NULL, SOCK_NONBLOCK);
		if (*peer >= 0)
			break;
		*peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		memcpy(address.sun_path, vsock.options.path, strlen(vsock.options.path));
		if (connect(*peer, (struct sockaddr *)&address, sizeof(address)) == 0)
			(void)!send(*peer, greeting, sizeof(greeting) - 1 - (what >> 7), MSG_NOSIGNAL);
		break;
	case 1:
		take(input, bytes, sizeof(bytes));
		(void)!send(*peer, bytes, what >> 5 ? sizeof(bytes) : 1, MSG_NOSIGNAL);
		break;
	case 2:
		(void)!recv(*peer, bytes, sizeof(bytes), MSG_DONTWAIT);
		break;
	default:
		if (what & 0x80)
			shutdown(*peer, SHUT_WR);
		else if (*peer >= 0)
			*peer = (close(*peer), -1);
	}
}

static void check(void)
{
	uint64_t used = 0;

	for (uint32_t i = 0; i < PV_VSOCK_CONNECTIONS; i++) {
		const struct connection *connection = &vsock.connections[i];

		used += connection->state != FREE;
		REQUIRE(connection_fill(connection) <= BUFFER_BYTES && connection->buffer_at < BUFFER_BYTES);
		REQUIRE((connection->state == FREE || connection->state == DEAD) == (connection->fd < 0));
	}
	REQUIRE(used == vsock.statistics.open_connections);
	REQUIRE(vsock.resets_head - vsock.resets_tail <= RESETS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	struct input input = { data, size_bytes };
	int fd;

	if (port_fd < 0)
		set_up();
	vsock.next_port = 0;
	for (uint32_t i = 0; i < STEPS && input.size_bytes; i++) {
		uint8_t step = take8(&input);

		if (step % 4 > 1)
			end_packets();
		if (step % 4 == 0)
			raw_packet(&input);
		else if (step % 4 == 1)
			packet(&input);
		else if (step % 4 == 2)
			turn(step >> 4);
		else
			program(&input);
	}
	end_packets();
	turn(2);
	check();
	connections_drop(&vsock);
	check();
	for (uint32_t i = 0; i < PEERS; i++)
		if (peers[i] >= 0)
			peers[i] = (close(peers[i]), -1);
	while ((fd = accept4(port_fd, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		close(fd);
	turn(0);
	connections_drop(&vsock);
	return 0;
}
