/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio persistent memory: an image whose bytes are loaded and stored as memory is.  What was stored is
 * durable after pv_pmem_flush.  Reads and writes by sectors are there for programs that take either kind of disk
 * (storage.h); the data itself is at pmem->data.
 */
#ifndef PARAVIRT_PMEM_H
#define PARAVIRT_PMEM_H

#include "paravirt/virtio.h"

#define PV_PMEM_QUEUE 4

struct pv_pmem {
	struct pv_virtio *device;
	uint8_t *data; /* in no range of the memory map: no buffer of calls or of other devices may be in it (PMEM-2) */
	uint64_t size_bytes;
	bool read_only; /* a store to the data is a page fault */
	bool in_flight; /* a flush */
	struct pv_virtq queue;
	struct pv_pmem_request request; /* shared with the device during a flush */
	struct pv_pmem_response response;
	uint8_t memory[PV_VIRTIO_QUEUE_BYTES(PV_PMEM_QUEUE)] __attribute__((aligned(64)));
};

/*
 * Takes the device into use; its waiter and channel are chosen before. The struct stays where it is. INVALID: the
 * region is none (PMEM-1), or wraps. A guest with page tables of its own has it mapped one to one, or moves `data`.
 */
int64_t pv_pmem_init(struct pv_pmem *pmem, struct pv_virtio *device);
void pv_pmem_deinit(struct pv_pmem *pmem);
/* Makes earlier stores durable. IO: not done, and not to be had by asking again (PMEM-4); FAILED: the device is gone. */
int64_t pv_pmem_flush(struct pv_pmem *pmem);
/*
 * The same in two steps, with something else in between; one flush is for all stores before it.  BAD_STATE: one is
 * under way.  Its result is taken by get, NOT_FOUND if it is not there yet, or by wait, which looks for a while and
 * then sleeps until the device's channel is raised, if it has a waiter and a channel.  BAD_STATE: none is under way.
 */
int64_t pv_pmem_submit(struct pv_pmem *pmem);
int64_t pv_pmem_get(struct pv_pmem *pmem);
int64_t pv_pmem_wait(struct pv_pmem *pmem);

/* Copies of whole sectors of 512 bytes: OK, or INVALID for what is not wholly on the disk, or read-only. */
int64_t pv_pmem_read(const struct pv_pmem *pmem, uint64_t sector, void *data, uint32_t size_bytes);
int64_t pv_pmem_write(struct pv_pmem *pmem, uint64_t sector, const void *data, uint32_t size_bytes);
/* Has the caches fetch what is read soon; it does not wait, and leaves out what is not wholly on the disk. */
void pv_pmem_prefetch(const struct pv_pmem *pmem, uint64_t sector, uint32_t size_bytes);

#endif
