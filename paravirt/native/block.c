// SPDX-License-Identifier: BSD-2-Clause
/*
 * A disk: made, asked and ended.  Its threads are backend.c's, their work is block_serve.c's.
 */
#include <errno.h>
#include <stddef.h>
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

static uint8_t *writeback_field(struct pv_device *device)
{
	return &device->config[offsetof(struct pv_block_config, writeback)];
}

static void set_writeback(struct pv_block *block, bool writeback)
{
	__atomic_store_n(&block->writeback, writeback, __ATOMIC_SEQ_CST);
}

/* A driver that will not send FLUSH takes every write for durable (BLK-9), whatever it may write later. */
static void agreed(struct pv_device *device)
{
	struct pv_block *block = device->opaque;
	bool flush = device->state.accepted[0] & PV_BLOCK_F_FLUSH;

	*writeback_field(device) = flush && !block->options.writethrough;
	set_writeback(block, *writeback_field(device));
}

static void config_written(struct pv_device *device, uint32_t offset, uint32_t size_bytes)
{
	const uint64_t needed = PV_BLOCK_F_FLUSH | PV_BLOCK_F_CONFIG_WCE;
	uint8_t *field = writeback_field(device);

	(void)offset; /* one byte may be written, and that only where it was agreed on */
	(void)size_bytes;
	if ((device->state.accepted[0] & needed) != needed) {
		agreed(device);
		return;
	}
	*field = *field != 0;
	set_writeback(device->opaque, *field);
}

struct pv_block *pv_block_create(struct pv_device *device, const struct pv_block_options *options, char *error,
				 size_t error_bytes)
{
	struct pv_block *block = calloc(1, sizeof(*block));
	int failure = block ? 0 : ENOMEM;

	if (block) {
		block->device = device;
		block->options = *options;
		block->limited = options->limit.operations_per_second || options->limit.bytes_per_second;
		pv_limit_init(&block->limit, &options->limit);
		if (options->engine == PV_AIO_AUTO && options->unaligned_fd < 0)
			block->cached =
				pv_block_cached_create(options->fd, options->capacity_sectors * PV_BLOCK_SECTOR_BYTES);
		pv_backend_init(&block->backend, device, &pv_block_ops, "disk", options->poll_ns);
		device->ops.agreed = agreed;
		device->ops.config_written = config_written;
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
	pv_block_cached_destroy(block->cached);
	free(block);
}

void pv_block_grow(struct pv_block *block, uint64_t capacity_sectors)
{
	/* Before the driver knows: its requests find it. */
	__atomic_store_n(&block->options.capacity_sectors, capacity_sectors, __ATOMIC_RELAXED);
	pv_device_set_config(block->backend.device, &capacity_sectors, sizeof(capacity_sectors));
}

uint32_t pv_block_engine(const struct pv_block *block)
{
	return pv_aio_engine(block->queues[0].aio);
}

bool pv_block_writeback(const struct pv_block *block)
{
	return __atomic_load_n(&block->writeback, __ATOMIC_ACQUIRE);
}

void pv_block_get_statistics(const struct pv_block *block, struct pv_block_statistics *statistics)
{
	struct pv_backend_statistics threads;

	*statistics = (struct pv_block_statistics){ .requests = 0 };
	for (uint32_t i = 0; i < block->backend.thread_count; i++)
		pv_backend_sum(statistics, &block->queues[i].statistics, sizeof(*statistics));
	pv_backend_get_statistics(&block->backend, &threads);
	statistics->polls = threads.polls;
	statistics->poll_ns = threads.poll_ns;
	statistics->sleeps = threads.sleeps;
}
