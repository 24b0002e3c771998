/* SPDX-License-Identifier: 0BSD
 *
 * A guest that is told of console input: it says back what it reads, waits for more without looking, and ends after a
 * full stop.
 */
#include "paravirt/base.h"
#include "paravirt/console.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, PV_CONSOLE_FEATURE_INPUT), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define ROOM_BYTES 16u

static char text[ROOM_BYTES];

int pv_main(void)
{
	struct pv_wish wish = { .service = PV_SERVICE_CONSOLE, .needed = PV_CONSOLE_FEATURE_INPUT };
	uint64_t got = 0;

	if (pv_negotiate(&wish, 1) != PV_STATUS_OK)
		return 1;
	pv_print("listens\n");
	pv_hold();
	while (!got || text[got - 1] != '.') {
		struct pv_answer answer = pv_console_read(text, ROOM_BYTES);

		if (answer.status < 0)
			return 2;
		got = answer.value;
		pv_write(text, got);
		if (got < ROOM_BYTES && (!got || text[got - 1] != '.'))
			pv_idle(PV_DEADLINE_NEVER); /* CON-4 */
	}
	pv_release();
	return 0;
}
