// SPDX-License-Identifier: BSD-2-Clause
/*
 * The status machine of a virtio device (virtio 2.1, 3.1), once for every transport: features,
 * configuration, queues, reset.  Transports (device.c, mmio.c) only translate; back ends hang on ops;
 * doorbells, interrupts and faults are notify.c's.
 *
 * Locking: what a driver does takes the device's lock, so a back end's ops see one step at a time.  The
 * lock is recursive, for a transport makes several steps of one access, and an op may ask for more.
 * A reset waits for the back end's threads with the lock held; so what those call (pop, fault,
 * interrupt) takes no lock, and what they share with drivers is accessed atomically.
 */
#include <string.h>

#include "device.h"

static bool agreed(const struct pv_device *device, uint64_t feature)
{
	return status_of(device) & FEATURES_OK && device->state.accepted[0] & feature;
}

void pv_device_init(struct pv_device *device, struct pv_machine *machine)
{
	pthread_mutexattr_t attributes;

	memset(device, 0, sizeof(*device));
	device->machine = machine;
	device->interrupt_fd = -1;
	device->state.config_channel = PV_NO_CHANNEL;
	for (uint16_t i = 0; i < PV_MAX_QUEUES; i++) {
		device->state.queues[i].channel = PV_NO_CHANNEL;
		device->queues[i] = (struct pv_queue){
			.state = &device->state.queues[i],
			.memory = &machine->memory,
			.device = device,
			.index = i,
			.doorbell_fd = -1,
			.kick_fd = -1,
			.call_fd = -1,
		};
	}
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&device->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

static void forget_queue(struct pv_queue *queue)
{
	pv_queue_disable(queue);
	*queue->state = (struct pv_queue_state){ .channel = PV_NO_CHANNEL };
}

static void reset(struct pv_device *device)
{
	struct pv_device_state *s = &device->state;

	if (device->active && device->ops.reset)
		device->ops.reset(device); /* no I/O is in flight afterwards */
	device->active = 0;
	for (uint32_t i = 0; i < PV_MAX_QUEUES; i++) {
		forget_queue(&device->queues[i]);
		device->queues[i].features = 0;
	}
	s->accepted[0] = s->accepted[1] = 0;
	s->config_vcpu = 0;
	s->config_channel = PV_NO_CHANNEL;
	s->device_block = s->driver_block = s->queue_selector = 0;
	__atomic_store_n(&s->interrupt_status, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&device->fault, NULL, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->status, 0, __ATOMIC_RELEASE);
}

void pv_device_deinit(struct pv_device *device)
{
	pthread_mutex_lock(&device->lock);
	reset(device);
	pthread_mutex_unlock(&device->lock);
	pthread_mutex_destroy(&device->lock);
}

int64_t pv_device_accept(struct pv_device *device, uint64_t block, uint64_t features)
{
	int64_t answer = PV_STATUS_OK;

	if (block > 1)
		return PV_STATUS_INVALID;
	pthread_mutex_lock(&device->lock);
	if (status_of(device) & FEATURES_OK) /* DEV-4 */
		answer = PV_STATUS_BAD_STATE;
	else
		device->state.accepted[block] = features;
	pthread_mutex_unlock(&device->lock);
	return answer;
}

/* DEV-3 */
static bool features_agree(const struct pv_device *device)
{
	const uint64_t *accepted = device->state.accepted;

	return !(accepted[0] & ~device->offered[0]) && !(accepted[1] & ~device->offered[1]) &&
	       accepted[0] & PV_VIRTIO_F_VERSION_1;
}

/* DEV-1: may a driver that sees `before` write `status`?  Not zero, which is always allowed. */
static int64_t check_status(uint32_t before, uint64_t status)
{
	const uint64_t known = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | NEEDS_RESET | FAILED;
	uint64_t added = status & ~(uint64_t)before;

	uint64_t cleared = before & ~status & ~(uint64_t)NEEDS_RESET; /* that bit is the device's */

	if (status & ~known || cleared || added & NEEDS_RESET) /* DEV-2 */
		return PV_STATUS_INVALID;
	if (added & (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK) && before & (NEEDS_RESET | FAILED))
		return PV_STATUS_BAD_STATE;
	if (status & DRIVER && !(status & ACKNOWLEDGE))
		return PV_STATUS_BAD_STATE;
	if (status & FEATURES_OK && !(status & DRIVER))
		return PV_STATUS_BAD_STATE;
	/* The driver is to read FEATURES_OK back before it goes on (virtio 3.1.1). */
	if (added & DRIVER_OK && !(before & FEATURES_OK))
		return PV_STATUS_BAD_STATE;
	return PV_STATUS_OK;
}

static void advance(struct pv_device *device, uint32_t added)
{
	if (added & FEATURES_OK && !features_agree(device))
		added &= ~FEATURES_OK; /* refused: the driver reads it back clear */
	if (added & FEATURES_OK) {
		for (uint32_t i = 0; i < PV_MAX_QUEUES; i++)
			device->queues[i].features = device->state.accepted[0];
		if (device->ops.agreed)
			device->ops.agreed(device);
	}
	/* or, not store: a back end's thread may set NEEDS_RESET at this moment */
	__atomic_fetch_or(&device->state.status, added, __ATOMIC_SEQ_CST);
	if (added & DRIVER_OK) {
		device->active = 1;
		if (device->ops.activate)
			device->ops.activate(device);
	}
}

int64_t pv_device_set_status(struct pv_device *device, uint64_t status, uint64_t *after)
{
	int64_t answer = PV_STATUS_OK;

	pthread_mutex_lock(&device->lock);
	uint32_t before = status_of(device);
	if (!status)
		reset(device);
	if (!status && device->leaving && !pv_device_gone(device))
		pv_device_retire(device); /* DEV-23 */
	if (status)
		answer = check_status(before, status);
	if (status && answer == PV_STATUS_OK)
		advance(device, (uint32_t)status & ~before);
	*after = status_of(device);
	pthread_mutex_unlock(&device->lock);
	return answer;
}

static int64_t check_binding(const struct pv_device *device, uint64_t vcpu, uint64_t channel)
{
	if (vcpu >= device->machine->vcpu_count || (channel >= PV_LIMIT_CHANNELS && channel != PV_NO_CHANNEL))
		return PV_STATUS_NOT_FOUND;
	return PV_STATUS_OK;
}

/* DEV-5 */
static bool may_enable(const struct pv_device *device, const struct pv_queue *queue)
{
	uint32_t status = status_of(device);

	if (!(status & FEATURES_OK) || status & (NEEDS_RESET | FAILED) || queue->state->enabled)
		return false;
	return !(status & DRIVER_OK) || (agreed(device, PV_VIRTIO_F_RING_RESET) && device->ops.queue_changed);
}

static int64_t setup_locked(struct pv_device *device, const struct pv_queue_setup *setup)
{
	static const uint8_t zero[sizeof(setup->reserved0)];
	struct pv_queue *queue = queue_of(device, setup->queue);

	if (!queue || check_binding(device, setup->vcpu, setup->channel) != PV_STATUS_OK)
		return PV_STATUS_NOT_FOUND;
	if (memcmp(setup->reserved0, zero, sizeof(zero)) != 0)
		return PV_STATUS_INVALID;
	struct pv_queue_state wanted = {
		.size = setup->size,
		.vcpu = setup->vcpu,
		.channel = setup->channel,
		.descriptors_gpa = setup->descriptors_gpa,
		.driver_gpa = setup->driver_gpa,
		.device_gpa = setup->device_gpa,
	};
	int64_t answer = pv_queue_check(queue, &wanted);
	if (answer != PV_STATUS_OK)
		return answer;
	if (!may_enable(device, queue)) /* last, as CALL-6 orders */
		return PV_STATUS_BAD_STATE;
	*queue->state = wanted;
	answer = pv_queue_enable(queue);
	if (device->active)
		device->ops.queue_changed(device, setup->queue, true);
	return answer;
}

int64_t pv_device_queue_setup(struct pv_device *device, const struct pv_queue_setup *setup)
{
	pthread_mutex_lock(&device->lock);
	int64_t answer = setup_locked(device, setup);
	pthread_mutex_unlock(&device->lock);
	return answer;
}

int64_t pv_device_queue_reset(struct pv_device *device, uint64_t index)
{
	struct pv_queue *queue = queue_of(device, index);

	if (!queue)
		return PV_STATUS_NOT_FOUND;
	pthread_mutex_lock(&device->lock);
	bool allowed = queue->state->enabled && agreed(device, PV_VIRTIO_F_RING_RESET) &&
		       (!device->active || device->ops.queue_changed);
	if (allowed && device->active)
		device->ops.queue_changed(device, (uint32_t)index, false); /* does not touch the queue afterwards */
	if (allowed)
		forget_queue(queue);
	pthread_mutex_unlock(&device->lock);
	return allowed ? PV_STATUS_OK : PV_STATUS_BAD_STATE;
}

int64_t pv_device_bind(struct pv_device *device, uint64_t index, uint64_t vcpu, uint64_t channel)
{
	struct pv_queue *queue = queue_of(device, index);

	if ((!queue && index != PV_BINDING_CONFIG) || check_binding(device, vcpu, channel) != PV_STATUS_OK)
		return PV_STATUS_NOT_FOUND;
	uint32_t *to_vcpu = queue ? &queue->state->vcpu : &device->state.config_vcpu;
	uint32_t *to_channel = queue ? &queue->state->channel : &device->state.config_channel;
	/*
	 * An interrupt on its way may pair the old vCPU with the new channel; both exist.  It is lost for
	 * the new binding only if its buffers were used before, where the driver looks next.
	 */
	pthread_mutex_lock(&device->lock);
	__atomic_store_n(to_vcpu, (uint32_t)vcpu, __ATOMIC_SEQ_CST);
	__atomic_store_n(to_channel, (uint32_t)channel, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&device->lock);
	return PV_STATUS_OK;
}

/* DEV-6; the result of the subtraction is used only if it did not wrap. */
static bool inside(uint64_t offset, uint64_t size_bytes, uint64_t end)
{
	return offset <= end && size_bytes <= end - offset;
}

int64_t pv_device_config_read(struct pv_device *device, uint64_t offset, void *to, uint64_t size_bytes)
{
	pthread_mutex_lock(&device->lock);
	bool good = inside(offset, size_bytes, device->config_bytes);
	if (good)
		memcpy(to, device->config + offset, size_bytes);
	pthread_mutex_unlock(&device->lock);
	return good ? PV_STATUS_OK : PV_STATUS_INVALID;
}

/* Of bytes that lie inside the configuration space. */
static bool writable(const struct pv_device *device, uint64_t offset, uint64_t size_bytes)
{
	uint64_t end = device->config_writable_from + device->config_writable_bytes;

	return (!size_bytes || offset >= device->config_writable_from) &&
	       (!device->config_writable_bytes || offset + size_bytes <= end);
}

int64_t pv_device_config_write(struct pv_device *device, uint64_t offset, const void *from, uint64_t size_bytes)
{
	pthread_mutex_lock(&device->lock);
	bool good = inside(offset, size_bytes, device->config_bytes) && writable(device, offset, size_bytes);
	if (good && size_bytes) {
		memcpy(device->config + offset, from, size_bytes);
		if (device->ops.config_written)
			device->ops.config_written(device, (uint32_t)offset, (uint32_t)size_bytes);
	}
	pthread_mutex_unlock(&device->lock);
	return good ? PV_STATUS_OK : PV_STATUS_INVALID;
}
