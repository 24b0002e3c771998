/* SPDX-License-Identifier: 0BSD
 *
 * The clock: one consistent reading of the time page, and sleeping by it.
 */
#include "paravirt/time.h"
#include "paravirt/event.h"
#include "paravirt/vcpu.h"

struct reading {
	uint64_t monotonic_ns;
	uint64_t wall_offset_ns;
};

static struct reading take(const struct pv_time_page *page)
{
	struct reading reading;
	uint32_t before, after;

	do {
		while ((before = __atomic_load_n(&page->sequence, __ATOMIC_ACQUIRE)) & 1)
			pv_relax();
		uint64_t base_counter = __atomic_load_n(&page->base_counter, __ATOMIC_RELAXED);
		uint64_t base_ns = __atomic_load_n(&page->base_ns, __ATOMIC_RELAXED);
		uint32_t multiplier = __atomic_load_n(&page->multiplier, __ATOMIC_RELAXED);
		uint32_t shift = __atomic_load_n(&page->shift, __ATOMIC_RELAXED) & 63;
		uint32_t flags = __atomic_load_n(&page->flags, __ATOMIC_RELAXED);

		reading.wall_offset_ns = __atomic_load_n(&page->wall_offset_ns, __ATOMIC_RELAXED);
		reading.monotonic_ns = base_ns;
		if (flags & PV_TIME_FLAG_COUNTER) {
			uint64_t counter = pv_counter_ordered();

			/* Another CPU's counter may be a few ticks behind the one that made the base. */
			if (counter > base_counter)
				reading.monotonic_ns +=
					(uint64_t)((unsigned __int128)(counter - base_counter) * multiplier >> shift);
		}
		__atomic_thread_fence(__ATOMIC_ACQUIRE); /* the reads above before the second look */
		after = __atomic_load_n(&page->sequence, __ATOMIC_RELAXED);
	} while (before != after);
	return reading;
}

uint64_t pv_time_monotonic(const struct pv_time_page *page)
{
	return take(page).monotonic_ns;
}

uint64_t pv_time_wall(const struct pv_time_page *page)
{
	struct reading reading = take(page);

	return reading.monotonic_ns + reading.wall_offset_ns;
}

void pv_time_sleep(struct pv_vcpu_page *vcpu, const struct pv_time_page *page, uint64_t deadline_ns)
{
	while (pv_time_monotonic(page) < deadline_ns)
		pv_event_wait(vcpu, deadline_ns);
}
