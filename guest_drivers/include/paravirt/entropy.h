/* SPDX-License-Identifier: 0BSD
 *
 * Service entropy: random bytes fit for keys, from the host.
 */
#ifndef PARAVIRT_ENTROPY_H
#define PARAVIRT_ENTROPY_H

#include "paravirt/call.h"

/* Fills all of data, in as many calls as the limit wants; OK or the first refusal. */
static inline int64_t pv_entropy_fill(void *data, uint64_t size_bytes)
{
	uint8_t *to = data;

	while (size_bytes) {
		uint64_t part = size_bytes < PV_LIMIT_ENTROPY_BYTES ? size_bytes : PV_LIMIT_ENTROPY_BYTES;
		struct pv_answer answer = pv_call2(PV_CALL_ENTROPY_FILL, pv_gpa(to), part);

		if (answer.status < 0)
			return answer.status;
		if (answer.value != part) /* ENT-1 */
			return PV_STATUS_FAILED;
		to += part;
		size_bytes -= part;
	}
	return PV_STATUS_OK;
}

#endif
