/* SPDX-License-Identifier: 0BSD
 *
 * Service trace: marks and spans on the host's timeline.  Where nobody traces they cost a call.
 */
#ifndef PARAVIRT_TRACE_H
#define PARAVIRT_TRACE_H

#include "paravirt/call.h"
#include "paravirt/string.h"

/* Names are UTF-8 of at most PV_LIMIT_TRACE_NAME_BYTES. */
static inline int64_t pv_trace_mark(const char *name, uint64_t value)
{
	return pv_call3(PV_CALL_TRACE_MARK, pv_gpa(name), strlen(name), value).status;
}

static inline int64_t pv_trace_begin(const char *name)
{
	return pv_call2(PV_CALL_TRACE_BEGIN, pv_gpa(name), strlen(name)).status;
}

/* Ends the span begun last on this vCPU. */
static inline int64_t pv_trace_end(void)
{
	return pv_call0(PV_CALL_TRACE_END).status;
}

#endif
