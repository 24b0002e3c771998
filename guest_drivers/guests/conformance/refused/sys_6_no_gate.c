/* SPDX-License-Identifier: 0BSD
 *
 * An exception that no gate takes: the machine ends, and not with success.  An image that reports nothing unless
 * it goes on.
 */
#include "../support/conformance.h"
#include "paravirt/notes.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

static void fault(void)
{
	if (cf_boot.tables)
		for (uint32_t i = 0; i < cf_boot.tables->idt_bytes / 8; i++)
			((uint64_t *)pv_at(cf_boot.tables->idt_gpa))[i] = 0;
	__asm__ volatile("ud2\n\tnop");
	cf_true(false, "SYS-6 a vCPU that cannot go on ends the machine");
}

CF_CHAPTER(fault, fault);
