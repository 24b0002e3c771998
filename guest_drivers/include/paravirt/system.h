/* SPDX-License-Identifier: 0BSD
 *
 * Service system: the ends of a machine, and the watchdog.
 */
#ifndef PARAVIRT_SYSTEM_H
#define PARAVIRT_SYSTEM_H

#include "paravirt/call.h"

/* reason is one of PV_SHUTDOWN_, status 0 is success. Returns only if the host refuses. */
static inline int64_t pv_system_shutdown(uint32_t reason, uint64_t status)
{
	return pv_call2(PV_CALL_SYSTEM_SHUTDOWN, reason, status).status;
}

/* Starts the machine again from its image. Returns only if the host refuses. */
static inline int64_t pv_system_reset(void)
{
	return pv_call0(PV_CALL_SYSTEM_RESET).status;
}

/* Ends the machine and leaves the report. Returns only if the host refuses. */
static inline int64_t pv_system_crash(const struct pv_crash_report *report)
{
	return pv_call1(PV_CALL_SYSTEM_CRASH, pv_gpa(report)).status;
}

/* Hands what an exception interrupted to a debugger. Returns if none wants it, or it is refused (SYS-7). */
static inline int64_t pv_system_debug(const struct pv_debug_frame *frame)
{
	return pv_call1(PV_CALL_SYSTEM_DEBUG, pv_gpa(frame)).status;
}

/* Ends the machine unless called again in time; 0 disarms. */
static inline int64_t pv_system_watchdog(uint64_t timeout_ns)
{
	return pv_call1(PV_CALL_SYSTEM_WATCHDOG, timeout_ns).status;
}

#endif
