/* SPDX-License-Identifier: 0BSD
 *
 * A watchdog in whose time nobody calls ends the machine, and not with success: an image that reports nothing
 * unless it outlives it.
 */
#include "../support/conformance.h"
#include "paravirt/notes.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

static void watchdog(void)
{
	pv_call1(PV_CALL_SYSTEM_WATCHDOG, CF_SECOND / 20);
	cf_wait_ns(3 * CF_SECOND);
	cf_true(false, "SYS-4 a watchdog ends the machine in time");
}

CF_CHAPTER(watchdog, watchdog);
