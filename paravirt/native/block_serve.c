// SPDX-License-Identifier: BSD-2-Clause
/*
 * The way of a disk's requests from a queue to the engine and back.  What a request means is left to
 * block_request.c, how files are read and written to aio.c, when the thread looks and sleeps to backend.c.
 */
#include "block_serve.h"
#include "block_merge.h"
#include "way.h"

#include <errno.h>

/* Most requests handed over before their completions are looked for, so that the driver is not kept waiting. */
#define BATCH 16u

/*
 * How many the next turn takes at most.  A drive does not begin before what it is given is complete: after a turn that
 * found nothing, so that it may have nothing left to do, it gets one request, then twice as many with each full batch.
 */
static void learn_batch(struct pv_block_queue *queue, uint32_t taken, uint32_t done)
{
	bool direct = queue->block->options.unaligned_fd >= 0;

	if (!done)
		queue->batch = direct ? 1 : BATCH;
	else if (taken == queue->batch && queue->batch < BATCH)
		queue->batch *= 2;
}

static struct pv_queue *ring_of(const struct pv_block_queue *queue)
{
	return &queue->block->device->queues[queue->index];
}

/* NULL if all are under way. */
static struct pv_block_request *get_request(struct pv_block_queue *queue)
{
	struct pv_block_request *request = queue->free;

	if (request)
		queue->free = request->next;
	else if (queue->used < PV_MAX_QUEUE_SIZE)
		request = &queue->requests[queue->used++];
	queue->busy += request != NULL;
	return request;
}

static void put_request(struct pv_block_queue *queue, struct pv_block_request *request)
{
	queue->busy--;
	request->next = queue->free;
	queue->free = request;
}

static void complete(struct pv_block_queue *queue, struct pv_block_request *request,
		     const struct pv_block_outcome *outcome)
{
	struct pv_block_statistics *statistics = &queue->statistics;

	*request->status = outcome->status;
	pv_way_answer(ring_of(queue), request->chain.head, outcome->status);
	pv_queue_push(ring_of(queue), request->chain.head, outcome->written_bytes);
	pv_backend_count(&statistics->requests, 1);
	if (outcome->status != PV_BLOCK_STATUS_OK)
		pv_backend_count(&statistics->errors, 1);
	else if (request->type == PV_BLOCK_REQUEST_READ)
		pv_backend_count(&statistics->read_bytes, request->data_bytes);
	else if (request->type == PV_BLOCK_REQUEST_WRITE)
		pv_backend_count(&statistics->written_bytes, request->data_bytes);
	put_request(queue, request);
}

static void start(struct pv_block_queue *queue, struct pv_block_request *request)
{
	for (const struct pv_block_request *one = request; one; one = one->merged)
		pv_way_submitted(ring_of(queue), one->chain.head);
	pv_aio_start(queue->aio, &request->io);
	queue->in_flight++;
}

/* Starts what was left to be continued. */
static void start_staged(struct pv_block_queue *queue)
{
	if (queue->staged)
		start(queue, queue->staged);
	queue->staged = NULL;
}

/* Starts it with the next one, or with the one before. */
static void stage(struct pv_block_queue *queue, struct pv_block_request *request)
{
	if (queue->staged && pv_block_merge(queue->staged, request)) {
		pv_backend_count(&queue->statistics.merges, 1);
		return;
	}
	start_staged(queue);
	queue->staged = request;
}

/* Whether this is the one that is to fail. */
static bool is_nth(uint64_t *left)
{
	return __atomic_load_n(left, __ATOMIC_RELAXED) && __atomic_fetch_sub(left, 1, __ATOMIC_RELAXED) == 1;
}

static bool is_to_fail(struct pv_block *block, const struct pv_block_request *request)
{
	struct pv_block_failures *failures = &block->options.failures;

	switch (request->type) {
	case PV_BLOCK_REQUEST_READ:
		return is_nth(&failures->read);
	case PV_BLOCK_REQUEST_WRITE:
		return is_nth(&failures->write);
	case PV_BLOCK_REQUEST_FLUSH:
		return is_nth(&failures->flush);
	default:
		return false;
	}
}

