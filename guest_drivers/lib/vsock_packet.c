/* SPDX-License-Identifier: 0BSD
 *
 * Packets of virtio sockets between the three queues and vsock.c, which knows what they mean.
 */
#include "paravirt/string.h"
#include "paravirt/vcpu.h"
#include "vsock.h"

#define HEADER_BYTES ((uint32_t)sizeof(struct pv_vsock_header))

static int64_t offer_packet(struct pv_vsock *vsock, uint64_t index)
{
	struct pv_virtq_buffer buffer = { pv_gpa(&vsock->in[index]), sizeof(vsock->in[index]), true };

	return pv_virtq_add(&vsock->receive, &buffer, 1, index);
}

static int64_t offer_event(struct pv_vsock *vsock, uint64_t index)
{
	struct pv_virtq_buffer buffer = { pv_gpa(&vsock->event[index]), sizeof(vsock->event[index]), true };

	return pv_virtq_add(&vsock->events, &buffer, 1, index);
}

static int64_t set_up(struct pv_vsock *vsock)
{
	const struct {
		struct pv_virtq *queue;
		void *memory;
		uint16_t index, size;
	} queues[] = {
		{ &vsock->receive, vsock->receive_memory, PV_VSOCK_QUEUE_RECEIVE, PV_VSOCK_QUEUE_SIZE },
		{ &vsock->transmit, vsock->transmit_memory, PV_VSOCK_QUEUE_TRANSMIT, PV_VSOCK_QUEUE_SIZE },
		{ &vsock->events, vsock->event_memory, PV_VSOCK_QUEUE_EVENT, PV_VSOCK_EVENTS },
	};

	for (uint32_t i = 0; i < sizeof(queues) / sizeof(*queues); i++) {
		uint16_t size = pv_virtio_queue_size(vsock->device, queues[i].index, queues[i].size);
		int64_t status =
			size ? pv_virtio_queue(vsock->device, queues[i].queue, queues[i].index, size, queues[i].memory)
			     : PV_STATUS_NOT_SUPPORTED;

		if (status < 0)
			return status;
	}
	return PV_STATUS_OK;
}

int64_t pv_vsock_init(struct pv_vsock *vsock, struct pv_virtio *device)
{
	struct pv_vsock_config config;
	int64_t status = pv_virtio_agree(device, 0, PV_VIRTIO_RING_FEATURES | PV_VSOCK_F_STREAM);

	if (status >= 0)
		status = pv_virtio_config(device, &config, sizeof(config));
	if (status < 0)
		return status;
	vsock->device = device;
	vsock->cid = (uint32_t)config.guest_cid;
	vsock->connections = NULL;
	vsock->listeners = NULL;
	vsock->next_port = vsock->resets = 0;
	status = set_up(vsock);
	if (status >= 0)
		status = pv_virtio_start(device);
	if (status < 0)
		return status;
	vsock->spare = (1u << vsock->transmit.memory.size) - 1;
	for (uint32_t i = 0; i < vsock->receive.memory.size; i++)
		offer_packet(vsock, i);
	for (uint32_t i = 0; i < vsock->events.memory.size; i++)
		offer_event(vsock, i);
	pv_virtio_publish(device, &vsock->receive, PV_VSOCK_QUEUE_RECEIVE);
	pv_virtio_publish(device, &vsock->events, PV_VSOCK_QUEUE_EVENT);
	return PV_STATUS_OK;
}

void pv_vsock_deinit(struct pv_vsock *vsock)
{
	pv_virtio_reset(vsock->device);
	pv_vsock_transport_came(vsock);
	vsock->connections = NULL;
	vsock->listeners = NULL;
}

/* ---- to the host ---- */

/* A packet to fill in; NULL: the device is gone. */
static struct pv_vsock_packet *take_spare(struct pv_vsock *vsock, uint64_t *index)
{
	struct pv_virtq_completion done;

	while (pv_virtq_get(&vsock->transmit, &done) > 0)
		vsock->spare |= 1u << done.cookie;
	if (!vsock->spare) {
		pv_vsock_packet_submit(vsock);
		if (pv_virtio_wait(vsock->device, &vsock->transmit, &done) < 0)
			return NULL;
		vsock->spare |= 1u << done.cookie;
	}
	*index = (uint64_t)__builtin_ctz(vsock->spare);
	return &vsock->out[*index];
}

void pv_vsock_packet_submit(struct pv_vsock *vsock)
{
	pv_virtio_publish(vsock->device, &vsock->transmit, PV_VSOCK_QUEUE_TRANSMIT);
}

