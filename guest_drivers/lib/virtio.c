/* SPDX-License-Identifier: 0BSD
 *
 * What every virtio driver does with its device, over either transport.
 */
#include "paravirt/virtio.h"
#include "paravirt/string.h"
#include "paravirt/vcpu.h"

#define CONFIG_TRIES 100

/* Virtio 3.1.1: a driver that cannot go on says so. */
static int64_t give_up(struct pv_virtio *device, uint32_t status, int64_t answer)
{
	device->transport->set_status(device, status | PV_VIRTIO_STATUS_FAILED);
	return answer;
}

int64_t pv_virtio_agree(struct pv_virtio *device, uint64_t needed, uint64_t wanted)
{
	const struct pv_virtio_transport *transport = device->transport;
	uint32_t status = PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER;

	pv_virtio_reset(device);
	transport->set_status(device, PV_VIRTIO_STATUS_ACKNOWLEDGE);
	transport->set_status(device, status);
	uint64_t offered = transport->features(device) & ~device->refused;
	needed |= PV_VIRTIO_F_VERSION_1;
	if (needed & ~offered)
		return give_up(device, status, PV_STATUS_NOT_SUPPORTED);
	device->features = needed | (wanted & offered);
	int64_t answer = transport->accept(device, device->features);
	if (answer < 0)
		return give_up(device, status, answer);
	transport->set_status(device, status | PV_VIRTIO_STATUS_FEATURES_OK);
	if (!(transport->status(device) & PV_VIRTIO_STATUS_FEATURES_OK)) /* it does not take this set */
		return give_up(device, status, PV_STATUS_NOT_SUPPORTED);
	return PV_STATUS_OK;
}

int64_t pv_virtio_config(struct pv_virtio *device, void *to, uint32_t size_bytes)
{
	/* A device that changes its configuration without end gets no further than this. */
	for (int i = 0; i < CONFIG_TRIES; i++) {
		uint32_t before = device->transport->generation(device);
		int64_t status = device->transport->config_read(device, 0, to, size_bytes);

		if (status < 0 || before == device->transport->generation(device))
			return status;
	}
	return PV_STATUS_FAILED;
}

int64_t pv_virtio_config_write(struct pv_virtio *device, uint32_t offset, const void *field, uint32_t size_bytes)
{
	return device->transport->config_write(device, offset, field, size_bytes);
}

uint16_t pv_virtio_queue_size(struct pv_virtio *device, uint16_t index, uint16_t size)
{
	uint32_t maximum = device->transport->queue_size(device, index);
	uint16_t power = PV_LIMIT_QUEUE_SIZE;

	while (power && (power > size || power > maximum))
		power /= 2;
	return power;
}

int64_t pv_virtio_queue(struct pv_virtio *device, struct pv_virtq *queue, uint16_t index, uint16_t size, void *memory)
{
	uint8_t *at = memory;
	bool indirect = device->features & PV_VIRTIO_F_INDIRECT_DESC && size >= PV_VIRTIO_INDIRECT;
	struct pv_virtq_memory parts = {
		.size = size,
		.event_idx = device->features & PV_VIRTIO_F_EVENT_IDX,
		.packed = device->features & PV_VIRTIO_F_RING_PACKED,
		.in_order = device->features & PV_VIRTIO_F_IN_ORDER,
		.ring = at,
		.slots = (struct pv_virtq_slot *)(void *)(at + PV_VIRTIO_SLOTS_OFFSET(size)),
		.indirect = indirect ? (struct pv_virtq_desc *)(void *)(at + PV_VIRTIO_TABLES_OFFSET(size)) : NULL,
		.indirect_count = PV_VIRTIO_INDIRECT,
	};
	struct pv_queue_setup setup = { .queue = index, .vcpu = device->vcpu, .channel = device->channel };
	int64_t status = pv_virtq_init(queue, &parts);

	if (status < 0)
		return status;
	pv_virtq_disarm(queue);
	pv_virtq_describe(queue, &setup);
	status = device->transport->queue_setup(device, &setup);
	if (status >= 0 && device->channel != PV_NO_CHANNEL && device->transport->bind_config)
		status = device->transport->bind_config(device);
	return status;
}

int64_t pv_virtio_start(struct pv_virtio *device)
{
	device->transport->set_status(device, PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER |
						      PV_VIRTIO_STATUS_FEATURES_OK | PV_VIRTIO_STATUS_DRIVER_OK);
	uint32_t status = device->transport->status(device);
	return status & PV_VIRTIO_STATUS_DRIVER_OK && !(status & PV_VIRTIO_STATUS_NEEDS_RESET) ? PV_STATUS_OK
											       : PV_STATUS_BAD_STATE;
}

void pv_virtio_reset(struct pv_virtio *device)
{
	device->transport->set_status(device, 0);
	while (device->transport->status(device)) /* virtio 4.2.3.1: until it reads as zero */
		pv_relax();
}

void pv_virtio_publish(struct pv_virtio *device, struct pv_virtq *queue, uint16_t index)
{
	if (pv_virtq_publish(queue))
		device->transport->notify(device, index);
}

bool pv_virtio_gone(struct pv_virtio *device)
{
	const uint32_t both = PV_VIRTIO_STATUS_DRIVER_OK | PV_VIRTIO_STATUS_NEEDS_RESET;

	return (device->transport->status(device) & both) != PV_VIRTIO_STATUS_DRIVER_OK;
}

/*
 * What came and whether the device is gone is asked with upcalls held: an event that comes after the questions then
 * ends the sleep; one that came before them may be handled already, and its cause is what they find.
 */
bool pv_virtio_sleep(struct pv_virtio *device, struct pv_virtq *const *queues, uint32_t count)
{
	bool came = false, lost = false;

	if (!pv_virtio_sleeps(device))
		return true;
	device->waiter->hold();
	for (uint32_t i = 0; i < count; i++)
		came |= pv_virtq_arm(queues[i]);
	if (!came) {
		lost = pv_virtio_gone(device);
		if (!lost)
			device->waiter->wait();
	}
	for (uint32_t i = 0; i < count; i++)
		pv_virtq_disarm(queues[i]);
	device->waiter->release();
	return !lost;
}

int64_t pv_virtio_wait(struct pv_virtio *device, struct pv_virtq *queue, struct pv_virtq_completion *completion)
{
	for (;;) {
		for (uint32_t i = pv_virtio_looks(device); i; i--) {
			int taken = pv_virtq_get(queue, completion);

			if (taken)
				return taken < 0 ? PV_STATUS_FAILED : PV_STATUS_OK;
			pv_relax();
		}
		if (pv_virtio_sleeps(device) ? !pv_virtio_sleep(device, &queue, 1) : pv_virtio_gone(device))
			return PV_STATUS_FAILED;
	}
}

int64_t pv_virtio_do(struct pv_virtio *device, struct pv_virtq *queue, uint16_t index,
		     const struct pv_virtq_buffer *buffers, uint32_t count, struct pv_virtq_completion *done)
{
	int64_t status = pv_virtq_add(queue, buffers, count, 0);

	if (status < 0)
		return status;
	pv_virtio_publish(device, queue, index);
	return pv_virtio_wait(device, queue, done);
}
