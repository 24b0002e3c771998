/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What boot.c and boot_info.c know of a boot together.
 */
#ifndef PARAVIRT_BOOT_H
#define PARAVIRT_BOOT_H

#include "tables.h"

struct pv_layout {
	uint64_t host_gpa; /* begin of the host's area */
	uint64_t vcpu_gpa;
	uint64_t time_gpa;
	uint64_t continuity_gpa; /* 0: the machine tells of nothing */
	uint64_t info_gpa;
	uint64_t start_gpa; /* PVH's start info, for a plain guest */
	uint64_t idt_gpa;
	uint64_t gdt_gpa;
	uint64_t tss_gpa;
	uint64_t tables_gpa;
	uint64_t end_gpa; /* of the area */
	uint32_t info_bytes; /* room for the boot information, and for the start info */
	uint32_t table_pages;
	uint32_t privilege;
};

/* Never less than pv_boot_info_write will need. */
uint64_t pv_boot_info_bytes(const struct pv_machine *machine, const struct pv_boot *boot);
/* Writes the boot information into guest memory and keeps the machine's copy; false: no memory for that. */
bool pv_boot_info_write(struct pv_machine *machine, const struct pv_boot *boot, const struct pv_layout *at);

#endif
