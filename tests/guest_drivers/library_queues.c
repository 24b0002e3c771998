/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The drivers of mapped disks, networks and sockets on a transport that is a few functions: how often they ring, what
 * they do while they look, and that they notice a device that gives up.
 */
#include "library_device.h"
#include "paravirt/net.h"
#include "paravirt/pmem.h"
#include "paravirt/vsock.h"

#define PATIENCE 1000000 /* looks, more than any driver needs to find out that its device is gone */

static uint32_t rings[QUEUES];
static bool answers; /* packets of sockets */

/* The last buffer of the next chain of a queue; NULL: there is none. */
static void *take(uint16_t queue, uint16_t *head)
{
	const struct pv_virtq_desc *table, *at = device_take(queue, head, &table);

	while (at && at->flags & PV_DESC_F_NEXT)
		at = &table[at->next];
	return at ? pv_at(at->gpa) : NULL;
}

/* Takes what was sent, and says RESPONSE to who wants a connection, with much credit. */
static void answer_packets(void)
{
	const struct pv_vsock_header *packet;
	uint16_t head, room;

	while ((packet = take(PV_VSOCK_QUEUE_TRANSMIT, &head))) {
		if (packet->operation == PV_VSOCK_OPERATION_REQUEST) {
			struct pv_vsock_header *to = take(PV_VSOCK_QUEUE_RECEIVE, &room);

			*to = (struct pv_vsock_header){
				.source_cid = PV_VSOCK_CID_HOST,
				.destination_cid = packet->source_cid,
				.source_port = packet->destination_port,
				.destination_port = packet->source_port,
				.type = PV_VSOCK_TYPE_STREAM,
				.operation = PV_VSOCK_OPERATION_RESPONSE,
				.buffer_bytes = 1 << 20,
			};
			device_give(PV_VSOCK_QUEUE_RECEIVE, room, sizeof(*to));
		}
		device_give(PV_VSOCK_QUEUE_TRANSMIT, head, 0);
	}
}

static void notify(struct pv_virtio *virtio, uint16_t queue)
{
	(void)virtio;
	rings[queue]++;
	if (answers && queue == PV_VSOCK_QUEUE_TRANSMIT)
		answer_packets();
}

static struct pv_virtio fresh(const void *config, size_t size_bytes)
{
	memset(rings, 0, sizeof(rings));
	answers = false;
	transport.notify = notify;
	return device_new(PV_VIRTIO_F_VERSION_1, config, size_bytes);
}

static void check_pmem(void)
{
	static struct pv_pmem pmem;
	const struct pv_pmem_config config = { .start_gpa = 4 << 20, .size_bytes = 4096 };
	struct pv_virtio virtio = fresh(&config, sizeof(config));
	struct pv_pmem_response *response;
	uint16_t head;

	CHECK(pv_pmem_init(&pmem, &virtio) == PV_STATUS_OK && pmem.size_bytes == 4096);
	for (uint32_t i = 0; i < 2 * SIZE; i++) {
		CHECK(pv_pmem_get(&pmem) == PV_STATUS_BAD_STATE && pv_pmem_wait(&pmem) == PV_STATUS_BAD_STATE);
		CHECK(pv_pmem_submit(&pmem) == PV_STATUS_OK && rings[0] == i + 1);
		CHECK(pv_pmem_submit(&pmem) == PV_STATUS_BAD_STATE && pv_pmem_flush(&pmem) == PV_STATUS_BAD_STATE);
		CHECK(pv_pmem_get(&pmem) == PV_STATUS_NOT_FOUND);
		response = take(0, &head);
		response->result = i % 2 ? PV_PMEM_RESULT_OK : PV_PMEM_RESULT_FAILED;
		device_give(0, head, i % 3 ? sizeof(*response) : sizeof(*response) - 1); /* half an answer is none */
		CHECK((i % 4 < 2 ? pv_pmem_get : pv_pmem_wait)(&pmem) ==
		      (i % 2 && i % 3 ? PV_STATUS_OK : PV_STATUS_IO));
	}
	device.status |= PV_VIRTIO_STATUS_NEEDS_RESET;
	CHECK(pv_pmem_flush(&pmem) == PV_STATUS_FAILED);
}

