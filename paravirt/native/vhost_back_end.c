// SPDX-License-Identifier: BSD-2-Clause
/*
 * Queues of a device that are started and stopped by another hypervisor's front end.  The device is what it is to our
 * own machines: the same ops, called with its lock held, active while a queue is started.
 */
#define _GNU_SOURCE
#include "vhost_back_end.h"

#include <stdlib.h>

#include "device.h"
#include "eventfd.h"
#include "inflight.h"
#include "nudge.h"
#include "ring.h"

#define AGREED (ACKNOWLEDGE | DRIVER | FEATURES_OK)
#define INDEX_BITS 0x7fffu /* of a packed queue's position; the bit above is the wrap counter */

struct pv_vhost_back_end {
	struct pv_device *device;
	struct pv_inflight inflights[PV_MAX_QUEUES];
	uint32_t bases[PV_MAX_QUEUES]; /* of queues that were stopped */
};

struct pv_vhost_back_end *pv_vhost_back_end_create(struct pv_device *device)
{
	struct pv_vhost_back_end *back_end = calloc(1, sizeof(*back_end));

	pv_nudge_init();
	if (back_end)
		back_end->device = device;
	return back_end;
}

void pv_vhost_back_end_destroy(struct pv_vhost_back_end *back_end)
{
	free(back_end);
}

bool pv_vhost_back_end_signal(int fd)
{
	struct pv_nudges nudges;

	if (!pv_nudges_begin(&nudges))
		return false;
	pv_eventfd_signal(fd);
	pv_nudges_end(&nudges);
	return true;
}

uint64_t pv_vhost_back_end_take(int fd)
{
	return pv_eventfd_take(fd);
}

bool pv_vhost_back_end_interrupt(struct pv_device *device, uint32_t queue)
{
	struct pv_nudges nudges;

	if (!pv_nudges_begin(&nudges))
		return false;
	pv_device_interrupt(device, queue);
	pv_nudges_end(&nudges);
	return true;
}

uint64_t pv_vhost_back_end_inflight_bytes(bool packed, uint32_t size)
{
	return pv_inflight_bytes(packed, (uint16_t)size);
}

bool pv_vhost_back_end_agree(struct pv_vhost_back_end *back_end, uint64_t features)
{
	struct pv_device *device = back_end->device;
	uint64_t after;

	pv_device_set_status(device, 0, &after);
	return pv_device_accept(device, 0, features) == PV_STATUS_OK &&
	       pv_device_set_status(device, AGREED, &after) == PV_STATUS_OK && after == AGREED;
}

static bool is_packed(const struct pv_queue *queue)
{
	return pv_ring_has(queue, PV_VIRTIO_F_RING_PACKED);
}

/* From the protocol's 16 bits to ours (ring_packed.c). */
static uint16_t position_of(uint32_t told, uint32_t size)
{
	return (uint16_t)((told & INDEX_BITS & (size - 1)) | (told & ~INDEX_BITS & 0xffff ? 0 : size));
}

static uint32_t told_of(uint16_t position, uint32_t size)
{
	return (position & (size - 1)) | (position & size ? 0 : INDEX_BITS + 1);
}

/* Where a queue that is enabled goes on.  What a split one's device gave back stands in the ring. */
static void place(struct pv_queue *queue, uint32_t base)
{
	struct pv_queue_state *s = queue->state;

	if (is_packed(queue)) {
		s->next_avail = position_of(base, s->size);
		s->next_used = position_of(base >> 16, s->size);
	} else {
		s->next_avail = (uint16_t)base;
		s->next_used = ((const struct pv_virtq_used *)(const void *)queue->device_area)->index;
	}
	s->signalled = s->next_used;
}

static bool any_enabled(const struct pv_device *device)
{
	for (uint32_t i = 0; i < device->queue_count; i++) {
		if (device->queues[i].state->enabled)
			return true;
	}
	return false;
}

/* Has the back end see a queue that was enabled, or that is to stop. */
static void tell(struct pv_device *device, uint32_t queue, bool enabled)
{
	if (!device->active) {
		__atomic_fetch_or(&device->state.status, DRIVER_OK, __ATOMIC_SEQ_CST);
		device->active = 1;
		device->ops.activate(device);
	} else if (device->ops.queue_changed) {
		device->ops.queue_changed(device, queue, enabled);
	} else if (enabled) {
		device->ops.reset(device);
		device->ops.activate(device);
	} else {
		device->ops.reset(device);
	}
}

static void forget(struct pv_queue *queue)
{
	pv_queue_disable(queue);
	*queue->state = (struct pv_queue_state){ .channel = PV_NO_CHANNEL };
}

