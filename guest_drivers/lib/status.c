/* SPDX-License-Identifier: 0BSD
 *
 * Statuses as words.
 */
#include "paravirt/status.h"
#include "paravirt_abi.h"

#define NAME(status)             \
	case PV_STATUS_##status: \
		return #status

const char *pv_status_name(int64_t status)
{
	switch (status) {
		NAME(CONTINUE);
		NAME(OK);
		NAME(FAILED);
		NAME(NOT_SUPPORTED);
		NAME(INVALID);
		NAME(BAD_ADDRESS);
		NAME(UNALIGNED);
		NAME(LIMIT);
		NAME(WRONG_ROAD);
		NAME(BAD_STATE);
		NAME(NOT_FOUND);
		NAME(QUOTA);
		NAME(IO);
		NAME(NO_MEMORY);
	}
	return status < 0 ? "FAILED" : "OK";
}
