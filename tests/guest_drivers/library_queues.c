/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The drivers of mapped disks, networks and sockets on a transport that is a few functions: how often they ring, what
 * they do while they look, and that they notice a device that gives up.
 */
#include <string.h>

#include "check.h"
#include "paravirt/net.h"
#include "paravirt/pmem.h"
#include "paravirt/vsock.h"

#define QUEUES 3
#define SIZE 16
#define PATIENCE 1000000 /* looks, more than any driver needs to find out that its device is gone */

static struct {
	uint32_t status;
	uint8_t config[16];
	struct pv_queue_setup queues[QUEUES];
	uint32_t rings[QUEUES];
	uint16_t taken[QUEUES], given[QUEUES];
	bool answers; /* packets of sockets */
} device;

static uint32_t get_status(struct pv_virtio *virtio)
{
	(void)virtio;
	return device.status;
}

static void set_status(struct pv_virtio *virtio, uint32_t status)
{
	(void)virtio;
	device.status = status;
}

static uint64_t get_features(struct pv_virtio *virtio)
{
	(void)virtio;
	return PV_VIRTIO_F_VERSION_1;
}

static int64_t accept_features(struct pv_virtio *virtio, uint64_t features)
{
	(void)virtio;
	CHECK(features == PV_VIRTIO_F_VERSION_1);
	return PV_STATUS_OK;
}

static int64_t config_read(struct pv_virtio *virtio, uint32_t offset, void *to, uint32_t size_bytes)
{
	(void)virtio;
	memcpy(to, device.config + offset, size_bytes);
	return PV_STATUS_OK;
}

static uint32_t generation(struct pv_virtio *virtio)
{
	(void)virtio;
	return 0;
}

static uint32_t queue_size(struct pv_virtio *virtio, uint16_t queue)
{
	(void)virtio;
	return queue < QUEUES ? SIZE : 0;
}

static int64_t queue_setup(struct pv_virtio *virtio, const struct pv_queue_setup *setup)
{
	(void)virtio;
	device.queues[setup->queue] = *setup;
	return PV_STATUS_OK;
}

/* The last buffer of the next chain of a queue; NULL: there is none. */
static void *take(uint16_t queue, uint16_t *head)
{
	const struct pv_queue_setup *setup = &device.queues[queue];
	const struct pv_virtq_avail *avail = pv_at(setup->driver_gpa);
	const struct pv_virtq_desc *at = pv_at(setup->descriptors_gpa);

	if (device.taken[queue] == avail->index)
		return NULL;
	*head = ((const uint16_t *)(avail + 1))[device.taken[queue]++ % setup->size];
	for (at += *head; at->flags & PV_DESC_F_NEXT;)
		at = (const struct pv_virtq_desc *)pv_at(setup->descriptors_gpa) + at->next;
	return pv_at(at->gpa);
}

static void give(uint16_t queue, uint16_t head, uint32_t written_bytes)
{
	struct pv_virtq_used *used = pv_at(device.queues[queue].device_gpa);
	struct pv_virtq_used_elem *entries = (struct pv_virtq_used_elem *)(used + 1);

	entries[device.given[queue]++ % device.queues[queue].size] = (struct pv_virtq_used_elem){ head, written_bytes };
	used->index = device.given[queue];
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
			give(PV_VSOCK_QUEUE_RECEIVE, room, sizeof(*to));
		}
		give(PV_VSOCK_QUEUE_TRANSMIT, head, 0);
	}
}

static void notify(struct pv_virtio *virtio, uint16_t queue)
{
	(void)virtio;
	device.rings[queue]++;
	if (device.answers && queue == PV_VSOCK_QUEUE_TRANSMIT)
		answer_packets();
}

static const struct pv_virtio_transport transport = {
	.status = get_status,
	.set_status = set_status,
	.features = get_features,
	.accept = accept_features,
	.config_read = config_read,
	.generation = generation,
	.queue_size = queue_size,
	.queue_setup = queue_setup,
	.notify = notify,
};

/* Nothing here makes calls. */
struct pv_answer pv_call(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	fprintf(stderr, "call %x %lx %lx %lx %lx %lx %lx\n", id, a0, a1, a2, a3, a4, a5);
	exit(1);
}

/* A device without events: its driver looks. */
static struct pv_virtio fresh(const void *config, size_t size_bytes)
{
	memset(&device, 0, sizeof(device));
	memcpy(device.config, config, size_bytes);
	return (struct pv_virtio){ .transport = &transport, .channel = PV_NO_CHANNEL };
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
		CHECK(pv_pmem_submit(&pmem) == PV_STATUS_OK && device.rings[0] == i + 1);
		CHECK(pv_pmem_submit(&pmem) == PV_STATUS_BAD_STATE && pv_pmem_flush(&pmem) == PV_STATUS_BAD_STATE);
		CHECK(pv_pmem_get(&pmem) == PV_STATUS_NOT_FOUND);
		response = take(0, &head);
		response->result = i % 2 ? PV_PMEM_RESULT_OK : PV_PMEM_RESULT_FAILED;
		give(0, head, i % 3 ? sizeof(*response) : sizeof(*response) - 1); /* half an answer is none */
		CHECK((i % 4 < 2 ? pv_pmem_get : pv_pmem_wait)(&pmem) ==
		      (i % 2 && i % 3 ? PV_STATUS_OK : PV_STATUS_IO));
	}
	device.status |= PV_VIRTIO_STATUS_NEEDS_RESET;
	CHECK(pv_pmem_flush(&pmem) == PV_STATUS_FAILED);
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
	CHECK(!device.rings[0] && !device.rings[1]);
	pv_net_submit(&pair);
	pv_net_submit(&pair);
	CHECK(device.rings[0] == 1 && device.rings[1] == 1);
	CHECK(!pv_net_sent(&pair) && pv_net_wait(&pair));
	CHECK(take(1, &head));
	give(1, head, 0);
	CHECK(pv_net_sent(&pair) == &buffers[0]);
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

	device.answers = true;
	CHECK(pv_vsock_init(&vsock, &virtio) == PV_STATUS_OK);
	CHECK(pv_vsock_connect(&vsock, &connection, 5000) == PV_STATUS_OK);
	device.rings[PV_VSOCK_QUEUE_TRANSMIT] = 0;
	CHECK(pv_vsock_send(&vsock, &connection, data, sizeof(data) / 3) == sizeof(data) / 3);
	CHECK(device.rings[PV_VSOCK_QUEUE_TRANSMIT] == 1); /* for eight packets */
	/* for more than the queue takes: those that fill it, which are waited for, and the rest */
	CHECK(pv_vsock_send(&vsock, &connection, data, sizeof(data)) == sizeof(data));
	CHECK(device.rings[PV_VSOCK_QUEUE_TRANSMIT] == 3);
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
