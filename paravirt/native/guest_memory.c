// SPDX-License-Identifier: BSD-2-Clause
/*
 * Guest-physical ranges and their host addresses, checked copies, and the barrier towards guests whose own
 * order nothing.  Knows no machine; what the guest asks of its memory is memory.c's.
 *
 * Looking a region up takes no lock: one that is added is there before it counts, and none goes or changes while
 * anybody works on memory.
 * What the guest writes while it is copied may come out torn; it is the copy that callers check.
 */
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host.h"

int pv_memory_add(struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes, void *hva)
{
	const uint32_t count = memory->count; /* one thread adds */

	if (count == PV_MAX_REGIONS || !size_bytes || size_bytes > UINT64_MAX - gpa)
		return -1;
	/* What is aligned for the guest is aligned for us: rings are read with atomic accesses. */
	if (((uint64_t)(uintptr_t)hva - gpa) % 16)
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		const struct pv_region *r = &memory->regions[i];

		if (gpa < r->gpa + r->size_bytes && r->gpa < gpa + size_bytes)
			return -1;
	}
	memory->regions[count] = (struct pv_region){ gpa, size_bytes, hva };
	__atomic_store_n(&memory->count, count + 1, __ATOMIC_RELEASE);
	return 0;
}

uint32_t pv_memory_regions(const struct pv_memory *memory)
{
	return __atomic_load_n(&memory->count, __ATOMIC_ACQUIRE);
}

uint64_t pv_memory_bytes(const struct pv_memory *memory)
{
	const uint32_t count = pv_memory_regions(memory);
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < count; i++)
		bytes += memory->regions[i].size_bytes;
	return bytes;
}

void *pv_memory_at(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes)
{
	const uint32_t count = pv_memory_regions(memory);

	for (uint32_t i = 0; i < count; i++) {
		const struct pv_region *r = &memory->regions[i];

		/* subtractions only: gpa + size_bytes may wrap */
		if (gpa >= r->gpa && size_bytes <= r->size_bytes && gpa - r->gpa <= r->size_bytes - size_bytes)
			return r->hva + (gpa - r->gpa);
	}
	return NULL;
}

bool pv_memory_read(const struct pv_memory *memory, uint64_t gpa, void *to, uint64_t size_bytes)
{
	const void *from = pv_memory_at(memory, gpa, size_bytes);

	if (!from)
		return false;
	memcpy(to, from, size_bytes);
	/* Read once: the compiler may not go back to guest memory for what the caller checks in the copy. */
	__asm__ volatile("" : : "r"(to) : "memory");
	return true;
}

bool pv_memory_write(const struct pv_memory *memory, uint64_t gpa, const void *from, uint64_t size_bytes)
{
	void *to = pv_memory_at(memory, gpa, size_bytes);

	if (!to)
		return false;
	memcpy(to, from, size_bytes);
	return true;
}

/* membarrier(2): every CPU that runs a thread of a process which registered itself, the engine's, makes a barrier. */
#define MEMBARRIER_GLOBAL_EXPEDITED 2

static bool barrier_there(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool pv_memory_can_fence(void)
{
	return barrier_there();
}

void pv_memory_fence(const struct pv_memory *memory)
{
	/* Otherwise the stores and loads are sequentially consistent themselves. */
	if (memory->unfenced)
		barrier_there();
}
