// SPDX-License-Identifier: BSD-2-Clause
/*
 * Guest RAM in our address space: a file mapped where huge pages can stand, in neither core files nor children.
 * Which file that is, paravirt/memory.py decides.
 */
#include "ram.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

/* A reservation is larger by one huge page, so that an aligned part of it is large enough. */
void *pv_ram_map(int fd, uint64_t size_bytes)
{
	const size_t huge = PV_RAM_HUGE_BYTES, size = (size_t)size_bytes;
	uint8_t *room = mmap(NULL, size + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		return NULL;
	size_t before = (huge - (uintptr_t)room % huge) % huge;
	uint8_t *hva = mmap(room + before, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (hva == MAP_FAILED) {
		int why = errno;

		munmap(room, size + huge);
		errno = why;
		return NULL;
	}
	if (before)
		munmap(room, before);
	munmap(hva + size, huge - before);
	/* Advice: RAM that would be in a core file or in a child is a nuisance and no mistake. */
	madvise(hva, size, MADV_DONTDUMP);
	madvise(hva, size, MADV_DONTFORK);
	return hva;
}

void pv_ram_unmap(void *hva, uint64_t size_bytes)
{
	munmap(hva, (size_t)size_bytes);
}

int pv_ram_huge(void *hva, uint64_t size_bytes)
{
	return madvise(hva, (size_t)size_bytes, MADV_HUGEPAGE) < 0 ? -errno : 0;
}
