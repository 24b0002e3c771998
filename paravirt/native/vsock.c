// SPDX-License-Identifier: BSD-2-Clause
/*
 * A vsock: its life, and the turns of its thread.  What happens in a turn is left to the files that
 * vsock_state.h names.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vsock_state.h"

#define BATCH GATHERED_MOST /* packets of the guest's in a turn */

static bool enabled(const struct pv_backend_thread *thread, uint32_t queue)
{
	return thread->enabled & (1u << queue);
}

/* Takes packets of the guest's while each could be answered, up to a batch; how many. */
static uint32_t transmit_turn(struct pv_vsock *vsock)
{
	struct pv_queue *queue = &vsock->device->queues[PV_VSOCK_QUEUE_TRANSMIT];
	uint32_t taken = 0;

	while (taken < BATCH && packet_can_handle(vsock) &&
	       pv_device_pop(vsock->device, PV_VSOCK_QUEUE_TRANSMIT, &vsock->chain) == 1) {
		bool stays = false;
		const char *rule = packet_handle(vsock, &stays);

		taken++;
		if (rule) {
			gather_end(vsock);
			pv_device_fault(vsock->device, rule);
			return taken;
		}
		if (!stays)
			pv_queue_push(queue, vsock->chain.head, 0);
	}
	gather_end(vsock);
	if (taken && pv_queue_wants_interrupt(queue)) {
		add(&vsock->statistics.interrupts, 1);
		pv_device_interrupt(vsock->device, PV_VSOCK_QUEUE_TRANSMIT);
	}
	return taken;
}

/* Tells of the transport's reset; false: there is no room. */
static bool event_turn(struct pv_vsock *vsock)
{
	const struct pv_vsock_event event = { .id = PV_VSOCK_EVENT_ID_TRANSPORT_RESET };
	struct pv_queue *queue = &vsock->device->queues[PV_VSOCK_QUEUE_EVENT];

	if (pv_device_pop(vsock->device, PV_VSOCK_QUEUE_EVENT, &vsock->event) != 1)
		return false;
	vsock->event_due = false;
	if (pv_chain_write(&vsock->event, 0, &event, sizeof(event)) != sizeof(event)) {
		pv_device_fault(vsock->device, "VSK-2");
		return true;
	}
	pv_queue_push(queue, vsock->event.head, sizeof(event));
	if (pv_queue_wants_interrupt(queue))
		pv_device_interrupt(vsock->device, PV_VSOCK_QUEUE_EVENT);
	return true;
}

static bool turn(struct pv_backend_thread *thread)
{
	struct pv_vsock *vsock = thread->opaque;
	bool done = false;

	if (__atomic_exchange_n(&vsock->reset_wanted, 0, __ATOMIC_SEQ_CST)) {
		connections_drop(vsock);
		vsock->event_due = true;
		done = true;
	}
	if (enabled(thread, PV_VSOCK_QUEUE_TRANSMIT))
		done |= transmit_turn(vsock) > 0;
	done |= host_look(vsock);
	if (enabled(thread, PV_VSOCK_QUEUE_RECEIVE))
		done |= receive_turn(vsock);
	if (vsock->event_due && enabled(thread, PV_VSOCK_QUEUE_EVENT))
		done |= event_turn(vsock);
	/* Room that nobody needs may wait in its queues. */
	if (!packet_can_handle(vsock))
		thread->unwatched |= 1u << PV_VSOCK_QUEUE_TRANSMIT;
	if (!receive_waits(vsock) || vsock->has_room)
		thread->unwatched |= 1u << PV_VSOCK_QUEUE_RECEIVE;
	if (!vsock->event_due)
		thread->unwatched |= 1u << PV_VSOCK_QUEUE_EVENT;
	return done;
}

/* The driver takes the device back: programs of the host's see their connections end. */
static void drain(struct pv_backend_thread *thread)
{
	struct pv_vsock *vsock = thread->opaque;

	connections_drop(vsock);
	vsock->has_room = false;
	vsock->event_due = false;
}

static const struct pv_backend_ops OPS = { .turn = turn, .drain = drain };

static void release(struct pv_vsock *vsock)
{
	host_deinit(vsock);
	if (vsock->buffers)
		munmap(vsock->buffers, (size_t)PV_VSOCK_CONNECTIONS * PV_VSOCK_BUFFER_BYTES);
	free(vsock);
}

/* Address space for all buffers; memory is taken by those in use. */
static int map_buffers(struct pv_vsock *vsock)
{
	size_t size = (size_t)PV_VSOCK_CONNECTIONS * PV_VSOCK_BUFFER_BYTES;
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return errno;
	vsock->buffers = at;
	return 0;
}

static int start(struct pv_vsock *vsock)
{
	static const uint32_t queues[] = { PV_VSOCK_QUEUE_RECEIVE, PV_VSOCK_QUEUE_TRANSMIT, PV_VSOCK_QUEUE_EVENT };
	int error = map_buffers(vsock);

	if (!error)
		error = host_init(vsock);
	if (error)
		return error;
	const struct pollfd sockets = { .fd = vsock->epoll_fd, .events = POLLIN };
	pv_backend_init(&vsock->backend, vsock->device, &OPS, "sock", vsock->options.poll_ns);
	error = pv_backend_add_watching(&vsock->backend, vsock, queues, 3, &sockets, 1);
	if (error)
		pv_backend_deinit(&vsock->backend);
	return error;
}

struct pv_vsock *pv_vsock_create(struct pv_device *device, const struct pv_vsock_options *options, char *error,
				 size_t error_bytes)
{
	struct pv_vsock *vsock = calloc(1, sizeof(*vsock));
	int failure = ENOMEM;

	if (!vsock)
		goto failed;
	vsock->device = device;
	vsock->options = *options;
	vsock->options.path[PV_VSOCK_PATH_BYTES - 1] = '\0';
	vsock->epoll_fd = vsock->timer_fd = -1;
	connections_init(vsock);
	failure = start(vsock);
	if (!failure)
		return vsock;
	release(vsock);
failed:
	snprintf(error, error_bytes, "cannot start its thread: %s", strerror(failure));
	return NULL;
}

void pv_vsock_destroy(struct pv_vsock *vsock)
{
	if (!vsock)
		return;
	pv_backend_deinit(&vsock->backend);
	release(vsock);
}

void pv_vsock_reset_transport(struct pv_vsock *vsock)
{
	__atomic_store_n(&vsock->reset_wanted, 1, __ATOMIC_SEQ_CST);
	pv_backend_wake(vsock->backend.threads[0]);
}

void pv_vsock_get_statistics(const struct pv_vsock *vsock, struct pv_vsock_statistics *statistics)
{
	struct pv_backend_statistics thread;

	memset(statistics, 0, sizeof(*statistics));
	pv_backend_sum(statistics, &vsock->statistics, sizeof(*statistics));
	pv_backend_get_statistics(&vsock->backend, &thread);
	statistics->polls = thread.polls;
	statistics->poll_ns = thread.poll_ns;
	statistics->sleeps = thread.sleeps;
}
