/* SPDX-License-Identifier: 0BSD
 *
 * A guest of the service counter: adds, is told by an event, reads the history back.
 *
 *   paravirt extension header ./counter.so > counter.h
 *   paravirt build uses_counter.c
 *   paravirt run uses_counter.elf --extension ./counter.so:100
 */
#include "counter.h"

#include "paravirt/event.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/status.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0), PV_NEED(PV_SERVICE_COUNTER, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define CHANNEL (PV_CHANNEL_FIRST_FREE + 1)

static uint64_t totals[8];
static bool told;

static void changed(uint32_t channel, void *opaque)
{
	(void)channel, (void)opaque;
	told = true;
}

int pv_main(void)
{
	struct pv_answer answer;

	pv_event_handle(CHANNEL, changed, NULL);
	for (uint64_t number = 1; number <= 3; number++) {
		answer = pv_call(PV_CALL_COUNTER_ADD, number, 0, CHANNEL, 0, 0, 0);
		if (answer.status != PV_STATUS_OK) {
			pv_print("add answers %s\n", pv_status_name(answer.status));
			return 1;
		}
	}
	pv_hold();
	while (!told)
		pv_idle(PV_DEADLINE_NEVER);
	pv_release();
	answer = pv_call(PV_CALL_COUNTER_HISTORY, pv_gpa(totals), 8, 0, 0, 0, 0);
	for (uint64_t i = 0; answer.status == PV_STATUS_OK && i < answer.value; i++)
		pv_print("total %lu\n", (unsigned long)totals[i]);
	return answer.status != PV_STATUS_OK;
}
