/* SPDX-License-Identifier: 0BSD
 *
 * Two ends, of which the first is a failure: the machine ends with that, and not with the success that comes
 * after it, from the same vCPU or from another.
 */
#include "../support/conformance.h"
#include "paravirt/notes.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

static uint32_t ending;

static void success(void *argument)
{
	(void)argument;
	while (!CF_LOAD(ending))
		cf_relax();
	cf_wait_ns(CF_SECOND / 1000);
	cf_shutdown(PV_SHUTDOWN_POWEROFF, 0);
}

static void ends(void)
{
	if (cf_vcpus() > 1 && cf_offered(PV_SERVICE_VCPU))
		cf_start(1, success, NULL);
	CF_STORE(ending, 1);
	pv_call2(PV_CALL_SYSTEM_SHUTDOWN, PV_SHUTDOWN_FAILURE, 7);
	cf_shutdown(PV_SHUTDOWN_POWEROFF, 0);
}

CF_CHAPTER(ends, ends);
