/* SPDX-License-Identifier: 0BSD
 *
 * What the files of the runtime know of each other.
 */
#ifndef PARAVIRT_RUNTIME_H
#define PARAVIRT_RUNTIME_H

#include "paravirt/guest.h"

/* What trap.S pushes, and below it what the CPU does. */
struct pv_frame {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t vector, error_code;
	uint64_t rip, cs, rflags, rsp, ss;
};

struct pv_gate {
	uint16_t offset_low;
	uint16_t selector;
	uint16_t flags;
	uint16_t offset_middle;
	uint32_t offset_high;
	uint32_t reserved;
};

/* The other host: what stands in for our services on a machine that only boots PVH images. */
struct pv_plain_range {
	uint64_t gpa;
	uint64_t size_bytes;
};

/* Takes over what it needs of hvm_start_info; the largest range of RAM below 4 GiB is returned. */
struct pv_plain_range pv_plain_init(const void *start_info);
void pv_plain_write(const char *text, uint64_t size_bytes);
_Noreturn void pv_plain_exit(int status);
uint64_t pv_plain_now_ns(void);
uint64_t pv_plain_wall_ns(void);
const char *pv_plain_command_line(void);

/* discover.c: CPUID */
struct pv_discovery {
	uint16_t trap_port; /* 0: no Paravirt host */
	uint16_t doorbell_port;
	uint64_t boot_info_gpa;
};
extern struct pv_discovery pv_discovered;
void pv_discover(void);

/* trap.c */
#define PV_PVH_CODE_USER 0x23 /* selector of pvh.S */
extern struct pv_gate pv_idt[256]; /* for hosts that make none */
void pv_trap_init(struct pv_gate *idt, uint32_t idt_bytes, uint16_t selector);
void pv_trap(struct pv_frame *frame);

/* memory.c */
void pv_take_from(uint64_t gpa, uint64_t size_bytes);

extern char pv_boot_stack[], pv_boot_stack_end[], pv_image_start[], pv_image_end[], pv_trap_entries[],
	pv_upcall_entry[];
void pv_cpu_entry(void);

#endif
