// SPDX-License-Identifier: BSD-2-Clause
/*
 * The way of a disk's requests from a queue to the engine and back.  What a request means is left to
 * block_request.c, how files are read and written to aio.c, when the thread looks and sleeps to backend.c.
 */
#include "block_serve.h"

#include <errno.h>

/* Most requests handed over before their completions are looked for, so that the driver is not kept waiting. */
#define BATCH 16u

static void trace(struct pv_trace *track, const struct pv_block_request *request,
		  const struct pv_block_outcome *outcome)
{
	struct pv_trace_event event = {
		.begin_ns = request->begin_ns,
		.end_ns = pv_clock_ns(),
		.kind = PV_TRACE_REQUEST,
		.id = request->type,
		.status = outcome->status,
		.value = request->data_bytes,
		.args = { request->sector },
	};

	pv_trace_put(track, &event);
}

/* NULL if all are under way. */
static struct pv_block_request *get_request(struct pv_block_queue *queue)
{
	struct pv_block_request *request = queue->free;

	if (request)
		queue->free = request->next;
	else if (queue->used < PV_MAX_QUEUE_SIZE)
		request = &queue->requests[queue->used++];
	return request;
}

static void put_request(struct pv_block_queue *queue, struct pv_block_request *request)
{
	request->next = queue->free;
	queue->free = request;
}

static void complete(struct pv_block_queue *queue, struct pv_block_request *request,
		     const struct pv_block_outcome *outcome)
{
	struct pv_block_statistics *statistics = &queue->statistics;

	*request->status = outcome->status;
	pv_queue_push(&queue->block->device->queues[queue->index], request->chain.head, outcome->written_bytes);
	pv_backend_count(&statistics->requests, 1);
	if (outcome->status != PV_BLOCK_STATUS_OK)
		pv_backend_count(&statistics->errors, 1);
	else if (request->type == PV_BLOCK_REQUEST_READ)
		pv_backend_count(&statistics->read_bytes, request->data_bytes);
	else if (request->type == PV_BLOCK_REQUEST_WRITE)
		pv_backend_count(&statistics->written_bytes, request->data_bytes);
	if (queue->block->options.trace)
		trace(queue->block->options.trace, request, outcome);
	put_request(queue, request);
}

static void start(struct pv_block_queue *queue, struct pv_block_request *request)
{
	pv_aio_start(queue->aio, &request->io);
	queue->in_flight++;
}

/* Takes chains that wait, up to a batch; how many. A fault stops the queue, not what is in flight. */
static uint32_t take(struct pv_block_queue *queue)
{
	struct pv_device *device = queue->block->device;
	struct pv_block_outcome outcome;
	uint32_t taken = 0, started = 0;

	while (taken < BATCH) {
		struct pv_block_request *request = get_request(queue);

		if (!request)
			break;
		if (pv_device_pop(device, queue->index, &request->chain) != 1) {
			put_request(queue, request);
			break;
		}
		taken++;
		request->begin_ns = queue->block->options.trace ? pv_clock_ns() : 0;
		switch (pv_block_request_begin(request, &queue->block->options, device->queues[queue->index].features,
					       &outcome)) {
		case PV_BLOCK_START:
			start(queue, request);
			started++;
			break;
		case PV_BLOCK_DONE:
			complete(queue, request, &outcome);
			break;
		default:
			put_request(queue, request);
			pv_device_fault(device, "BLK-3");
		}
	}
	if (started)
		pv_backend_count(&queue->statistics.batches, 1);
	return taken;
}

/* Completes what the engine finished; how many operations. */
static uint32_t collect(struct pv_block_queue *queue)
{
	struct pv_aio_request *finished[BATCH];
	uint32_t number = pv_aio_collect(queue->aio, finished, BATCH);
	struct pv_block_outcome outcome;

	queue->in_flight -= number;
	for (uint32_t i = 0; i < number; i++) {
		struct pv_block_request *request = (struct pv_block_request *)finished[i];

		if (pv_block_request_continue(request, &queue->block->options, &outcome) == PV_BLOCK_START)
			start(queue, request);
		else
			complete(queue, request, &outcome);
	}
	return number;
}

static void tell(struct pv_block_queue *queue)
{
	if (pv_queue_wants_interrupt(&queue->block->device->queues[queue->index])) {
		pv_backend_count(&queue->statistics.interrupts, 1);
		pv_device_interrupt(queue->block->device, queue->index);
	}
}

static bool turn(struct pv_backend_thread *thread)
{
	struct pv_block_queue *queue = thread->opaque;
	uint32_t done = take(queue);

	pv_aio_submit(queue->aio);
	done += collect(queue);
	if (done)
		tell(queue);
	/* Nothing can be taken, wait for completions alone: a driver that offers a chain twice comes this far. */
	if (queue->in_flight == PV_MAX_QUEUE_SIZE)
		thread->unwatched = 1;
	return done > 0;
}

static int open_engine(struct pv_backend_thread *thread)
{
	struct pv_block_queue *queue = thread->opaque;

	queue->aio = pv_aio_create(queue->block->options.engine, PV_MAX_QUEUE_SIZE);
	return queue->aio ? 0 : errno;
}

static void close_engine(struct pv_backend_thread *thread)
{
	struct pv_block_queue *queue = thread->opaque;

	pv_aio_destroy(queue->aio);
}

static void drain(struct pv_backend_thread *thread)
{
	struct pv_block_queue *queue = thread->opaque;

	pv_aio_cancel(queue->aio, true);
	/* Looks before it waits: the wait before this one may have been woken by completions. */
	while (queue->in_flight > 0) {
		if (collect(queue) == 0)
			pv_aio_wait(queue->aio, thread->device->queues[queue->index].doorbell_fd, -1);
	}
	pv_aio_cancel(queue->aio, false);
}

static void wait_for_io(struct pv_backend_thread *thread, int wake_fd, int64_t timeout_ns)
{
	struct pv_block_queue *queue = thread->opaque;

	pv_aio_wait(queue->aio, wake_fd, timeout_ns);
}

const struct pv_backend_ops pv_block_ops = {
	.open = open_engine,
	.close = close_engine,
	.turn = turn,
	.drain = drain,
	.wait = wait_for_io,
};
