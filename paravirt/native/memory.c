// SPDX-License-Identifier: BSD-2-Clause
/*
 * Guest-physical ranges and their host addresses, checked copies, and the service memory.
 *
 * Regions are added before vCPUs run and never change afterwards, so looking one up takes no lock.
 * What the guest writes while it is copied may come out torn; it is the copy that callers check.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "handlers.h"

int pv_memory_add(struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes, void *hva)
{
	if (memory->count == PV_MAX_REGIONS || !size_bytes || size_bytes > UINT64_MAX - gpa)
		return -1;
	/* What is aligned for the guest is aligned for us: rings are read with atomic accesses. */
	if (((uint64_t)(uintptr_t)hva - gpa) % 16)
		return -1;
	for (uint32_t i = 0; i < memory->count; i++) {
		const struct pv_region *r = &memory->regions[i];

		if (gpa < r->gpa + r->size_bytes && r->gpa < gpa + size_bytes)
			return -1;
	}
	memory->regions[memory->count++] = (struct pv_region){ gpa, size_bytes, hva };
	return 0;
}

void *pv_memory_at(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes)
{
	for (uint32_t i = 0; i < memory->count; i++) {
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

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older C libraries do not name it */
#endif

static int advise(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes, int advice)
{
	void *hva = pv_memory_at(memory, gpa, size_bytes);

	if (!hva)
		return -EFAULT;
	return madvise(hva, size_bytes, advice) < 0 ? -errno : 0;
}

int pv_memory_populate(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes)
{
	return advise(memory, gpa, size_bytes, MADV_POPULATE_WRITE);
}

int pv_memory_discard(const struct pv_memory *memory, uint64_t gpa, uint64_t size_bytes)
{
	int result = advise(memory, gpa, size_bytes, MADV_REMOVE);

	/* Memory that is not shared has no file to punch a hole into; there this gives zeros. */
	return result == -EINVAL ? advise(memory, gpa, size_bytes, MADV_DONTNEED) : result;
}

#define PAGE_BYTES 4096

/* MEM-1, MEM-2, MEM-5: all ranges, before the first is touched. */
static int64_t check_ranges(const struct pv_memory *memory, const struct pv_memory_range *ranges, uint64_t count)
{
	uint64_t left = PV_LIMIT_MEMORY_BYTES;

	for (uint64_t i = 0; i < count; i++) {
		if (ranges[i].size_bytes > left) /* a sum would wrap */
			return PV_STATUS_LIMIT;
		left -= ranges[i].size_bytes;
	}
	for (uint64_t i = 0; i < count; i++) {
		if (ranges[i].gpa % PAGE_BYTES || ranges[i].size_bytes % PAGE_BYTES)
			return PV_STATUS_UNALIGNED;
		if (!pv_memory_at(memory, ranges[i].gpa, ranges[i].size_bytes))
			return PV_STATUS_BAD_ADDRESS;
	}
	return PV_STATUS_OK;
}

/* Each range in turn; `refused` is the answer if the host cannot do the first (MEM-6, CALL-10). */
static int64_t each_range(const struct pv_memory *memory, const uint64_t *args, uint64_t *value,
			  int (*act)(const struct pv_memory *, uint64_t, uint64_t), int64_t refused)
{
	struct pv_memory_range ranges[PV_LIMIT_MEMORY_RANGES];

	if (!args[1])
		return PV_STATUS_OK;
	pv_memory_read(memory, args[0], ranges, args[1] * sizeof(ranges[0]));
	int64_t status = check_ranges(memory, ranges, args[1]);
	for (; status == PV_STATUS_OK && *value < args[1]; ++*value) {
		const struct pv_memory_range *r = &ranges[*value];

		if (r->size_bytes && act(memory, r->gpa, r->size_bytes) < 0)
			return *value ? PV_STATUS_CONTINUE : refused;
	}
	return status;
}

PV_HANDLER(memory_populate)
{
	return each_range(&vcpu->machine->memory, args, value, pv_memory_populate, PV_STATUS_NO_MEMORY);
}

PV_HANDLER(memory_discard)
{
	return each_range(&vcpu->machine->memory, args, value, pv_memory_discard, PV_STATUS_FAILED);
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
