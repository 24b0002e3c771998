/* SPDX-License-Identifier: 0BSD
 *
 * Chapter net: a network `wire` that gives back each frame that is sent.  Its queues are the library's, chains are
 * laid out by hand.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define QUEUE_SIZE 8
#define FRAME_BYTES 60u
#define ROOM_BYTES 256u
#define UNTOUCHED 0xee
#define PIECE_BYTES 32u
#define F_OF_CONTROL (1ull << 20 | 1ull << 57) /* CTRL_RX_EXTRA, HASH_REPORT */

static struct pv_virtio wire;
static uint64_t wanted_features;
static struct pv_virtq receives, sends;
static uint8_t memory[2][PV_VIRTIO_QUEUE_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
static struct {
	struct pv_net_header header;
	uint8_t data[ROOM_BYTES];
} frame, rooms[2];

static bool up(void)
{
	bool made = pv_virtio_agree(&wire, 0, wanted_features) >= 0 &&
		    pv_virtio_queue(&wire, &receives, 0, QUEUE_SIZE, memory[0]) >= 0 &&
		    pv_virtio_queue(&wire, &sends, 1, QUEUE_SIZE, memory[1]) >= 0 && pv_virtio_start(&wire) >= 0;

	memset(rooms, UNTOUCHED, sizeof(rooms));
	memset(&frame, 0, sizeof(frame));
	return cf_want(made, "the network starts");
}

static void add(struct pv_virtq *queue, const void *at, uint32_t size_bytes)
{
	struct pv_virtq_buffer buffer = { pv_gpa(at), size_bytes, queue == &receives };

	pv_virtq_add(queue, &buffer, 1, pv_gpa(at));
	pv_virtio_publish(&wire, queue, queue == &sends);
}

static bool back(struct pv_virtq *queue, struct pv_virtq_completion *done)
{
	uint64_t end_ns = cf_now_ns() + 2 * CF_SECOND;

	while (!pv_virtq_get(queue, done)) {
		if (cf_now_ns() > end_ns)
			return false;
		cf_relax();
	}
	return !queue->broken;
}

/* Sends a frame of one byte's value; whether it came back from the device. */
static bool send(uint8_t value, uint32_t size_bytes)
{
	struct pv_virtq_completion done;

	memset(frame.data, value, size_bytes);
	add(&sends, &frame, (uint32_t)sizeof(frame.header) + size_bytes);
	return back(&sends, &done);
}

static void short_chains(void)
{
	cf_case("NET-1 a chain to send that is shorter than a header");
	if (up()) {
		add(&sends, &frame, sizeof(frame.header) - 1);
		cf_want(cf_gives_up(&wire), "the device gives up");
	}
	cf_case("NET-2 a chain to receive that is shorter than a header");
	if (up()) {
		add(&receives, &rooms[0], sizeof(frame.header) - 1);
		/* At the latest when there is something to receive; too long for the cases below, should it come to them. */
		send(1, FRAME_BYTES + 1);
		cf_want(cf_gives_up(&wire), "the device gives up");
	}
}

static void headers(void)
{
	cf_case("NET-3 a header that asks for a checksum, which was not agreed on");
	if (up()) {
		frame.header.flags = (uint8_t)PV_NET_HEADER_F_NEEDS_CHECKSUM;
		add(&sends, &frame, sizeof(frame.header) + FRAME_BYTES);
		cf_want(cf_gives_up(&wire), "the device gives up");
	}
	cf_case("NET-3 a header that asks for segments, which were not agreed on");
	if (up()) {
		frame.header.segmentation = PV_NET_SEGMENTATION_TCP4;
		add(&sends, &frame, sizeof(frame.header) + FRAME_BYTES);
		cf_want(cf_gives_up(&wire), "the device gives up");
	}
}

static void too_long(void)
{
	struct pv_virtq_completion done;

	cf_case("NET-4 a frame that does not fit is dropped whole");
	if (!up())
		return;
	add(&receives, &rooms[0], sizeof(frame.header) + FRAME_BYTES);
	cf_want(send(1, FRAME_BYTES + 1) && send(2, FRAME_BYTES), "two frames are sent");
	if (!cf_want(back(&receives, &done), "one comes back"))
		return;
	cf_expect(done.written_bytes, sizeof(frame.header) + FRAME_BYTES, "bytes received");
	cf_want(rooms[0].data[0] == 2 && rooms[0].data[FRAME_BYTES - 1] == 2, "the one that fits");
	cf_expect(rooms[0].data[FRAME_BYTES], UNTOUCHED, "the byte behind");
}

static bool offer_and_send(struct pv_virtq_completion *done)
{
	add(&receives, &rooms[0], sizeof(rooms[0]));
	return cf_want(send(0x33, FRAME_BYTES), "a frame is sent") && cf_want(back(&receives, done), "it comes back");
}

static void hints(void)
{
	struct pv_virtq_completion done;

	cf_case("VIRTIO-5.1.6.2.2-1 VIRTIO-5.1.6.2.2-2 VIRTIO-5.1.6.2.2-3 what a header to send says and does not "
		"mean");
	if (!up())
		return;
	frame.header = (struct pv_net_header){
		.flags = (uint8_t)~PV_NET_HEADER_F_NEEDS_CHECKSUM,
		.header_bytes = 0xffff,
		.segment_bytes = 0xffff,
		.checksum_start = 0xffff,
		.checksum_offset = 0xffff,
	};
	if (offer_and_send(&done)) {
		cf_expect(done.written_bytes, sizeof(frame.header) + FRAME_BYTES, "bytes received");
		cf_want(rooms[0].data[0] == 0x33 && rooms[0].data[FRAME_BYTES - 1] == 0x33, "the frame as it was sent");
	}
	cf_case("VIRTIO-5.1.6.4.1-1 VIRTIO-5.1.6.4.1-5 VIRTIO-5.1.6.4.1-10 VIRTIO-5.1.6.4.1-13 a header received");
	if (up() && offer_and_send(&done)) {
		cf_expect(rooms[0].header.chains, 1, "num_buffers");
		cf_expect(rooms[0].header.flags, 0, "flags");
		cf_expect(rooms[0].header.segmentation, PV_NET_SEGMENTATION_NONE, "gso_type");
	}
}

static void merged(void)
{
	static uint8_t pieces[4][PIECE_BYTES] __attribute__((aligned(8)));
	struct pv_virtq_completion done;

	cf_case("VIRTIO-5.1.6.4.1-2 VIRTIO-5.1.6.4.1-3 a frame in several buffers");
	wanted_features = PV_NET_F_MRG_RXBUF;
	bool agreed = up() && wire.features & PV_NET_F_MRG_RXBUF;
	wanted_features = 0;
	if (!agreed) {
		cf_skip("MRG_RXBUF is not offered");
		return;
	}
	for (uint32_t i = 0; i < CF_COUNT(pieces); i++)
		add(&receives, pieces[i], PIECE_BYTES);
	cf_want(send(0x44, FRAME_BYTES), "a frame is sent");
	for (uint32_t i = 0, left = sizeof(frame.header) + FRAME_BYTES; left; i++) {
		uint32_t wanted = left < PIECE_BYTES ? left : PIECE_BYTES;

		if (!cf_want(back(&receives, &done), "each buffer comes back"))
			return;
		cf_expect(done.written_bytes, wanted, "all but the last are filled");
		cf_expect((int64_t)done.cookie, (int64_t)pv_gpa(pieces[i]), "in order");
		left -= wanted;
	}
	cf_expect(((struct pv_net_header *)(void *)pieces[0])->chains, 3, "num_buffers");
	cf_want(pieces[0][sizeof(frame.header)] == 0x44 && pieces[2][0] == 0x44, "the frame");
}

static void what_is_said(void)
{
	struct pv_net_config config;
	uint64_t offered = wire.transport->features(&wire);

	cf_case("VIRTIO-5.1.4.1-2 VIRTIO-5.1.4.1-3 VIRTIO-5.1.4.1-12 what a network offers, and its mtu");
	cf_want(offered & PV_NET_F_CTRL_VQ || !(offered & F_OF_CONTROL), "nothing of CTRL_VQ's without it");
	wire.transport->config_read(&wire, 0, &config, sizeof(config));
	if (offered & PV_NET_F_MTU)
		cf_want(config.mtu >= 1280, "an mtu with which IPv6 works");
}

static void run(void)
{
	if (!cf_device(&wire, PV_DEVICE_TYPE_NET, "wire")) {
		cf_case("NET-1 NET-2 NET-3 NET-4 a network");
		cf_skip("there is no network `wire`");
		return;
	}
	short_chains();
	headers();
	too_long();
	hints();
	merged();
	what_is_said();
	cf_down(&wire);
}
CF_CHAPTER(net, run);
