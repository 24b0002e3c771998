/* SPDX-License-Identifier: BSD-2-Clause
 *
 * virtio-blk over a file or block device: a thread for each queue, between it and an aio.  The file is opened, locked
 * and measured by the caller, who also fills the configuration space.
 */
#ifndef PARAVIRT_BLOCK_H
#define PARAVIRT_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host.h"
#include "limit.h"

#define PV_BLOCK_ID_BYTES 20
#define PV_BLOCK_RANGES 16 /* segments of a discard or write-zeroes */
#define PV_BLOCK_DISCARD_SECTORS 0x200000 /* most of one segment: 1 GiB */
#define PV_BLOCK_ZEROES_SECTORS 0x10000 /* 32 MiB: they may have to be written */

/* For tests: the n-th request of a kind fails with EIO, counted from 1; 0: none. */
struct pv_block_failures {
	uint64_t read;
	uint64_t write;
	uint64_t flush;
};

struct pv_block_options {
	int fd; /* stays the caller's, open until pv_block_destroy */
	int unaligned_fd; /* O_DIRECT: the same file without it, for requests not aligned; else -1 */
	uint32_t alignment_bytes; /* O_DIRECT: of address, offset and length; else 1 */
	uint32_t engine; /* one of PV_AIO_; AUTO: reads of what the page cache has do without */
	uint32_t read_only;
	uint32_t writethrough; /* writes are durable when answered, until the driver says otherwise (CONFIG_WCE) */
	uint64_t capacity_sectors;
	uint64_t poll_ns; /* longest look for work before the thread sleeps; 0: none */
	char id[PV_BLOCK_ID_BYTES]; /* serial number, padded with NUL */
	struct pv_limit_rates limit; /* of all queues together */
	struct pv_block_failures failures;
};

struct pv_block_statistics {
	uint64_t requests; /* completed, whatever their status */
	uint64_t errors; /* of those, with another status than OK */
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t throttles; /* times that requests were left waiting for the limit */
	uint64_t cached; /* reads answered by a copy from the page cache */
	uint64_t merges; /* requests carried out with the one before them */
	uint64_t batches; /* groups of requests handed to the engine at once */
	uint64_t interrupts; /* groups of completions that the driver was told of */
	uint64_t polls; /* looks for work that found it */
	uint64_t poll_ns; /* time spent looking */
	uint64_t sleeps;
};

struct pv_block;

/*
 * Makes a disk of a device, whose ops and opaque it sets, and starts a thread for each of its queues, which waits
 * for DRIVER_OK; the queues have their doorbell_fd by then.  NULL: error says why, in one line.
 */
struct pv_block *pv_block_create(struct pv_device *device, const struct pv_block_options *options, char *error,
				 size_t error_bytes);
/* Ends the threads after I/O in flight. No op of the device may run or follow. */
void pv_block_destroy(struct pv_block *block);
/* The file has grown, and the driver is told (virtio 5.2.4). Any thread but a vCPU's or the disk's. */
void pv_block_grow(struct pv_block *block, uint64_t capacity_sectors);
/* PV_AIO_URING or PV_AIO_THREADS: what was chosen. */
uint32_t pv_block_engine(const struct pv_block *block);
/* Whether writes may be answered before they are durable. */
bool pv_block_writeback(const struct pv_block *block);
void pv_block_get_statistics(const struct pv_block *block, struct pv_block_statistics *statistics);

#endif
