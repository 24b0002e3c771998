/* SPDX-License-Identifier: 0BSD
 *
 * The smallest guest.
 */
#include "paravirt/guest.h"
#include "paravirt/notes.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

int pv_main(void)
{
	pv_print("hello from a paravirt guest\n");
	return 0;
}
