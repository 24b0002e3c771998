/* SPDX-License-Identifier: 0BSD
 *
 * Chapter system: what the calls that end the machine refuse, and a watchdog that does not bite.  The ends
 * themselves are images of their own.
 */
#include "support/conformance.h"

#define MILLISECOND 1000000ull

static int64_t watchdog(uint64_t timeout_ns)
{
	return pv_call1(PV_CALL_SYSTEM_WATCHDOG, timeout_ns).status;
}

static void system(void)
{
	cf_case("SYS-1 a shutdown for a reason that is not defined");
	cf_expect(pv_call2(PV_CALL_SYSTEM_SHUTDOWN, PV_SHUTDOWN_BOOT_REFUSED + 1, 0).status, PV_STATUS_INVALID,
		  "the first that is not");
	cf_expect(pv_call2(PV_CALL_SYSTEM_SHUTDOWN, 0xffffffff, 0).status, PV_STATUS_INVALID, "the last of 32 bits");
	cf_expect(pv_call2(PV_CALL_SYSTEM_SHUTDOWN, 1ull << 32, 0).status, PV_STATUS_INVALID, "above 32 bits");
	cf_expect(pv_call2(PV_CALL_SYSTEM_SHUTDOWN, ~0ull, 0).status, PV_STATUS_INVALID, "all ones");
	cf_is(pv_call0(PV_CALL_BASE_VERSION).status, PV_STATUS_OK, "SYS-1 CALL-12 the machine runs on");
	cf_case("SYS-4 a watchdog is replaced, and zero disarms it");
	if (!cf_exists(PV_CALL_SYSTEM_WATCHDOG)) {
		cf_skip("system.watchdog is not offered");
		return;
	}
	cf_expect(watchdog(80 * MILLISECOND), PV_STATUS_OK, "armed");
	cf_expect(watchdog(3600 * CF_SECOND), PV_STATUS_OK, "replaced by a far time");
	cf_wait_ns(100 * MILLISECOND);
	cf_expect(watchdog(~0ull), PV_STATUS_OK, "replaced by a time that never comes");
	cf_expect(watchdog(80 * MILLISECOND), PV_STATUS_OK, "armed");
	cf_expect(watchdog(0), PV_STATUS_OK, "disarmed");
	cf_wait_ns(100 * MILLISECOND);
	cf_expect(pv_call0(PV_CALL_BASE_VERSION).status, PV_STATUS_OK, "the machine runs on");
}

CF_CHAPTER(system, system);
