/* SPDX-License-Identifier: 0BSD
 *
 * A guest that never ends by itself and makes no exits: hosts must be able to stop it.
 */
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/vcpu.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

int pv_main(void)
{
	pv_print("spin: from now on nothing happens\n");
	for (;;)
		pv_relax();
}
