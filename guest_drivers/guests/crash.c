/* SPDX-License-Identifier: 0BSD
 *
 * Crashes in the way that the command line names: page (the default), text, opcode, divide, breakpoint,
 * protection, stack, panic, vcpu (a page fault
 * of vCPU 1).
 */
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "paravirt/vcpu.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0), PV_NEED(PV_SERVICE_VCPU, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

static void page(void *argument)
{
	(void)argument;
	__asm__ volatile("movl $1, 0x10"); /* page zero is not mapped (BOOT-2) */
}

static void text(void)
{
	__asm__ volatile("movb $0x90, pv_main"); /* code is not writable (BOOT-4) */
}

static void on_another_vcpu(void)
{
	int64_t status = pv_cpu_start(1, page, NULL);

	if (status < 0)
		pv_panic("vCPU 1 does not start: %ld", status);
	for (;;)
		pv_relax();
}

int pv_main(void)
{
	const char *how = pv_guest.command_line;

	pv_print("crash: %s\n", *how ? how : "page");
	if (!strcmp(how, "text"))
		text();
	else if (!strcmp(how, "opcode"))
		__asm__ volatile("ud2");
	else if (!strcmp(how, "divide"))
		__asm__ volatile("divl %0" : : "r"(0), "a"(1), "d"(0));
	else if (!strcmp(how, "breakpoint"))
		__asm__ volatile("int3");
	else if (!strcmp(how, "protection"))
		__asm__ volatile("movq (%0), %%rax" : : "r"(1ull << 63) : "rax"); /* not canonical */
	else if (!strcmp(how, "stack"))
		__asm__ volatile("xorl %%esp, %%esp; pushq %%rax" : : : "memory"); /* nothing left to report with */
	else if (!strcmp(how, "panic"))
		pv_panic("wanted, with\na control character and %s", "an argument");
	else if (!strcmp(how, "vcpu"))
		on_another_vcpu();
	else
		page(NULL);
	pv_print("crash: still here\n");
	return 1;
}