static int64_t add(struct pv_vsock *vsock, uint64_t index)
{
	struct pv_vsock_packet *packet = &vsock->out[index];
	struct pv_virtq_buffer buffer = { pv_gpa(packet), HEADER_BYTES + packet->header.size_bytes, false };
	int64_t status = pv_virtq_add(&vsock->transmit, &buffer, 1, index);

	if (status < 0)
		return PV_STATUS_FAILED;
	vsock->spare &= ~(1u << index);
	return PV_STATUS_OK;
}

int64_t pv_vsock_packet_add(struct pv_vsock *vsock, struct pv_vsock_connection *connection, uint32_t operation,
			    uint32_t flags, const uint8_t *data, uint32_t size_bytes)
{
	uint64_t index;
	struct pv_vsock_packet *packet = take_spare(vsock, &index);

	if (!packet)
		return PV_STATUS_FAILED;
	packet->header = (struct pv_vsock_header){
		.source_cid = vsock->cid,
		.destination_cid = PV_VSOCK_CID_HOST,
		.source_port = connection->port,
		.destination_port = connection->peer_port,
		.size_bytes = size_bytes,
		.type = PV_VSOCK_TYPE_STREAM,
		.operation = (uint16_t)operation,
		.flags = flags,
		.buffer_bytes = connection->buffer_bytes,
		.forwarded_bytes = connection->forwarded_bytes,
	};
	if (size_bytes)
		memcpy(packet->data, data, size_bytes);
	connection->told_bytes = connection->forwarded_bytes;
	return add(vsock, index);
}

void pv_vsock_packet_refuse(struct pv_vsock *vsock, const struct pv_vsock_header *header)
{
	uint64_t index;
	struct pv_vsock_packet *packet = take_spare(vsock, &index);

	if (!packet)
		return; /* nobody is there to hear it */
	packet->header = (struct pv_vsock_header){
		.source_cid = header->destination_cid,
		.source_cid_high = header->destination_cid_high,
		.destination_cid = header->source_cid,
		.destination_cid_high = header->source_cid_high,
		.source_port = header->destination_port,
		.destination_port = header->source_port,
		.type = header->type,
		.operation = PV_VSOCK_OPERATION_RESET,
	};
	add(vsock, index);
	pv_vsock_packet_submit(vsock);
}

/* ---- from the host ---- */

/* The device may change it under our eyes: the header is copied once. */
static void take_packet(struct pv_vsock *vsock, const struct pv_virtq_completion *done)
{
	const struct pv_vsock_packet *packet = &vsock->in[done->cookie];
	struct pv_vsock_header header;

	memcpy(&header, &packet->header, HEADER_BYTES);
	/* What is no packet is as if it had not come. */
	if (done->written_bytes >= HEADER_BYTES && header.size_bytes <= done->written_bytes - HEADER_BYTES)
		pv_vsock_packet_came(vsock, &header, packet->data);
	offer_packet(vsock, done->cookie);
}

int64_t pv_vsock_poll(struct pv_vsock *vsock)
{
	struct pv_virtq_completion done;
	int64_t came = 0;
	int taken;

	while ((taken = pv_virtq_get(&vsock->events, &done)) > 0) {
		pv_vsock_transport_came(vsock);
		offer_event(vsock, done.cookie);
		pv_virtio_publish(vsock->device, &vsock->events, PV_VSOCK_QUEUE_EVENT);
		came++;
	}
	while (taken >= 0 && (taken = pv_virtq_get(&vsock->receive, &done)) > 0) {
		take_packet(vsock, &done);
		came++;
	}
	if (came)
		pv_virtio_publish(vsock->device, &vsock->receive, PV_VSOCK_QUEUE_RECEIVE);
	return taken < 0 ? PV_STATUS_FAILED : came;
}

int64_t pv_vsock_wait(struct pv_vsock *vsock)
{
	struct pv_virtq *const queues[] = { &vsock->receive, &vsock->events };
	struct pv_virtio *device = vsock->device;

	for (;;) {
		for (uint32_t i = pv_virtio_looks(device); i; i--) {
			int64_t came = pv_vsock_poll(vsock);

			if (came)
				return came;
			pv_relax();
		}
		if (pv_virtio_sleeps(device) ? !pv_virtio_sleep(device, queues, 2) : pv_virtio_gone(device))
			return PV_STATUS_FAILED;
	}
}
