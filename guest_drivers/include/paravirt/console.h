/* SPDX-License-Identifier: 0BSD
 *
 * Service console: text out and in, with no set-up.  Formatting is format.h's.
 */
#ifndef PARAVIRT_CONSOLE_H
#define PARAVIRT_CONSOLE_H

#include "paravirt/call.h"

/* Writes all, in as many calls as the limit wants; OK or the status of the first call refused (CON-2). */
static inline int64_t pv_console_write(const char *data, uint64_t size_bytes)
{
	while (size_bytes) {
		uint64_t part = size_bytes < PV_LIMIT_CONSOLE_BYTES ? size_bytes : PV_LIMIT_CONSOLE_BYTES;
		int64_t status = pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(data), part).status;

		if (status < 0)
			return status;
		data += part;
		size_bytes -= part;
	}
	return PV_STATUS_OK;
}

/* Takes waiting input, at most PV_LIMIT_CONSOLE_BYTES; the value is the bytes read, perhaps none. */
static inline struct pv_answer pv_console_read(char *data, uint64_t room_bytes)
{
	return pv_call2(PV_CALL_CONSOLE_READ, pv_gpa(data), room_bytes);
}

#endif
