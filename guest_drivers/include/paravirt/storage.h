/* SPDX-License-Identifier: 0BSD
 *
 * A disk, whichever kind it is: a block device, or one that is mapped.  For programs that want one thing done at a
 * time; many requests in flight are block.h's, and what is mapped is best used where it is (pv_storage_at).
 */
#ifndef PARAVIRT_STORAGE_H
#define PARAVIRT_STORAGE_H

#include "paravirt/block.h"
#include "paravirt/pmem.h"

struct pv_storage {
	uint64_t capacity_sectors;
	bool read_only;
	struct pv_block *block; /* one of these two */
	struct pv_pmem *pmem;
};

/* Both after the driver's init. */
void pv_storage_of_block(struct pv_storage *storage, struct pv_block *block);
void pv_storage_of_pmem(struct pv_storage *storage, struct pv_pmem *pmem);

/* Statuses as of block.h. */
int64_t pv_storage_read(const struct pv_storage *storage, uint64_t sector, void *data, uint32_t size_bytes);
int64_t pv_storage_write(const struct pv_storage *storage, uint64_t sector, const void *data, uint32_t size_bytes);
int64_t pv_storage_flush(const struct pv_storage *storage);
/* Where the disk's bytes are from a sector on, all of them; NULL: it is not mapped, or the sector is beyond it. */
const uint8_t *pv_storage_at(const struct pv_storage *storage, uint64_t sector);

#endif
