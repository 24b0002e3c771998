/* SPDX-License-Identifier: 0BSD
 *
 * Chapter vsock: packets of no connection, and chains that hold none.  Connections are not tried: they need
 * a program of the host's at their other end.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define PORT 0xfffffff0u /* of the host, where nobody listens */
#define HEADER_BYTES ((uint32_t)sizeof(struct pv_vsock_header))
#define ROOM_BYTES 256u
#define ROOMS 4u
#define PATIENCE_NS (2 * CF_SECOND)
#define QUIET_NS (CF_SECOND / 20)

static struct pv_virtio sock;
static struct pv_vsock_config config;
static struct pv_virtq receive, transmit;
static uint8_t receive_memory[PV_VIRTIO_QUEUE_BYTES(CF_QUEUE_SIZE)] __attribute__((aligned(64)));
static uint8_t transmit_memory[PV_VIRTIO_QUEUE_BYTES(CF_QUEUE_SIZE)] __attribute__((aligned(64)));
static uint8_t rooms[ROOMS][ROOM_BYTES] __attribute__((aligned(8)));
static struct {
	struct pv_vsock_header header;
	uint8_t data[64];
} packet;

static void offer(uint64_t room, uint32_t size_bytes)
{
	struct pv_virtq_buffer buffer = { pv_gpa(rooms[room]), size_bytes, true };

	pv_virtq_add(&receive, &buffer, 1, room);
	pv_virtio_publish(&sock, &receive, PV_VSOCK_QUEUE_RECEIVE);
}

/* The device from the start, with so large buffers for its packets. */
static bool start(uint32_t room_bytes)
{
	if (!cf_want(pv_virtio_agree(&sock, 0, PV_VSOCK_F_STREAM) >= 0 &&
			     pv_virtio_config(&sock, &config, sizeof(config)) >= 0 &&
			     pv_virtio_queue(&sock, &receive, PV_VSOCK_QUEUE_RECEIVE, CF_QUEUE_SIZE, receive_memory) >=
				     0 &&
			     pv_virtio_queue(&sock, &transmit, PV_VSOCK_QUEUE_TRANSMIT, CF_QUEUE_SIZE,
					     transmit_memory) >= 0 &&
			     pv_virtio_start(&sock) >= 0,
		     "the device starts"))
		return false;
	for (uint32_t i = 0; i < ROOMS; i++)
		offer(i, room_bytes);
	return true;
}

/* A REQUEST from `port` to one of the host's where nobody listens. */
static void lay_out(uint32_t port)
{
	packet.header = (struct pv_vsock_header){
		.source_cid = (uint32_t)config.guest_cid,
		.destination_cid = PV_VSOCK_CID_HOST,
		.source_port = port,
		.destination_port = PORT,
		.type = PV_VSOCK_TYPE_STREAM,
		.operation = PV_VSOCK_OPERATION_REQUEST,
		.buffer_bytes = 4096,
	};
}

static bool taken(void)
{
	uint64_t end_ns = cf_now_ns() + PATIENCE_NS;
	struct pv_virtq_completion done;

	while (pv_virtq_get(&transmit, &done) <= 0)
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}

static void send(uint32_t size_bytes)
{
	struct pv_virtq_buffer buffer = { pv_gpa(&packet), size_bytes, false };

	pv_virtq_add(&transmit, &buffer, 1, 0);
	pv_virtio_publish(&sock, &transmit, PV_VSOCK_QUEUE_TRANSMIT);
}

/* The next packet from the host; false: none within so long. */
static bool answer(struct pv_vsock_header *header, uint64_t patience_ns)
{
	uint64_t end_ns = cf_now_ns() + patience_ns;
	struct pv_virtq_completion done;

	while (pv_virtq_get(&receive, &done) <= 0)
		if (cf_now_ns() > end_ns)
			return false;
	memcpy(header, rooms[done.cookie], sizeof(*header));
	offer(done.cookie, ROOM_BYTES);
	return done.written_bytes == HEADER_BYTES;
}

