/* SPDX-License-Identifier: 0BSD
 *
 * Gates: exceptions that a case expects, upcalls, and an end for what nobody expected.
 */
#include "conformance.h"

#define EXCEPTIONS 32u
#define ENTRY_BYTES 32u /* of entry.S */
#define TRAP_GATE 0xef00 /* present, DPL 3, type 15: leaves IF alone; IST 0 (BOOT-5) */
#define APIC_EOI 0xfee000b0u /* BOOT-11 */

struct gate {
	uint16_t offset_low;
	uint16_t selector;
	uint16_t flags;
	uint16_t offset_middle;
	uint32_t offset_high;
	uint32_t reserved;
};

extern const char cf_exception_entries[], cf_upcall_entry[];
void cf_upcall(uint64_t vector);
_Noreturn void cf_unexpected(uint64_t vector, const uint64_t *frame);

bool cf_has_gates, cf_no_gates_at_first;
uint32_t cf_upcalls[CF_VCPUS];
void (*volatile cf_on_upcall)(uint32_t vcpu, uint32_t vector);
volatile bool cf_keep_interrupt;

static void set_gate(struct gate *gate, const char *code, uint16_t selector)
{
	uint64_t entry = pv_gpa(code);

	*gate = (struct gate){
		.offset_low = (uint16_t)entry,
		.selector = selector,
		.flags = TRAP_GATE,
		.offset_middle = (uint16_t)(entry >> 16),
		.offset_high = (uint32_t)(entry >> 32),
	};
}

void cf_gates_init(void)
{
	const struct pv_boot_tables *tables = cf_boot.tables;

	if (!tables || tables->idt_bytes < (CF_VECTOR + 1) * sizeof(struct gate))
		return;
	struct gate *idt = pv_at(tables->idt_gpa);
	const uint8_t *bytes = (const uint8_t *)idt;
	cf_no_gates_at_first = true;
	for (uint32_t i = 0; i < tables->idt_bytes; i++)
		cf_no_gates_at_first &= !bytes[i];
	for (uint32_t vector = 0; vector < EXCEPTIONS; vector++)
		set_gate(&idt[vector], cf_exception_entries + vector * ENTRY_BYTES, tables->code_selector);
	set_gate(&idt[CF_VECTOR], cf_upcall_entry, tables->code_selector);
	cf_has_gates = true;
}

void cf_end_of_interrupt(void)
{
	*(volatile uint32_t *)(uintptr_t)APIC_EOI = 0;
}

void cf_upcall(uint64_t vector)
{
	uint32_t vcpu = cf_this_vcpu();
	void (*also)(uint32_t vcpu, uint32_t vector) = cf_on_upcall;

	if (vector == CF_VECTOR && !cf_keep_interrupt)
		cf_end_of_interrupt();
	if (also)
		also(vcpu, (uint32_t)vector);
	__atomic_fetch_add(&cf_upcalls[vcpu], 1, __ATOMIC_SEQ_CST);
}

/* frame: error code (0 if the exception has none), RIP, CS, RFLAGS, RSP, SS */
void cf_unexpected(uint64_t vector, const uint64_t *frame)
{
	cf_bail_out("exception %lu, error code %lx, at %lx, on vCPU %u", vector, frame[0], frame[1], cf_this_vcpu());
}
