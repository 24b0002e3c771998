/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio block devices.  Requests are the caller's memory and many can be in flight; they come
 * back in any order.  Sectors have 512 bytes whatever the disk's block size.
 *
 *	pv_block_add(block, &request);		as often as there is room
 *	pv_block_submit(block);			once per batch
 *	pv_block_wait(block, &done);		one that is complete: look at done->result
 *
 * Who looks by itself takes what is complete by pv_block_get.  pv_block_wait looks for a while, then sleeps until the
 * device's channel is raised; a device without a waiter or a channel is looked at all the time.
 */
#ifndef PARAVIRT_BLOCK_H
#define PARAVIRT_BLOCK_H

#include "paravirt/virtio.h"

#define PV_SECTOR_BYTES 512u
#define PV_BLOCK_ID_BYTES 20

struct pv_block {
	struct pv_virtio *device;
	uint16_t index; /* of the queue */
	struct pv_virtq queue;
	uint64_t capacity_sectors;
	uint32_t max_discard_sectors; /* 0: no discard */
	uint32_t max_write_zeroes_sectors; /* 0: no write-zeroes */
	uint16_t depth; /* requests that fit in the queue at once */
	uint16_t in_flight;
	bool read_only;
	bool has_flush;
	struct pv_virtio own; /* of further queues: the device, with a vCPU of its own */
};

struct pv_block_request {
	/* The caller's. */
	uint32_t type; /* one of PV_BLOCK_REQUEST_ */
	uint32_t size_bytes; /* of data: whole sectors; of discard and write-zeroes: bytes on the disk */
	uint64_t sector;
	void *data; /* read, write, get-id */
	int64_t result; /* OK, IO, NOT_SUPPORTED (by the disk), FAILED (device gone) */
	/* The driver's, shared with the device while in flight. */
	struct pv_block_header header;
	struct pv_block_range range;
	uint8_t status;
};

/*
 * Takes the device into use with a queue of at most `size` descriptors in PV_VIRTIO_QUEUE_BYTES(size)
 * bytes of memory, 64-byte aligned.  The device's waiter and channel are chosen before.
 */
int64_t pv_block_init(struct pv_block *block, struct pv_virtio *device, uint16_t size, void *memory);
/*
 * The same with up to `count` queues for as many vCPUs: blocks[n] is queue n, whose used buffers raise the device's
 * channel of the vCPU device->vcpu + n, and is used by one vCPU at a time, as if it were a disk of its own.  The memory
 * has count times PV_BLOCK_QUEUE_STRIDE(size) bytes.  How many queues there are, at least one; or a status.
 */
#define PV_BLOCK_QUEUE_STRIDE(size) ((PV_VIRTIO_QUEUE_BYTES(size) + 63) & ~(size_t)63)
int64_t pv_block_init_queues(struct pv_block *blocks, uint16_t count, struct pv_virtio *device, uint16_t size,
			     void *memory);
/*
 * Takes the disk out of use; requests in flight are lost, their memory is the caller's again.  Of several queues: the
 * first, once for all, while no vCPU uses any.
 */
void pv_block_deinit(struct pv_block *block);
/* Reads the capacity anew: a disk may grow while it is in use, and then raises its channel. OK or FAILED. */
int64_t pv_block_refresh(struct pv_block *block);
/* 1: a write that is answered may be in a cache, until a flush; 0: it is durable; or a status. */
int64_t pv_block_get_writeback(struct pv_block *block);
/* The same for requests that follow, of all queues, until the device is reset. NOT_SUPPORTED: it cannot be chosen. */
int64_t pv_block_set_writeback(struct pv_block *block, bool writeback);

/*
 * OK; BAD_STATE: no room now; INVALID: not a request for this disk (range, read-only, a size that is no
 * whole number of sectors); NOT_SUPPORTED: the disk has no such request; FAILED: broken queue.
 */
int64_t pv_block_add(struct pv_block *block, struct pv_block_request *request);
void pv_block_submit(struct pv_block *block);
/* A request that is complete now: OK, NOT_FOUND (none), FAILED. */
int64_t pv_block_get(struct pv_block *block, struct pv_block_request **request);
/* As pv_block_get, but waits. BAD_STATE: none is in flight; FAILED: the device is gone. */
int64_t pv_block_wait(struct pv_block *block, struct pv_block_request **request);

/* One request from start to end, while no others are in flight; its result. */
int64_t pv_block_do(struct pv_block *block, struct pv_block_request *request);
int64_t pv_block_read(struct pv_block *block, uint64_t sector, void *data, uint32_t size_bytes);
int64_t pv_block_write(struct pv_block *block, uint64_t sector, const void *data, uint32_t size_bytes);
/* Makes completed writes durable. A disk without flush has nothing to do. */
int64_t pv_block_flush(struct pv_block *block);
int64_t pv_block_discard(struct pv_block *block, uint64_t sector, uint64_t sectors);
int64_t pv_block_write_zeroes(struct pv_block *block, uint64_t sector, uint64_t sectors);
/* The serial number: with a NUL after at most 20 bytes. */
int64_t pv_block_get_id(struct pv_block *block, char id[PV_BLOCK_ID_BYTES + 1]);

#endif