/* The answer of a file that could not do it. */
static void fail(struct pv_block_queue *queue, struct pv_block_request *request)
{
	struct pv_block_outcome outcome;

	request->io.error = EIO;
	pv_block_request_continue(request, &queue->block->options, &outcome);
	complete(queue, request, &outcome);
}

/* Whether a read was carried out at once. */
static bool from_cache(struct pv_block_queue *queue, struct pv_block_request *request, struct pv_block_outcome *outcome)
{
	struct pv_block *block = queue->block;

	if (!block->cached || request->type != PV_BLOCK_REQUEST_READ)
		return false;
	pv_way_submitted(ring_of(queue), request->chain.head);
	if (!pv_block_cached_read(block->cached, &request->io))
		return false;
	pv_way_completed(ring_of(queue), request->chain.head);
	pv_backend_count(&queue->statistics.cached, 1);
	request->io.error = 0;
	return pv_block_request_continue(request, &block->options, outcome) == PV_BLOCK_DONE;
}

/* Carries a chain out as far as it goes without waiting; true if I/O was started. */
static bool begin(struct pv_block_queue *queue, struct pv_block_request *request)
{
	struct pv_block *block = queue->block;
	struct pv_device *device = block->device;
	bool durable = !pv_block_writeback(block);
	struct pv_block_outcome outcome;
	int result = pv_block_request_begin(request, &block->options, ring_of(queue)->features, durable, &outcome);

	if (result != PV_BLOCK_FAULT)
		pv_way_describe(ring_of(queue), request->chain.head, request->type, request->sector,
				request->data_bytes);
	switch (result) {
	case PV_BLOCK_START:
		if (is_to_fail(block, request)) {
			fail(queue, request);
		} else if (from_cache(queue, request, &outcome)) {
			complete(queue, request, &outcome);
		} else {
			stage(queue, request);
			return true;
		}
		return false;
	case PV_BLOCK_DONE:
		complete(queue, request, &outcome);
		return false;
	default:
		put_request(queue, request);
		pv_device_fault(device, "BLK-3");
		return false;
	}
}

/* Whether the limit lets a request go; else the thread sleeps until it does, whoever rings. */
static bool may_go(struct pv_block_queue *queue, struct pv_backend_thread *thread)
{
	uint64_t due_ns;

	if (!queue->block->limited)
		return true;
	due_ns = pv_limit_due(&queue->block->limit, pv_clock_ns());
	if (!due_ns)
		return true;
	thread->due_ns = due_ns;
	thread->unwatched = 1;
	return false;
}

/* Takes chains that wait, up to a batch; how many. A fault stops the queue, not what is in flight. */
static uint32_t take(struct pv_block_queue *queue, struct pv_backend_thread *thread)
{
	uint32_t taken = 0, started = 0;

	while (taken < queue->batch && may_go(queue, thread)) {
		struct pv_block_request *request = get_request(queue);

		if (!request)
			break;
		if (pv_device_pop(queue->block->device, queue->index, &request->chain) != 1) {
			put_request(queue, request);
			break;
		}
		taken++;
		started += begin(queue, request);
		/* The request may be answered, but its memory is ours and its size is still there. */
		if (queue->block->limited)
			pv_limit_charge(&queue->block->limit, pv_clock_ns(), request->data_bytes);
	}
	start_staged(queue);
	if (started)
		pv_backend_count(&queue->statistics.batches, 1);
	return taken;
}

/* Completes what the engine carried out. */
static void complete_io(struct pv_block_queue *queue, struct pv_block_request *request,
			const struct pv_block_outcome *outcome)
{
	bool transfer = request->type == PV_BLOCK_REQUEST_READ || request->type == PV_BLOCK_REQUEST_WRITE;

	if (queue->block->cached && transfer && outcome->status == PV_BLOCK_STATUS_OK)
		pv_block_cached_passed(queue->block->cached, request->sector * PV_BLOCK_SECTOR_BYTES,
				       request->data_bytes);
	complete(queue, request, outcome);
}

