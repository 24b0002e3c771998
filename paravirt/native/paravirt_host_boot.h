/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The part of paravirt_host.h, which includes it, about images and boot on x86-64.  A host with a loader and
 * a layout of its own needs none of it.
 */
#ifndef PARAVIRT_HOST_BOOT_H
#define PARAVIRT_HOST_BOOT_H

#include "paravirt_host.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifndef PV_HOST_PRIVATE
#pragma GCC visibility push(default)
#endif

#define PV_MAX_SEGMENTS 16
#define PV_MAX_REQUIRED 32

/* A part of an image: bytes of the file at gpa, then zeros up to memory_bytes. */
struct pv_segment {
	uint64_t gpa;
	uint64_t memory_bytes;
	const uint8_t *data; /* in the file */
	uint64_t data_bytes;
	uint32_t flags; /* of ELF: 1 executable, 2 writable, 4 readable */
};

/* An ELF image, checked. What no note says is as if it said the least. */
struct pv_image {
	uint64_t entry_gpa;
	struct pv_segment segments[PV_MAX_SEGMENTS]; /* in order; they do not overlap */
	uint32_t segment_count;
	uint32_t plain; /* 1: none of our notes, entered by PVH (NOTE-4) */
	uint32_t privilege; /* PV_PRIVILEGE_ */
	uint32_t cpu_level; /* PV_CPU_LEVEL_ */
	uint32_t version; /* of the ABI, major << 16 | minor; 0: none is required */
	struct pv_note_service required[PV_MAX_REQUIRED];
	uint32_t required_count;
	struct pv_note_device devices[PV_MAX_DEVICES]; /* its manifest */
	uint32_t device_count;
};

/* Looks at a file that does not change while the image is used. NULL, or why it is refused (BOOT-14, NOTE-1 to 6). */
const char *pv_image_parse(struct pv_image *image, const void *file, uint64_t size_bytes);
/*
 * NULL, or what the image requires and the machine does not offer (NOTE-3, NOTE-5, NOTE-7). Once all is offered.
 * Yours to see to: that the CPU has image->cpu_level (NOTE-9), that a READ_ONLY device cannot be written (NOTE-10).
 */
const char *pv_image_check(const struct pv_image *image, const struct pv_machine *machine);

/* The entropy devices of the image's manifest (pv_entropy_create), one if it is plain. False: no room or memory. */
bool pv_entropy_offer(struct pv_machine *machine, const struct pv_image *image);

struct pv_boot {
	const struct pv_image *image;
	uint32_t privilege; /* for an image that leaves it to the host: PV_PRIVILEGE_USER or _SUPERVISOR */
	uint16_t trap_port; /* of four ports, like the doorbell's: up to 0xfcb4, and apart */
	uint16_t doorbell_port;
	const char *command_line; /* NULL: empty */
	const char *name; /* of the machine; NULL: empty */
	uint8_t uuid[16];
};

/* A segment register or descriptor table as it is loaded. */
struct pv_table {
	uint64_t base_gpa;
	uint32_t limit;
	uint16_t selector;
};

/* How the boot vCPU begins; other registers are as after a reset, or zero. */
struct pv_entry_state {
	uint64_t rip, rdi, rbx, rflags;
	uint64_t cr0, cr3, cr4, efer;
	uint64_t xcr0; /* 0: no XSAVE (BOOT-10) */
	uint16_t code_selector, data_selector; /* flat, accessed; granularity of 4 KiB */
	uint8_t wide; /* code of 64 bits; 0: of 32 */
	uint8_t level; /* CPL */
	struct pv_table gdt, idt, task; /* the task's segment is a busy TSS, type 11 */
};

/*
 * Puts the image, tables, pages and boot information into memory that is zero and whose first region begins
 * at zero, of which it takes the end; machine's pages and base.boot_info with it. NULL, or what is wrong.
 * Virtio-mmio windows are mapped; the local APIC's page is (BOOT-11). Once all is offered.
 */
const char *pv_boot(struct pv_machine *machine, const struct pv_boot *boot, struct pv_entry_state *entry);
/* Leaf n of our range of CPUID (0 to PV_CPUID_LEAVES) at base: EAX, EBX, ECX, EDX (CPUID-1). After pv_boot. */
void pv_boot_cpuid(const struct pv_machine *machine, uint32_t base, uint32_t n, uint32_t words[4]);

#ifndef PV_HOST_PRIVATE
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
