/* SPDX-License-Identifier: 0BSD
 *
 * Memory for a program that never gives any back: one range, taken from its start.
 */
#include "runtime.h"

static uint64_t next_gpa, end_gpa;

void pv_take_from(uint64_t gpa, uint64_t size_bytes)
{
	next_gpa = gpa;
	end_gpa = gpa + size_bytes;
}

/* Called by several vCPUs; the claim is one atomic step. */
void *pv_take(uint64_t size_bytes, uint64_t align)
{
	uint64_t next = __atomic_load_n(&next_gpa, __ATOMIC_RELAXED), at;

	do {
		at = (next + align - 1) & ~(align - 1);
		if (at < next || at > end_gpa || size_bytes > end_gpa - at)
			return NULL;
	} while (!__atomic_compare_exchange_n(&next_gpa, &next, at + size_bytes, false, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return pv_at(at);
}

uint64_t pv_left_bytes(void)
{
	return end_gpa - __atomic_load_n(&next_gpa, __ATOMIC_RELAXED);
}
