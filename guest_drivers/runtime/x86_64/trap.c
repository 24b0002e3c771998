/* SPDX-License-Identifier: 0BSD
 *
 * Exceptions end the machine with a report; vector 2 is the upcall, 1 and 3 are a debugger's if there is one.
 */
#include "paravirt/base.h"
#include "paravirt/format.h"
#include "paravirt/string.h"
#include "paravirt/system.h"
#include "paravirt/vcpu.h"
#include "runtime.h"

#define EXCEPTIONS 32
#define DEBUG 1
#define BREAKPOINT 3
#define PAGE_FAULT 14
#define TRAP_GATE 0xef00 /* present, DPL 3, type 15: leaves IF alone; IST 0: the running stack */
#define NO_VECTOR 0xffffffffu

static const char *const names[EXCEPTIONS] = {
	"divide error",
	"debug",
	"NMI",
	"breakpoint",
	"overflow",
	"bound range",
	"invalid opcode",
	"no FPU",
	"double fault",
	"coprocessor",
	"invalid TSS",
	"segment not present",
	"stack fault",
	"general protection",
	"page fault",
	"reserved",
	"FPU error",
	"alignment",
	"machine check",
	"SIMD error",
	"virtualization",
	"control",
};

static struct pv_gate gate_to(const char *code, uint16_t selector)
{
	uint64_t entry = (uint64_t)(uintptr_t)code;

	return (struct pv_gate){
		.offset_low = (uint16_t)entry,
		.selector = selector,
		.flags = TRAP_GATE,
		.offset_middle = (uint16_t)(entry >> 16),
		.offset_high = (uint32_t)(entry >> 32),
	};
}

void pv_trap_init(struct pv_gate *idt, uint32_t idt_bytes, uint16_t selector)
{
	for (uint32_t vector = 0; vector < EXCEPTIONS && (vector + 1) * sizeof(*idt) <= idt_bytes; vector++)
		idt[vector] = gate_to(pv_trap_entries + 16 * vector, selector);
	if ((PV_UPCALL_VECTOR + 1) * sizeof(*idt) <= idt_bytes)
		idt[PV_UPCALL_VECTOR] = gate_to(pv_upcall_entry, selector);
}

/* The one report. Claimed before it is filled in: vCPUs may crash together, and one that writes it, too. */
static struct pv_crash_report *claim_report(uint32_t vcpu)
{
	static struct pv_crash_report report;
	static uint32_t owner;
	uint32_t nobody = 0;

	if (!__atomic_compare_exchange_n(&owner, &nobody, vcpu + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		if (nobody == vcpu + 1)
			pv_exit(127);
		for (;;) /* the machine is about to end */
			pv_relax();
	}
	report.vcpu = vcpu;
	return &report;
}

/* Where nobody takes a crash report: the console has to do. */
_Noreturn static void crash(const struct pv_crash_report *report)
{
	if (pv_guest.paravirt)
		pv_system_crash(report);
	pv_print("crash: vCPU %u: %s, error code %lx, rip %lx, rsp %lx\n", report->vcpu, report->text,
		 report->error_code, report->rip, report->registers[7]);
	pv_exit(127);
}

static void copy_registers(uint64_t to[16], const struct pv_frame *frame)
{
	const uint64_t registers[16] = {
		frame->rax, frame->rbx, frame->rcx, frame->rdx, frame->rsi, frame->rdi, frame->rbp, frame->rsp,
		frame->r8,  frame->r9,	frame->r10, frame->r11, frame->r12, frame->r13, frame->r14, frame->r15,
	};

	memcpy(to, registers, sizeof(registers));
}

/* False if there is no debugger. DEBUG is accepted here, so that other guests start without a word about it. */
static bool debugger_takes(const struct pv_frame *frame)
{
	struct pv_debug_frame interrupted = {
		.vector = (uint32_t)frame->vector,
		.rip = frame->rip,
		.rflags = frame->rflags,
	};
	struct pv_wish wish = { .service = PV_SERVICE_SYSTEM, .optional = 1, .wanted = PV_SYSTEM_FEATURE_DEBUG };

	if (!pv_guest.paravirt)
		return false;
	copy_registers(interrupted.registers, frame);
	int64_t status = pv_system_debug(&interrupted);
	if (status == PV_STATUS_NOT_SUPPORTED && pv_negotiate(&wish, 1) == PV_STATUS_OK && wish.accepted)
		status = pv_system_debug(&interrupted);
	return status == PV_STATUS_OK;
}

void pv_trap(struct pv_frame *frame)
{
	struct pv_cpu *cpu = pv_this_cpu();

	if (frame->vector == PV_UPCALL_VECTOR)
		pv_event_end(cpu->page);
	if (frame->vector == PV_UPCALL_NMI || frame->vector == PV_UPCALL_VECTOR) {
		pv_event_upcall(cpu->page);
		return;
	}
	if ((frame->vector == DEBUG || frame->vector == BREAKPOINT) && debugger_takes(frame))
		return;
	struct pv_crash_report *report = claim_report(cpu->index);
	report->vector = (uint32_t)frame->vector;
	report->error_code = frame->error_code;
	copy_registers(report->registers, frame);
	report->rip = frame->rip;
	report->rflags = frame->rflags;
	if (frame->vector == PAGE_FAULT && pv_guest.paravirt) {
		struct pv_answer answer = pv_vcpu_fault_address();

		report->fault_address = answer.status < 0 ? 0 : answer.value;
	}
	const char *name = names[frame->vector % EXCEPTIONS];
	pv_format(report->text, sizeof(report->text), "%s", name ? name : "exception");
	crash(report);
}

void pv_panic(const char *format, ...)
{
	struct pv_crash_report *report = claim_report(pv_this_cpu()->index);
	va_list args;

	report->vector = NO_VECTOR;
	report->rip = (uint64_t)(uintptr_t)__builtin_return_address(0);
	/* RSP once this function has returned: past what its frame begins with, the caller's RBP and that address. */
	report->registers[7] = (uint64_t)(uintptr_t)__builtin_frame_address(0) + 16;
	va_start(args, format);
	pv_vformat(report->text, sizeof(report->text), format, args);
	va_end(args);
	crash(report);
}
