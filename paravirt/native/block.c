// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk: made, asked and ended.  Its threads are backend.c's, their work is block_serve.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block_serve.h"

/* Not touched before it is used: a disk costs the memory of as many requests as were under way at once. */
static int add_queue(struct pv_block *block, uint32_t index)
{
	struct pv_block_queue *queue = &block->queues[index];

	queue->block = block;
	queue->index = index;
	queue->requests = calloc(PV_MAX_QUEUE_SIZE, sizeof(*queue->requests));
	return queue->requests ? pv_backend_add(&block->backend, queue, &index, 1) : ENOMEM;
}

struct pv_block *pv_block_create(struct pv_device *device, const struct pv_block_options *options, char *error,
				 size_t error_bytes)
{
	struct pv_block *block = calloc(1, sizeof(*block));
	int failure = block ? 0 : ENOMEM;

	if (block) {
		block->device = device;
		block->options = *options;
		pv_backend_init(&block->backend, device, &pv_block_ops, "disk", options->poll_ns);
		for (uint32_t i = 0; i < device->queue_count && !failure; i++)
			failure = add_queue(block, i);
	}
	if (!failure)
		return block;
	snprintf(error, error_bytes, "cannot start its I/O: %s", strerror(failure));
	pv_block_destroy(block);
	return NULL;
}

void pv_block_destroy(struct pv_block *block)
{
	if (!block)
		return;
	pv_backend_deinit(&block->backend);
	for (uint32_t i = 0; i < PV_MAX_QUEUES; i++)
		free(block->queues[i].requests);
	free(block);
}

uint32_t pv_block_engine(const struct pv_block *block)
{
	return pv_aio_engine(block->queues[0].aio);
}

void pv_block_get_statistics(const struct pv_block *block, struct pv_block_statistics *statistics)
{
	struct pv_backend_statistics threads;
	uint64_t *to = (uint64_t *)statistics;

	*statistics = (struct pv_block_statistics){ .requests = 0 };
	for (uint32_t n = 0; n < block->backend.thread_count; n++) {
		const uint64_t *from = (const uint64_t *)&block->queues[n].statistics;

		for (size_t i = 0; i < sizeof(*statistics) / sizeof(*to); i++)
			to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	}
	pv_backend_get_statistics(&block->backend, &threads);
	statistics->polls = threads.polls;
	statistics->poll_ns = threads.poll_ns;
	statistics->sleeps = threads.sleeps;
}
