/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Tables of the x86-64 that the host builds in guest memory: page tables that map one to one, GDT, TSS.
 */
#ifndef PARAVIRT_TABLES_H
#define PARAVIRT_TABLES_H

#include "host.h"

#define PV_LARGE_PAGE_BYTES (2ull << 20)

#define PV_MAP_PRESENT (1ull << 0)
#define PV_MAP_WRITABLE (1ull << 1)
#define PV_MAP_USER (1ull << 2)
#define PV_MAP_UNCACHED (1ull << 4)
#define PV_MAP_NO_EXECUTE (1ull << 63)

#define PV_GDT_BYTES 56
#define PV_TSS_SELECTOR 0x28
#define PV_TSS_PAGES 2
#define PV_TSS_PORT_MOST 0xfcb4 /* with its bitmap up to this port's fourth a TSS fills its pages */

/* Page tables that grow into an area of guest memory. */
struct pv_page_tables {
	uint64_t gpa; /* of the area, and of the root in it */
	uint8_t *hva;
	uint32_t pages; /* of the area */
	uint32_t used;
};

/* In an area that is zero and a page at least. */
void pv_page_tables_init(struct pv_page_tables *tables, uint64_t gpa, void *hva, uint32_t pages);
/* Maps the pages that hold a range one to one; what was there is replaced. flags 0: not mapped. False: no room. */
bool pv_page_tables_map(struct pv_page_tables *tables, uint64_t gpa, uint64_t size_bytes, uint64_t flags);

/* Null, code and data of CPL 0, data and code of CPL 3, the TSS: PV_GDT_BYTES of it. */
void pv_gdt_fill(uint64_t gdt[7], uint64_t tss_gpa, uint32_t tss_bytes);
/* A TSS whose port bitmap opens four ports from each of two on; its bytes. Neither is above PV_TSS_PORT_MOST. */
uint32_t pv_tss_fill(uint8_t *tss, uint16_t trap_port, uint16_t doorbell_port);

#endif
