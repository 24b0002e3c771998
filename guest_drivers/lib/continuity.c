/* SPDX-License-Identifier: 0BSD
 *
 * The continuity page, read under its sequence.
 */
#include "paravirt/continuity.h"
#include "paravirt/vcpu.h"

static void copy_bytes(uint8_t *to, const uint8_t *from, uint32_t size_bytes)
{
	for (uint32_t i = 0; i < size_bytes; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void pv_continuity_read(const struct pv_continuity_page *page, struct pv_continuity_page *copy)
{
	uint32_t before;

	do {
		while ((before = __atomic_load_n(&page->sequence, __ATOMIC_ACQUIRE)) & 1)
			pv_relax();
		copy->sequence = before;
		copy->event = __atomic_load_n(&page->event, __ATOMIC_RELAXED);
		copy_bytes(copy->generation, page->generation, sizeof(copy->generation));
		copy->counter = __atomic_load_n(&page->counter, __ATOMIC_RELAXED);
		copy->clock_jump_ns = __atomic_load_n(&page->clock_jump_ns, __ATOMIC_RELAXED);
		copy_bytes(copy->seed, page->seed, sizeof(copy->seed));
		__atomic_thread_fence(__ATOMIC_ACQUIRE); /* the reads above before the second look */
	} while (__atomic_load_n(&page->sequence, __ATOMIC_RELAXED) != before);
}

bool pv_continuity_look(const struct pv_continuity_page *page, uint64_t *seen, struct pv_continuity_page *copy)
{
	pv_continuity_read(page, copy);
	if (copy->counter == *seen)
		return false;
	*seen = copy->counter;
	return true;
}
