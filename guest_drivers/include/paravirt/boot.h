/* SPDX-License-Identifier: 0BSD
 *
 * Reading the boot information: records of type, length and value.  Makes no calls and keeps
 * pointers into the information, which stays where the host put it.
 */
#ifndef PARAVIRT_BOOT_H
#define PARAVIRT_BOOT_H

#include <stdint.h>

#include "paravirt_abi.h"

/* What the records said; NULL or 0 where there was none. */
struct pv_boot {
	const struct pv_boot_abi *abi;
	const struct pv_boot_memory *memory;
	uint32_t memory_count;
	uint32_t vcpus;
	const struct pv_boot_pages *pages;
	const struct pv_boot_tables *tables;
	const struct pv_boot_machine *machine;
	const char *command_line;
	const uint8_t *seed;
	uint32_t seed_bytes;
	uint32_t refused_type; /* the first mandatory record that is not known here */
};

/*
 * OK; INVALID if a record does not fit or is too short for its type; NOT_SUPPORTED if a mandatory
 * record is not known (BOOT-3), another major version speaks, or a record that every guest needs
 * (ABI, PAGES, MEMORY_MAP, VCPUS) is missing.  Whatever the answer, `boot->abi` is set if that record
 * was readable, so that the guest can still say why it does not run.
 */
int64_t pv_boot_parse(struct pv_boot *boot, const void *info, uint64_t room_bytes);

#endif
