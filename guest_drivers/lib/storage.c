/* SPDX-License-Identifier: 0BSD
 *
 * A disk, whichever kind it is.
 */
#include "paravirt/storage.h"

void pv_storage_of_block(struct pv_storage *storage, struct pv_block *block)
{
	*storage = (struct pv_storage){
		.capacity_sectors = block->capacity_sectors,
		.read_only = block->read_only,
		.block = block,
	};
}

void pv_storage_of_pmem(struct pv_storage *storage, struct pv_pmem *pmem)
{
	*storage = (struct pv_storage){
		.capacity_sectors = pmem->size_bytes / PV_SECTOR_BYTES,
		.read_only = pmem->read_only,
		.pmem = pmem,
	};
}

int64_t pv_storage_read(const struct pv_storage *storage, uint64_t sector, void *data, uint32_t size_bytes)
{
	return storage->pmem ? pv_pmem_read(storage->pmem, sector, data, size_bytes)
			     : pv_block_read(storage->block, sector, data, size_bytes);
}

int64_t pv_storage_write(const struct pv_storage *storage, uint64_t sector, const void *data, uint32_t size_bytes)
{
	return storage->pmem ? pv_pmem_write(storage->pmem, sector, data, size_bytes)
			     : pv_block_write(storage->block, sector, data, size_bytes);
}

int64_t pv_storage_flush(const struct pv_storage *storage)
{
	return storage->pmem ? pv_pmem_flush(storage->pmem) : pv_block_flush(storage->block);
}

const uint8_t *pv_storage_at(const struct pv_storage *storage, uint64_t sector)
{
	return storage->pmem && sector < storage->capacity_sectors ? storage->pmem->data + sector * PV_SECTOR_BYTES
								   : NULL;
}