/* Completes one and what went with it. */
static void complete_all(struct pv_block_queue *queue, struct pv_block_request *request)
{
	uint64_t done_bytes = request->merged_bytes - request->io.size_bytes;
	struct pv_block_outcome outcome;

	while (request) {
		struct pv_block_request *next = request->merged;

		pv_way_completed(ring_of(queue), request->chain.head);
		pv_block_merged_outcome(request, &done_bytes, &outcome);
		complete_io(queue, request, &outcome);
		request = next;
	}
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

		pv_way_completed(ring_of(queue), request->chain.head);
		if (request->merged)
			complete_all(queue, request);
		else if (pv_block_request_continue(request, &queue->block->options, &outcome) == PV_BLOCK_START)
			start(queue, request);
		else
			complete_io(queue, request, &outcome);
	}
	return number;
}

static void tell(struct pv_block_queue *queue)
{
	if (pv_queue_wants_interrupt(ring_of(queue))) {
		pv_backend_count(&queue->statistics.interrupts, 1);
		pv_device_interrupt(queue->block->device, queue->index);
	}
}

static bool turn(struct pv_backend_thread *thread)
{
	struct pv_block_queue *queue = thread->opaque;
	uint32_t taken = take(queue, thread), done;

	pv_aio_submit(queue->aio);
	done = taken + collect(queue);
	learn_batch(queue, taken, done);
	if (done)
		tell(queue);
	/* Nothing can be taken, wait for completions alone: a driver that offers a chain twice comes this far. */
	if (queue->busy == PV_MAX_QUEUE_SIZE)
		thread->unwatched = 1;
	if (thread->due_ns && !done)
		pv_backend_count(&queue->statistics.throttles, 1);
	return done > 0;
}

/* Memory whose pages may be given back is not held: the guest would get others in their place than the file does. */
static void hold_memory(struct pv_aio *aio, const struct pv_memory *memory)
{
	const uint32_t count = pv_memory_regions(memory);
	struct iovec areas[PV_MAX_REGIONS];

	for (uint32_t i = 0; i < count; i++)
		areas[i] = (struct iovec){ memory->regions[i].hva, memory->regions[i].size_bytes };
	if (memory->kept)
		pv_aio_memory(aio, areas, count);
}

static int open_engine(struct pv_backend_thread *thread)
{
	struct pv_block_queue *queue = thread->opaque;

	const struct pv_block_options *options = &queue->block->options;
	const int fds[PV_AIO_FILES] = { options->fd, options->unaligned_fd };

	queue->aio = pv_aio_create(options->engine, PV_MAX_QUEUE_SIZE);
	if (!queue->aio)
		return errno;
	hold_memory(queue->aio, &thread->device->machine->memory);
	pv_aio_files(queue->aio, fds, options->unaligned_fd < 0 ? 1 : 2);
	learn_batch(queue, 0, 0);
	return 0;
}

static void close_engine(struct pv_backend_thread *thread)
{
	struct pv_block_queue *queue = thread->opaque;

	pv_aio_destroy(queue->aio);
}

static void wait_for_io(struct pv_backend_thread *thread, int wake_fd, int64_t timeout_ns)
{
	struct pv_block_queue *queue = thread->opaque;
	const int wakes[PV_AIO_WAKES] = { wake_fd, ring_of(queue)->kick_fd };

	pv_aio_wait(queue->aio, wakes, timeout_ns);
}

static void drain(struct pv_backend_thread *thread)
{
	struct pv_block_queue *queue = thread->opaque;

	pv_aio_cancel(queue->aio, true);
	/* Looks before it waits: the wait before this one may have been woken by completions. */
	while (queue->in_flight > 0) {
		if (collect(queue) == 0)
			wait_for_io(thread, ring_of(queue)->doorbell_fd, -1);
	}
	pv_aio_cancel(queue->aio, false);
	pv_aio_unwatch(queue->aio);
}

const struct pv_backend_ops pv_block_ops = {
	.open = open_engine,
	.close = close_engine,
	.turn = turn,
	.drain = drain,
	.wait = wait_for_io,
};