/* What was sent last is answered by a RESET, its addresses swapped. */
static void reset_follows(const char *what)
{
	struct pv_vsock_header got;

	cf_want(taken(), what);
	if (!cf_want(answer(&got, PATIENCE_NS), what))
		return;
	cf_expect(got.operation, PV_VSOCK_OPERATION_RESET, what);
	cf_want(got.source_cid == packet.header.destination_cid &&
			got.source_cid_high == packet.header.destination_cid_high &&
			got.destination_cid == packet.header.source_cid &&
			got.destination_cid_high == packet.header.source_cid_high &&
			got.source_port == packet.header.destination_port &&
			got.destination_port == packet.header.source_port,
		"its addresses are those, swapped");
}

static void resets(void)
{
	static const uint16_t operations[] = { 0,
					       PV_VSOCK_OPERATION_RESPONSE,
					       PV_VSOCK_OPERATION_SHUTDOWN,
					       PV_VSOCK_OPERATION_DATA,
					       PV_VSOCK_OPERATION_CREDIT_UPDATE,
					       PV_VSOCK_OPERATION_CREDIT_REQUEST,
					       8,
					       0xffff };
	struct pv_vsock_header got;

	cf_case("VSK-3 packets of no connection are answered by RESET");
	for (uint32_t i = 0; i < CF_COUNT(operations); i++) {
		lay_out(i);
		packet.header.operation = operations[i];
		send(HEADER_BYTES);
		reset_follows("the answer to an operation");
	}
	cf_case("VSK-3 packets of another type, or from or to another CID");
	lay_out(100);
	packet.header.type = 0x7fff;
	send(HEADER_BYTES);
	reset_follows("type");
	lay_out(101);
	packet.header.destination_cid = (uint32_t)config.guest_cid;
	send(HEADER_BYTES);
	reset_follows("to itself");
	lay_out(102);
	packet.header.destination_cid_high = 1;
	send(HEADER_BYTES);
	reset_follows("to the host, but for the upper half");
	lay_out(103);
	packet.header.source_cid ^= 0x10000;
	send(HEADER_BYTES);
	reset_follows("from another");
	cf_case("VSK-3 a RESET is not answered");
	lay_out(104);
	packet.header.operation = PV_VSOCK_OPERATION_RESET;
	send(HEADER_BYTES);
	cf_want(taken(), "it is taken");
	cf_want(!answer(&got, QUIET_NS), "nothing comes");
}

static void fault(uint32_t size_bytes, const char *what)
{
	send(size_bytes);
	cf_want(cf_gives_up(&sock), what);
	if (start(ROOM_BYTES)) {
		lay_out(7);
		send(HEADER_BYTES);
		reset_follows("after a reset it works");
	}
}

static void faults(void)
{
	cf_case("VSK-1 a chain that holds no packet");
	lay_out(1);
	fault(1, "a byte");
	lay_out(2);
	fault(HEADER_BYTES - 1, "almost a header");
	lay_out(3);
	packet.header.size_bytes = 17;
	fault(HEADER_BYTES + 16, "data that ends early");
	lay_out(4);
	packet.header.size_bytes = 0xffffffff;
	fault(HEADER_BYTES + 16, "data without end");
	cf_case("VSK-2 no room for a header and a byte");
	if (start(HEADER_BYTES)) {
		lay_out(5);
		fault(HEADER_BYTES, "a header alone");
	}
}

static void vsock(void)
{
	if (!cf_device(&sock, PV_DEVICE_TYPE_VSOCK, "socks")) {
		cf_case("VSK-1 VSK-2 VSK-3 sockets");
		cf_skip("no vsock `socks` is attached");
		return;
	}
	cf_case("DEV-6 VIRTIO-5.10.6.4.2-1 the configuration of a vsock");
	sock.channel = PV_NO_CHANNEL;
	if (!start(ROOM_BYTES))
		return;
	cf_want(config.guest_cid >= PV_VSOCK_CID_FIRST && config.guest_cid < PV_VSOCK_CID_ANY, "the CID is a guest's");
	cf_case("VIRTIO-5.10.3.2-1 streams are not implied");
	cf_want(sock.transport->features(&sock) & PV_VSOCK_F_NO_IMPLIED_STREAM, "NO_IMPLIED_STREAM");
	resets();
	faults();
	cf_down(&sock);
}

CF_CHAPTER(vsock, vsock);
