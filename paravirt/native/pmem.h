/* SPDX-License-Identifier: BSD-2-Clause
 *
 * virtio-pmem: a file whose pages the guest has as memory, and the thread that makes them durable.  The file
 * is opened, locked and measured by the caller, who also fills the configuration space.
 *
 * Nobody in this process touches the mapping: it is there for the accelerator to hand on, and no address in it
 * is guest memory (PMEM-2).  So a file that was cut raises no SIGBUS here.
 */
#ifndef PARAVIRT_PMEM_H
#define PARAVIRT_PMEM_H

#include "kvm.h"

#define PV_REGION_ALIGNMENT 0x200000

/* Maps the first bytes of a file at a multiple of PV_REGION_ALIGNMENT, so that large pages fit; NULL: errno says why. */
void *pv_region_map(int fd, uint64_t size_bytes, bool read_only);
void pv_region_unmap(void *hva, uint64_t size_bytes);
/*
 * The guest accessed an address at which the accelerator found no memory.  True: go on, as where nothing is;
 * false: it is of a region whose pages cannot be had, `out` says which.
 */
bool pv_region_access(const struct pv_machine *machine, uint64_t gpa, bool write, struct pv_exit *out);

struct pv_pmem_options {
	int fd; /* stays the caller's, open until pv_pmem_destroy */
	uint64_t size_bytes; /* of the region: the file is at least as long, or it was cut */
	/* Makes what was stored durable: 0, or -1 with errno. NULL: fdatasync. For tests. */
	int (*sync)(int fd);
};

struct pv_pmem_statistics {
	uint64_t requests; /* answered, whatever with */
	uint64_t errors; /* of those, with FAILED */
	uint64_t syncs; /* each for all the flushes that waited */
	uint64_t sync_ns; /* time spent in them */
	uint64_t interrupts;
	uint64_t sleeps; /* of its thread, which does not look for work before */
};

struct pv_pmem;

/* As pv_block_create: makes it of a device, whose ops and opaque it sets. NULL: errno says why. */
struct pv_pmem *pv_pmem_create(struct pv_device *device, const struct pv_pmem_options *options);
/* Ends the thread after a sync under way. No op of the device may run or follow. */
void pv_pmem_destroy(struct pv_pmem *pmem);
void pv_pmem_get_statistics(const struct pv_pmem *pmem, struct pv_pmem_statistics *statistics);

#endif