static int64_t start_locked(struct pv_vhost_back_end *back_end, uint32_t number, const struct pv_vhost_ring *ring)
{
	struct pv_device *device = back_end->device;
	struct pv_queue *queue = queue_of(device, number);

	if (!queue)
		return PV_STATUS_NOT_FOUND;
	if (!(status_of(device) & FEATURES_OK) || queue->state->enabled)
		return PV_STATUS_BAD_STATE;
	*queue->state = (struct pv_queue_state){
		.size = ring->size <= PV_MAX_QUEUE_SIZE ? (uint16_t)ring->size : 0, /* 0: refused */
		.channel = PV_NO_CHANNEL,
		.descriptors_gpa = ring->descriptors_gpa,
		.driver_gpa = ring->driver_gpa,
		.device_gpa = ring->device_gpa,
	};
	int64_t answer = pv_queue_enable(queue);
	if (answer == PV_STATUS_OK) {
		place(queue, ring->base);
		if (ring->inflight &&
		    !pv_inflight_begin(&back_end->inflights[number], queue, ring->inflight, ring->inflight_bytes))
			answer = PV_STATUS_BAD_STATE;
	}
	if (answer == PV_STATUS_OK)
		tell(device, number, true);
	else
		forget(queue);
	return answer;
}

int64_t pv_vhost_back_end_start(struct pv_vhost_back_end *back_end, uint32_t queue, const struct pv_vhost_ring *ring)
{
	pthread_mutex_lock(&back_end->device->lock);
	int64_t answer = start_locked(back_end, queue, ring);
	pthread_mutex_unlock(&back_end->device->lock);
	return answer;
}

/* The last queue was stopped: what the driver did wrong is forgotten with it. */
static void end_if_idle(struct pv_device *device)
{
	if (any_enabled(device))
		return;
	device->active = 0;
	__atomic_store_n(&device->fault, NULL, __ATOMIC_SEQ_CST);
	__atomic_fetch_and(&device->state.status, ~(DRIVER_OK | NEEDS_RESET), __ATOMIC_SEQ_CST);
}

/*
 * What was taken and not given back was taken last, since devices give back in order or have nothing left when they
 * stop.  So a queue goes on from what it gave back.
 */
static uint32_t base_of(const struct pv_queue *queue)
{
	const struct pv_queue_state *s = queue->state;

	if (!is_packed(queue))
		return s->next_used;
	return told_of(s->next_used, s->size) << 16 | told_of(s->next_used, s->size);
}

static int64_t stop_locked(struct pv_vhost_back_end *back_end, uint32_t number)
{
	struct pv_device *device = back_end->device;
	struct pv_queue *queue = queue_of(device, number);

	if (!queue)
		return PV_STATUS_NOT_FOUND;
	if (!queue->state->enabled)
		return PV_STATUS_BAD_STATE;
	tell(device, number, false);
	back_end->bases[number] = base_of(queue);
	forget(queue);
	if (!any_enabled(device))
		device->ops.reset(device);
	else if (!device->ops.queue_changed)
		device->ops.activate(device);
	end_if_idle(device);
	return PV_STATUS_OK;
}

uint32_t pv_vhost_back_end_base(const struct pv_vhost_back_end *back_end, uint32_t queue)
{
	return back_end->bases[queue];
}

int64_t pv_vhost_back_end_stop(struct pv_vhost_back_end *back_end, uint32_t queue)
{
	pthread_mutex_lock(&back_end->device->lock);
	int64_t answer = stop_locked(back_end, queue);
	pthread_mutex_unlock(&back_end->device->lock);
	return answer;
}

void pv_vhost_back_end_pause(struct pv_vhost_back_end *back_end)
{
	struct pv_device *device = back_end->device;

	pthread_mutex_lock(&device->lock);
	if (device->active)
		device->ops.reset(device);
	pthread_mutex_unlock(&device->lock);
}

/* The same queue where its memory is now. */
static bool enable_again(struct pv_queue *queue)
{
	struct pv_inflight *inflight = queue->inflight;
	struct pv_queue_state *s = queue->state;
	const char *fault = queue->fault;

	/* What a predecessor had and was not taken yet lies before what the driver made available since. */
	if (!inflight || !pv_inflight_is_again(inflight))
		s->next_avail = s->next_used;
	if (pv_queue_enable(queue) != PV_STATUS_OK) {
		forget(queue);
		return false;
	}
	queue->fault = fault;
	queue->inflight = inflight;
	return true;
}

bool pv_vhost_back_end_resume(struct pv_vhost_back_end *back_end)
{
	struct pv_device *device = back_end->device;
	bool all = true;

	pthread_mutex_lock(&device->lock);
	for (uint32_t i = 0; device->active && i < device->queue_count; i++) {
		if (!device->queues[i].state->enabled)
			continue;
		back_end->bases[i] = base_of(&device->queues[i]);
		all &= enable_again(&device->queues[i]);
	}
	if (device->active && any_enabled(device))
		device->ops.activate(device);
	else
		end_if_idle(device);
	pthread_mutex_unlock(&device->lock);
	return all;
}
