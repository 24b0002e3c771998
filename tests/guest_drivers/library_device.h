/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A virtio device in the memory of a test program, on a transport that is a few functions.  What it does when its
 * doorbell rings is the program's: `transport.notify`.
 */
#ifndef TESTS_LIBRARY_DEVICE_H
#define TESTS_LIBRARY_DEVICE_H

#include <string.h>

#include "check.h"
#include "paravirt/virtio.h"

#define QUEUES 3
#define SIZE 16 /* of each */

static struct {
	uint64_t offered, accepted;
	uint32_t status, resets;
	uint8_t config[64];
	struct pv_queue_setup queues[QUEUES];
	uint16_t taken[QUEUES], given[QUEUES];
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
	if (!status) {
		device.resets++;
		memset(device.taken, 0, sizeof(device.taken));
		memset(device.given, 0, sizeof(device.given));
	}
	if (status & PV_VIRTIO_STATUS_FEATURES_OK && device.accepted & ~device.offered)
		device.status &= ~(uint32_t)PV_VIRTIO_STATUS_FEATURES_OK;
}

static uint64_t get_features(struct pv_virtio *virtio)
{
	(void)virtio;
	return device.offered;
}

static int64_t accept_features(struct pv_virtio *virtio, uint64_t features)
{
	(void)virtio;
	CHECK(features & PV_VIRTIO_F_VERSION_1);
	device.accepted = features;
	return PV_STATUS_OK;
}

static int64_t config_read(struct pv_virtio *virtio, uint32_t offset, void *to, uint32_t size_bytes)
{
	(void)virtio;
	CHECK(offset + size_bytes <= sizeof(device.config));
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
	CHECK(setup->queue < QUEUES);
	device.queues[setup->queue] = *setup;
	return PV_STATUS_OK;
}

static struct pv_virtio_transport transport = {
	.status = get_status,
	.set_status = set_status,
	.features = get_features,
	.accept = accept_features,
	.config_read = config_read,
	.generation = generation,
	.queue_size = queue_size,
	.queue_setup = queue_setup,
};

/* The device anew, without events: its driver looks. */
static struct pv_virtio device_new(uint64_t offered, const void *config, size_t config_bytes)
{
	memset(&device, 0, sizeof(device));
	device.offered = offered;
	memcpy(device.config, config, config_bytes);
	return (struct pv_virtio){ .transport = &transport, .channel = PV_NO_CHANNEL };
}

/* The first descriptor of the next chain of a queue, and the table it lies in; NULL: there is none. */
static const struct pv_virtq_desc *device_take(uint16_t queue, uint16_t *head, const struct pv_virtq_desc **table)
{
	const struct pv_queue_setup *setup = &device.queues[queue];
	const struct pv_virtq_avail *avail = pv_at(setup->driver_gpa);

	if (device.taken[queue] == avail->index)
		return NULL;
	*head = ((const uint16_t *)(avail + 1))[device.taken[queue]++ % setup->size];
	*table = pv_at(setup->descriptors_gpa);
	const struct pv_virtq_desc *first = &(*table)[*head];
	if (first->flags & PV_DESC_F_INDIRECT)
		first = *table = pv_at(first->gpa);
	return first;
}

static void device_give(uint16_t queue, uint32_t head, uint32_t written_bytes)
{
	struct pv_virtq_used *used = pv_at(device.queues[queue].device_gpa);
	struct pv_virtq_used_elem *entries = (struct pv_virtq_used_elem *)(used + 1);

	entries[device.given[queue]++ % device.queues[queue].size] = (struct pv_virtq_used_elem){ head, written_bytes };
	used->index = device.given[queue];
}

/* Nothing here makes calls. */
struct pv_answer pv_call(uint32_t id, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	fprintf(stderr, "call %x %lx %lx %lx %lx %lx %lx\n", id, a0, a1, a2, a3, a4, a5);
	exit(1);
}

#endif