/* One descriptor is free for it, then as many as it takes; the last piece lies last. */
static void check_pieces(struct pv_net_pair *pair, struct pv_net_buffer *buffer)
{
	static uint8_t data[PV_NET_PIECES + 1][100];
	struct pv_virtq_buffer pieces[PV_NET_PIECES + 1];
	uint16_t head;

	for (uint32_t i = 0; i <= PV_NET_PIECES; i++)
		pieces[i] = (struct pv_virtq_buffer){ pv_gpa(data[i]), sizeof(data[i]), false };
	buffer->size_bytes = 0;
	CHECK(pv_net_send(pair, buffer) == PV_STATUS_INVALID);
	CHECK(pv_net_send_pieces(pair, buffer, pieces, 0) == PV_STATUS_INVALID);
	CHECK(pv_net_send_pieces(pair, buffer, pieces, PV_NET_PIECES + 1) == PV_STATUS_INVALID);
	CHECK(pv_net_send_pieces(pair, buffer, pieces, 2) == PV_STATUS_BAD_STATE);
	for (uint32_t i = 1; i < SIZE; i++) {
		CHECK(take(1, &head));
		device_give(1, head, 0);
		CHECK(pv_net_sent(pair));
	}
	CHECK(pv_net_send_pieces(pair, buffer, pieces, 2) == PV_STATUS_OK);
	pv_net_submit(pair);
	CHECK(take(1, &head) == data[1]);
	device_give(1, head, 0);
	CHECK(pv_net_sent(pair) == buffer);
}

static void check_net(void)
{
	static struct pv_net net;
	static struct pv_net_pair pair;
	static struct pv_net_buffer buffers[2 * SIZE];
	static uint8_t memory[PV_NET_PAIR_BYTES(SIZE)] __attribute__((aligned(64)));
	struct pv_virtio virtio = fresh("", 1);
	uint32_t looks = 0;
	uint16_t head;

	CHECK(pv_net_init(&net, &virtio, 0) == PV_STATUS_OK);
	CHECK(pv_net_pair_init(&net, &pair, 0, SIZE, memory) == PV_STATUS_OK && pv_net_start(&net) == PV_STATUS_OK);
	for (uint32_t i = 0; i < SIZE; i++) {
		buffers[i].size_bytes = 60;
		CHECK(pv_net_send(&pair, &buffers[i]) == PV_STATUS_OK);
		CHECK(pv_net_give(&pair, &buffers[SIZE + i]) == PV_STATUS_OK);
	}
	CHECK(!rings[0] && !rings[1]);
	pv_net_submit(&pair);
	pv_net_submit(&pair);
	CHECK(rings[0] == 1 && rings[1] == 1);
	CHECK(!pv_net_sent(&pair) && pv_net_wait(&pair));
	CHECK(take(1, &head));
	device_give(1, head, 0);
	CHECK(pv_net_sent(&pair) == &buffers[0]);
	check_pieces(&pair, &buffers[0]);
	device.status |= PV_VIRTIO_STATUS_NEEDS_RESET;
	while (pv_net_wait(&pair))
		CHECK(looks++ < PATIENCE);
}

static void check_vsock(void)
{
	static struct pv_vsock vsock;
	static uint8_t room[4096], data[24 * PV_VSOCK_PACKET_BYTES];
	const struct pv_vsock_config config = { .guest_cid = 3 };
	struct pv_vsock_connection connection = { .buffer = room, .buffer_bytes = sizeof(room) };
	struct pv_virtio virtio = fresh(&config, sizeof(config));

	answers = true;
	CHECK(pv_vsock_init(&vsock, &virtio) == PV_STATUS_OK);
	CHECK(pv_vsock_connect(&vsock, &connection, 5000) == PV_STATUS_OK);
	rings[PV_VSOCK_QUEUE_TRANSMIT] = 0;
	CHECK(pv_vsock_send(&vsock, &connection, data, sizeof(data) / 3) == sizeof(data) / 3);
	CHECK(rings[PV_VSOCK_QUEUE_TRANSMIT] == 1); /* for eight packets */
	/* for more than the queue takes: those that fill it, which are waited for, and the rest */
	CHECK(pv_vsock_send(&vsock, &connection, data, sizeof(data)) == sizeof(data));
	CHECK(rings[PV_VSOCK_QUEUE_TRANSMIT] == 3);
	CHECK(pv_vsock_poll(&vsock) == 0);
	device.status |= PV_VIRTIO_STATUS_NEEDS_RESET;
	CHECK(pv_vsock_wait(&vsock) == PV_STATUS_FAILED);
}

int main(void)
{
	check_pmem();
	check_net();
	check_vsock();
	return 0;
}
