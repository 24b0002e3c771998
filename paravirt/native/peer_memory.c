// SPDX-License-Identifier: BSD-2-Clause
/*
 * Mappings of other programs' memory, and what becomes of one whose file was cut: all of it is replaced by memory of
 * our own, so that whoever works on it goes on, for nobody.  fault_copy.c has the handler that asks.
 */
#define _GNU_SOURCE
#include "peer_memory.h"

#include <errno.h>
#include <linux/magic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fault_copy.h"

#define MAPPINGS 128u
#ifndef XFS_SUPER_MAGIC /* older headers */
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* Taken while start is not 0; written before start is, which a handler looks at first. */
static struct mapping {
	uintptr_t start;
	uint64_t size_bytes;
	int lost_fd;
	uint32_t taken;
} mappings[MAPPINGS];

static struct mapping *take(void)
{
	for (uint32_t i = 0; i < MAPPINGS; i++) {
		if (!__atomic_exchange_n(&mappings[i].taken, 1, __ATOMIC_ACQ_REL))
			return &mappings[i];
	}
	return NULL;
}

static struct mapping *find(uintptr_t address)
{
	for (uint32_t i = 0; i < MAPPINGS; i++) {
		uintptr_t start = __atomic_load_n(&mappings[i].start, __ATOMIC_ACQUIRE);

		if (start && address >= start && address - start < mappings[i].size_bytes)
			return &mappings[i];
	}
	return NULL;
}

bool pv_peer_memory_is_here(int fd)
{
	struct statfs found;

	if (fstatfs(fd, &found) < 0)
		return false;
	switch ((uint32_t)found.f_type) {
	case TMPFS_MAGIC:
	case HUGETLBFS_MAGIC:
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

void *pv_peer_memory_map(int fd, uint64_t offset, uint64_t size_bytes, int lost_fd)
{
	struct mapping *mapping;
	void *at;

	if (!pv_fault_copy_guard()) {
		errno = EBUSY;
		return NULL;
	}
	mapping = take();
	if (!mapping) {
		errno = ENOSPC;
		return NULL;
	}
	at = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
	if (at == MAP_FAILED) {
		__atomic_store_n(&mapping->taken, 0, __ATOMIC_RELEASE);
		return NULL;
	}
	mapping->size_bytes = size_bytes;
	mapping->lost_fd = lost_fd;
	__atomic_store_n(&mapping->start, (uintptr_t)at, __ATOMIC_RELEASE);
	return at;
}

void pv_peer_memory_unmap(void *at, uint64_t size_bytes)
{
	struct mapping *mapping = find((uintptr_t)at);

	if (mapping) {
		__atomic_store_n(&mapping->start, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&mapping->taken, 0, __ATOMIC_RELEASE);
	}
	munmap(at, size_bytes);
}

bool pv_peer_memory_mend(const void *address)
{
	static const uint64_t one = 1;
	struct mapping *mapping = find((uintptr_t)address);

	/* Two threads may come here for one mapping: the second one's is mended again, and as empty. */
	if (!mapping || mmap((void *)mapping->start, mapping->size_bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return false;
	(void)!write(mapping->lost_fd, &one, sizeof(one));
	return true;
}
