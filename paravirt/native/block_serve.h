/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Between block.c and block_serve.c: a disk and its queues, each with a thread and an aio of its own.
 */
#ifndef PARAVIRT_BLOCK_SERVE_H
#define PARAVIRT_BLOCK_SERVE_H

#include "aio.h"
#include "backend.h"
#include "block.h"
#include "block_cached.h"
#include "block_request.h"

struct pv_block_queue {
	struct pv_block *block;
	uint32_t index;
	struct pv_block_statistics
		statistics; /* written by the thread, read by any; polls and sleeps are the thread's */
	struct pv_aio *aio;
	struct pv_block_request *requests;
	struct pv_block_request *free; /* used before and free */
	uint32_t used; /* requests from here on were never used, so their memory was never touched */
	struct pv_block_request *staged; /* to start, unless the next one continues it */
	uint32_t batch; /* chains that the next turn takes, at most */
	uint32_t busy; /* requests in use */
	uint32_t in_flight; /* that the aio has */
};

struct pv_block {
	struct pv_backend backend; /* first: the device's opaque */
	struct pv_device *device;
	struct pv_block_options options;
	struct pv_limit limit;
	struct pv_block_cached *cached; /* NULL: all reads are the engine's */
	uint32_t limited; /* options.limit has a rate */
	uint32_t writeback; /* the driver sends FLUSH for what is to be durable; written under the device's lock */
	struct pv_block_queue queues[PV_MAX_QUEUES];
};

/* What the threads do; their opaque is a queue. */
extern const struct pv_backend_ops pv_block_ops;

#endif
