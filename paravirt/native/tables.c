// SPDX-License-Identifier: BSD-2-Clause
/*
 * Tables of the x86-64, built straight in guest memory before any vCPU runs: page tables with large pages
 * where a whole 2 MiB has one set of flags, the GDT, and the TSS with its port bitmap.
 */
#include <string.h>

#include "tables.h"

#define LARGE (1ull << 7)
#define ADDRESS 0x000ffffffffff000ull
#define TABLE (PV_MAP_PRESENT | PV_MAP_WRITABLE | PV_MAP_USER)
#define TSS_HEAD_BYTES 104
#define BUSY_TSS 0x8bull /* present, type 11 */

void pv_page_tables_init(struct pv_page_tables *tables, uint64_t gpa, void *hva, uint32_t pages)
{
	*tables = (struct pv_page_tables){ .gpa = gpa, .hva = hva, .pages = pages, .used = 1 };
}

static uint64_t *page_at(const struct pv_page_tables *tables, uint64_t gpa)
{
	return (void *)(tables->hva + (gpa - tables->gpa));
}

/* The table that an entry leads to, made if there is none; a large page is split. NULL: no room. */
static uint64_t *child(struct pv_page_tables *tables, uint64_t *entry)
{
	uint64_t before = *entry;

	if (before & PV_MAP_PRESENT && !(before & LARGE))
		return page_at(tables, before & ADDRESS);
	if (tables->used == tables->pages)
		return NULL;
	uint64_t gpa = tables->gpa + tables->used++ * PV_PAGE_BYTES;
	uint64_t *page = page_at(tables, gpa);

	*entry = gpa | TABLE;
	for (uint32_t i = 0; before && i < 512; i++)
		page[i] = (before & ~LARGE) + i * PV_PAGE_BYTES;
	return page;
}

bool pv_page_tables_map(struct pv_page_tables *tables, uint64_t gpa, uint64_t size_bytes, uint64_t flags)
{
	uint64_t at = gpa & ~(PV_PAGE_BYTES - 1), end = gpa + size_bytes;

	while (at < end) {
		uint64_t *table = page_at(tables, tables->gpa);

		for (uint32_t shift = 39; table && shift > 21; shift -= 9)
			table = child(tables, &table[at >> shift & 511]);
		if (!table)
			return false;
		uint64_t *entry = &table[at >> 21 & 511];
		if (at % PV_LARGE_PAGE_BYTES == 0 && end - at >= PV_LARGE_PAGE_BYTES) {
			*entry = flags ? at | flags | LARGE : 0;
			at += PV_LARGE_PAGE_BYTES;
			continue;
		}
		table = child(tables, entry);
		if (!table)
			return false;
		table[at >> 12 & 511] = flags ? at | flags : 0;
		at += PV_PAGE_BYTES;
	}
	return true;
}

/* Flat; present and accessed. */
static uint64_t flat(bool code, uint64_t level)
{
	uint64_t access = (code ? 0x9bull : 0x93ull) | level << 5;
	uint64_t size = code ? 0xaull : 0xcull; /* 4 KiB granularity; 64-bit code */

	return 0xffff | access << 40 | 0xfull << 48 | size << 52;
}

void pv_gdt_fill(uint64_t gdt[7], uint64_t tss_gpa, uint32_t tss_bytes)
{
	uint64_t limit = tss_bytes - 1;

	gdt[0] = 0;
	gdt[1] = flat(true, 0);
	gdt[2] = flat(false, 0);
	gdt[3] = flat(false, 3);
	gdt[4] = flat(true, 3);
	gdt[5] = (limit & 0xffff) | (tss_gpa & 0xffffff) << 16 | BUSY_TSS << 40 | (limit >> 16 & 0xf) << 48 |
		 (tss_gpa >> 24 & 0xff) << 56;
	gdt[6] = tss_gpa >> 32;
}

uint32_t pv_tss_fill(uint8_t *tss, uint16_t trap_port, uint16_t doorbell_port)
{
	const uint16_t ports[] = { trap_port, doorbell_port };
	uint32_t last = (trap_port > doorbell_port ? trap_port : doorbell_port) + 3u;
	uint32_t bitmap_bytes = last / 8 + 2; /* and the byte of ones that ends it */
	uint16_t bitmap_at = TSS_HEAD_BYTES;

	memset(tss, 0, TSS_HEAD_BYTES);
	memcpy(tss + 102, &bitmap_at, sizeof(bitmap_at));
	memset(tss + TSS_HEAD_BYTES, 0xff, bitmap_bytes);
	for (uint32_t i = 0; i < 2; i++)
		for (uint32_t port = ports[i]; port < ports[i] + 4u; port++)
			tss[TSS_HEAD_BYTES + port / 8] &= (uint8_t) ~(1u << port % 8);
	return TSS_HEAD_BYTES + bitmap_bytes;
}
