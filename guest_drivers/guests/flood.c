/* SPDX-License-Identifier: 0BSD
 *
 * Floods one resource of its host, named by the command line, until the host refuses or for many rounds:
 * console (the default), trace, doorbell, notify, entropy, upcall.  The machine must run on, and a
 * refusal must be a QUOTA that harms only this guest (CON-2, TRC-1).
 */
#include "paravirt/console.h"
#include "paravirt/entropy.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "paravirt/trace.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("scratch", PV_DEVICE_TYPE_BLOCK, PV_DEVICE_FLAG_OPTIONAL));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define ROUNDS 20000u

static char line[4096];

static int64_t console(uint32_t round)
{
	(void)round;
	return pv_call2(PV_CALL_CONSOLE_WRITE, pv_gpa(line), sizeof(line)).status;
}

static int64_t trace(uint32_t round)
{
	return pv_trace_mark("flood", round);
}

static int64_t doorbell(uint32_t round)
{
	pv_out32((uint16_t)pv_guest.boot.abi->doorbell, round);
	return PV_STATUS_OK;
}

static int64_t notify(uint32_t round)
{
	int64_t status = pv_call2(PV_CALL_DEVICE_NOTIFY, 0, round % PV_LIMIT_DEVICE_QUEUES).status;

	return status == PV_STATUS_QUOTA ? status : PV_STATUS_OK;
}

static int64_t entropy(uint32_t round)
{
	(void)round;
	return pv_entropy_fill(line, PV_LIMIT_ENTROPY_BYTES);
}

static int64_t upcall(uint32_t round)
{
	return pv_event_send(0, PV_CHANNEL_FIRST_FREE + round % 16);
}

int pv_main(void)
{
	static const struct {
		const char *name;
		int64_t (*once)(uint32_t round);
	} floods[] = {
		{ "console", console }, { "trace", trace },	{ "doorbell", doorbell },
		{ "notify", notify },	{ "entropy", entropy }, { "upcall", upcall },
	};
	uint32_t which = 0, round = 0;
	int64_t status = PV_STATUS_OK;

	if (!pv_guest.paravirt)
		return 2;
	for (uint32_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++)
		if (!strcmp(pv_guest.command_line, floods[i].name))
			which = i;
	memset(line, 'f', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	if (which == 5)
		pv_upcalls_on();
	while (round < ROUNDS && status >= 0)
		status = floods[which].once(round++);
	/* The console may be what is used up: the exit status tells, too. */
	pv_print("flood: %s: %u rounds, then status %ld\n", floods[which].name, round, status);
	return status == PV_STATUS_OK || status == PV_STATUS_QUOTA ? 0 : 1;
}
