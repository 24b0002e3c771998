/* SPDX-License-Identifier: 0BSD
 *
 * Service time: the clock read from the time page without a call, and the vCPU's deadline.
 */
#ifndef PARAVIRT_TIME_H
#define PARAVIRT_TIME_H

#include "paravirt/call.h"

/* ns since the machine first ran; never goes back (TIME-1). */
uint64_t pv_time_monotonic(const struct pv_time_page *page);
/* ns since 1970, UTC. */
uint64_t pv_time_wall(const struct pv_time_page *page);

/* Arms the calling vCPU's deadline, absolute monotonic ns; PV_DEADLINE_NEVER disarms. */
static inline int64_t pv_time_deadline(uint64_t deadline_ns)
{
	return pv_call1(PV_CALL_TIME_DEADLINE, deadline_ns).status;
}

/* Waits, with upcalls held (event.h), until the clock shows deadline_ns; handles events meanwhile. */
void pv_time_sleep(struct pv_vcpu_page *vcpu, const struct pv_time_page *page, uint64_t deadline_ns);

/* The CPU's counter, as it stands; the CPU may read it before what stands before it in the program. */
static inline uint64_t pv_counter(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* Not before earlier loads have their values (what TIME-1 needs between vCPUs), nor after later ones. */
static inline uint64_t pv_counter_ordered(void)
{
	__asm__ volatile("lfence" : : : "memory");
	uint64_t counter = pv_counter();
	__asm__ volatile("lfence" : : : "memory");
	return counter;
}

#endif
