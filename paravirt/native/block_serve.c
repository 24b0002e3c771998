// SPDX-License-Identifier: BSD-2-Clause
/*
 * The way of a disk's requests from the queue to the engine and back, and when its thread looks,
 * batches and sleeps.  What a request means is left to block_request.c, how files are read and written
 * to aio.c, the thread itself to block.c.
 */
#include "block_serve.h"

/* Most requests handed over before their completions are looked for, so that the driver is not kept waiting. */
#define BATCH 16u
/* The least time to look is that part of the most; a sleep is short up to that multiple, for it has the wake-up in it. */
#define LEAST_POLL 16u
#define SHORT_SLEEP 8u

/* One writer, many readers: no torn values, no locked instructions. */
static void count(uint64_t *counter, uint64_t more)
{
	__atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

static uint32_t wanted(const struct pv_block *block)
{
	return __atomic_load_n(&block->wanted, __ATOMIC_ACQUIRE);
}

static void trace(const struct pv_block *block, const struct pv_block_request *request,
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

	pv_trace_put(block->options.trace, &event);
}

/* NULL if all are under way. */
static struct pv_block_request *get_request(struct pv_block *block)
{
	struct pv_block_request *request = block->free;

	if (request)
		block->free = request->next;
	else if (block->used < PV_MAX_QUEUE_SIZE)
		request = &block->requests[block->used++];
	return request;
}

static void put_request(struct pv_block *block, struct pv_block_request *request)
{
	request->next = block->free;
	block->free = request;
}

static void complete(struct pv_block *block, struct pv_block_request *request, const struct pv_block_outcome *outcome)
{
	struct pv_block_statistics *statistics = &block->statistics;

	*request->status = outcome->status;
	pv_queue_push(&block->device->queues[0], request->chain.head, outcome->written_bytes);
	count(&statistics->requests, 1);
	if (outcome->status != PV_BLOCK_STATUS_OK)
		count(&statistics->errors, 1);
	else if (request->type == PV_BLOCK_REQUEST_READ)
		count(&statistics->read_bytes, request->data_bytes);
	else if (request->type == PV_BLOCK_REQUEST_WRITE)
		count(&statistics->written_bytes, request->data_bytes);
	if (block->options.trace)
		trace(block, request, outcome);
	put_request(block, request);
}

static void start(struct pv_block *block, struct pv_block_request *request)
{
	pv_aio_start(block->aio, &request->io);
	block->in_flight++;
}

/* Takes chains that wait, up to a batch; how many. A fault stops the queue, not what is in flight. */
static uint32_t take(struct pv_block *block)
{
	struct pv_device *device = block->device;
	struct pv_block_outcome outcome;
	uint32_t taken = 0, started = 0;

	while (taken < BATCH) {
		struct pv_block_request *request = get_request(block);

		if (!request)
			break;
		if (pv_device_pop(device, 0, &request->chain) != 1) {
			put_request(block, request);
			break;
		}
		taken++;
		request->begin_ns = block->options.trace ? pv_clock_ns() : 0;
		switch (pv_block_request_begin(request, &block->options, device->queues[0].features, &outcome)) {
		case PV_BLOCK_START:
			start(block, request);
			started++;
			break;
		case PV_BLOCK_DONE:
			complete(block, request, &outcome);
			break;
		default:
			put_request(block, request);
			pv_device_fault(device, "BLK-3");
		}
	}
	if (started)
		count(&block->statistics.batches, 1);
	return taken;
}

/* Completes what the engine finished; how many operations. */
static uint32_t collect(struct pv_block *block)
{
	struct pv_aio_request *finished[BATCH];
	uint32_t number = pv_aio_collect(block->aio, finished, BATCH);
	struct pv_block_outcome outcome;

	block->in_flight -= number;
	for (uint32_t i = 0; i < number; i++) {
		struct pv_block_request *request = (struct pv_block_request *)finished[i];

		if (pv_block_request_continue(request, &block->options, &outcome) == PV_BLOCK_START)
			start(block, request);
		else
			complete(block, request, &outcome);
	}
	return number;
}

static void tell(struct pv_block *block)
{
	if (pv_queue_wants_interrupt(&block->device->queues[0])) {
		count(&block->statistics.interrupts, 1);
		pv_device_interrupt(block->device, 0);
	}
}

/* One turn: everything that can be done without waiting; false if there was nothing. */
static bool turn(struct pv_block *block)
{
	uint32_t done = take(block);

	pv_aio_submit(block->aio);
	done += collect(block);
	if (done)
		tell(block);
	return done > 0;
}

/* Looks for work for as long as experience says it pays. */
static bool poll_work(struct pv_block *block)
{
	uint64_t begin = pv_clock_ns(), now = begin;
	bool found = false;

	while (!found && now - begin < block->poll_ns && wanted(block) == WANT_SERVE) {
		__builtin_ia32_pause();
		found = turn(block);
		now = pv_clock_ns();
	}
	count(&block->statistics.poll_ns, now - begin);
	if (found)
		count(&block->statistics.polls, 1);
	return found;
}

/*
 * A short sleep says that looking longer would have found the work, a long one that looking was in vain.
 * It is never given up altogether, or there would be no way back where every wake-up is slow.
 */
static void learn(struct pv_block *block, uint64_t slept_ns)
{
	uint64_t most = block->options.poll_ns, least = most / LEAST_POLL;
	uint64_t next = slept_ns < most * SHORT_SLEEP ? block->poll_ns * 2 : block->poll_ns / 2;

	block->poll_ns = next > most ? most : next < least ? least : next;
}

/* Nothing can be taken, wait for completions alone: a driver that offers a chain twice comes this far. */
static bool full(const struct pv_block *block)
{
	return block->in_flight == PV_MAX_QUEUE_SIZE;
}

static void sleep_until_work(struct pv_block *block)
{
	struct pv_queue *queue = &block->device->queues[0];
	uint64_t begin = pv_clock_ns();

	/*
	 * Both are looked at after the doorbell's count was last taken, so that whoever changes one of
	 * them from here on writes the doorbell into our wait.
	 */
	if ((full(block) || !pv_queue_arm(queue)) && wanted(block) == WANT_SERVE) {
		count(&block->statistics.sleeps, 1);
		pv_aio_wait(block->aio, block->doorbell_fd);
		learn(block, pv_clock_ns() - begin);
	}
	pv_queue_disarm(queue);
}

void pv_block_serve(struct pv_block *block)
{
	pv_queue_disarm(&block->device->queues[0]);
	while (wanted(block) == WANT_SERVE) {
		if (!turn(block) && !poll_work(block))
			sleep_until_work(block);
	}
	pv_aio_cancel(block->aio, true);
	/* Looks before it waits: the wait before this one may have been woken by completions. */
	while (block->in_flight > 0) {
		if (collect(block) == 0)
			pv_aio_wait(block->aio, block->doorbell_fd);
	}
	pv_aio_cancel(block->aio, false);
}
