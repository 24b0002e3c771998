/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One virtio-blk request, between the chain that it came in and the file operations that it becomes.
 * Queues, threads and time are left to block_serve.c.
 */
#ifndef PARAVIRT_BLOCK_REQUEST_H
#define PARAVIRT_BLOCK_REQUEST_H

#include "aio.h"
#include "block.h"

#define PV_BLOCK_SECTOR_BYTES 512u

struct pv_block_request {
	struct pv_aio_request io; /* first: an aio gives it back */
	struct pv_chain chain; /* segments are used up by the I/O */
	uint8_t *status; /* last writable byte, in guest memory */
	uint32_t type; /* one of PV_BLOCK_REQUEST_ */
	uint32_t ranges_left;
	const struct pv_block_range *range; /* next one */
	struct pv_block_range ranges[PV_BLOCK_RANGES]; /* copied and checked */
	uint64_t sector;
	uint64_t data_bytes; /* with a write-zeroes the zeros */
	struct pv_block_request *next; /* free */
	struct pv_block_request *merged; /* that is carried out with this one, and so on */
	struct pv_block_request *last; /* of those, while they are not started */
	uint64_t merged_bytes; /* of all, in the first */
};

#define PV_BLOCK_START 0 /* request->io is to be started */
#define PV_BLOCK_DONE 1 /* the request has its result */
#define PV_BLOCK_FAULT 2 /* BLK-3 */

struct pv_block_outcome {
	uint8_t status; /* one of PV_BLOCK_STATUS_ */
	uint32_t written_bytes; /* BLK-5 */
};

/*
 * Takes a popped chain apart; outcome is set if the answer is known without I/O.  With `durable` a change is on
 * stable storage when it is answered.
 */
int pv_block_request_begin(struct pv_block_request *request, const struct pv_block_options *options, uint64_t features,
			   bool durable, struct pv_block_outcome *outcome);
/* After request->io was collected: PV_BLOCK_START if there is more to do, else PV_BLOCK_DONE with outcome. */
int pv_block_request_continue(struct pv_block_request *request, const struct pv_block_options *options,
			      struct pv_block_outcome *outcome);

#endif
