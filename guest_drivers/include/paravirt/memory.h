/* SPDX-License-Identifier: 0BSD
 *
 * Service memory: what the guest tells the host of its memory's use.
 */
#ifndef PARAVIRT_MEMORY_H
#define PARAVIRT_MEMORY_H

#include "paravirt/call.h"

/* Ranges are whole 4 KiB pages (MEM-2), at most PV_LIMIT_MEMORY_RANGES; the value is the ranges done. */

/* Has the host back the ranges now, so that a later touch costs no exit. */
static inline struct pv_answer pv_memory_populate(const struct pv_memory_range *ranges, uint64_t count)
{
	return pv_call2(PV_CALL_MEMORY_POPULATE, pv_gpa(ranges), count);
}

/* Gives the contents away; they read as zero afterwards (MEM-3). */
static inline struct pv_answer pv_memory_discard(const struct pv_memory_range *ranges, uint64_t count)
{
	return pv_call2(PV_CALL_MEMORY_DISCARD, pv_gpa(ranges), count);
}

/* With BALLOON: bytes that the host wants in the balloon; channel BALLOON of vCPU 0 tells of another wish (MEM-7). */
static inline struct pv_answer pv_memory_target(void)
{
	return pv_call0(PV_CALL_MEMORY_TARGET);
}

/* Puts ranges into the balloon, and takes them out again before they are used (MEM-8); balloon.h does it for all. */
static inline struct pv_answer pv_memory_inflate(const struct pv_memory_range *ranges, uint64_t count)
{
	return pv_call2(PV_CALL_MEMORY_INFLATE, pv_gpa(ranges), count);
}

static inline struct pv_answer pv_memory_deflate(const struct pv_memory_range *ranges, uint64_t count)
{
	return pv_call2(PV_CALL_MEMORY_DEFLATE, pv_gpa(ranges), count);
}

/* With FREE_PAGE_REPORTING: nobody uses these now, and their contents may be lost (MEM-8). */
static inline struct pv_answer pv_memory_report(const struct pv_memory_range *ranges, uint64_t count)
{
	return pv_call2(PV_CALL_MEMORY_REPORT, pv_gpa(ranges), count);
}

#endif
