/* SPDX-License-Identifier: 0BSD
 *
 * A guest of the service lookup: lists the table, then looks a name up.
 *
 *   paravirt extension header lookup > lookup.h
 *   paravirt build uses_lookup.c
 *   paravirt run uses_lookup.elf --extension lookup:one=1,two=2
 */
#include "lookup.h"

#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/status.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0), PV_NEED(PV_SERVICE_LOOKUP, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

static struct pv_lookup_entry entries[4];
static const char two[] = "two", nine[] = "nine";

int pv_main(void)
{
	struct pv_answer answer = pv_call(PV_CALL_LOOKUP_ENTRIES, 0, pv_gpa(entries), 4, 0, 0, 0);

	for (uint64_t i = 0; answer.status == PV_STATUS_OK && i < answer.value; i++)
		pv_print("%s is %lu\n", entries[i].name, (unsigned long)entries[i].number);
	answer = pv_call(PV_CALL_LOOKUP_FIND, pv_gpa(two), 3, 0, 0, 0, 0);
	pv_print("two: %s %lu\n", pv_status_name(answer.status), (unsigned long)answer.value);
	answer = pv_call(PV_CALL_LOOKUP_FIND, pv_gpa(nine), 4, 0, 0, 0, 0);
	pv_print("nine: %s\n", pv_status_name(answer.status));
	return 0;
}
