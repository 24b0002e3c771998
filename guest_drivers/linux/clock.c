// SPDX-License-Identifier: 0BSD
/*
 * Service time: the time page as a clock source.
 *
 * It is rated below the TSC and KVM's clock, which the vDSO can read and this one not; a machine that has neither, or
 * whose TSC Linux does not trust, is better off with it than with anything else.  `clock_rating` says otherwise.
 */
#include <linux/clocksource.h>
#include <linux/math64.h>
#include <linux/moduleparam.h>

#include <asm/barrier.h>
#include <asm/msr.h>

#include "paravirt.h"

static int clock_rating = 290;
module_param(clock_rating, int, 0444);
MODULE_PARM_DESC(clock_rating, "Rating of the clock source: the TSC has 300, KVM's clock 299 or 400");

/* Monotonic ns (TIME-6). */
static u64 read_clock(struct clocksource *source)
{
	const struct pv_time_page *page = paravirt.time;
	u32 before, after;
	u64 now;

	do {
		before = smp_load_acquire(&page->sequence);
		if (before & 1) {
			cpu_relax();
			continue;
		}
		now = READ_ONCE(page->base_ns);
		if (READ_ONCE(page->flags) & PV_TIME_FLAG_COUNTER) {
			u64 base = READ_ONCE(page->base_counter), counter = rdtsc_ordered();

			rmb(); /* an LFENCE behind RDTSC, too */
			if (counter > base) /* TIME-4 */
				now += mul_u64_u32_shr(counter - base, READ_ONCE(page->multiplier),
						       READ_ONCE(page->shift) & 63);
		}
		smp_rmb(); /* what was read before the second look at the sequence */
		after = READ_ONCE(page->sequence);
	} while (before & 1 || before != after);
	return now;
}

static struct clocksource source = {
	.name = "paravirt",
	.read = read_clock,
	.mask = CLOCKSOURCE_MASK(64),
	.flags = CLOCK_SOURCE_IS_CONTINUOUS,
	.owner = THIS_MODULE,
};

int paravirt_clock_init(void)
{
	source.rating = clock_rating;
	return clocksource_register_hz(&source, NSEC_PER_SEC);
}

void paravirt_clock_exit(void)
{
	clocksource_unregister(&source);
}
