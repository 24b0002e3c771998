// SPDX-License-Identifier: BSD-2-Clause
/*
 * Boot of an image (chapter boot; one without our notes by PVH): where everything lies, what is mapped, how the boot vCPU
 * begins.  The boot information itself is boot_info.c's, the tables' bits are tables.c's.
 *
 * The host's area is the end of the first region: what is shared for good first, then what the CPU reads.
 */
#include <string.h>

#include "boot.h"

#define LOCAL_APIC_GPA 0xfee00000
#define DATA (PV_MAP_PRESENT | PV_MAP_WRITABLE | PV_MAP_USER | PV_MAP_NO_EXECUTE)
#define READ_ONLY (PV_MAP_PRESENT | PV_MAP_USER | PV_MAP_NO_EXECUTE)
#define SYSTEM (PV_MAP_PRESENT | PV_MAP_WRITABLE | PV_MAP_NO_EXECUTE)
#define DEVICE (DATA | PV_MAP_UNCACHED)
#define EXECUTABLE 1
#define WRITABLE 2

#define CR0_LONG 0x80010033 /* PE MP ET NE WP PG */
#define CR4_LONG 0x00000620 /* PAE OSFXSR OSXMMEXCPT */
#define CR4_OSXSAVE 0x00040000
#define EFER_LONG 0xd00 /* LME LMA NXE */
#define FLAGS 0x3202 /* IOPL 3, IF, and the bit that is always set */
#define X87_SSE_AVX 0x7
#define AVX512 0xe0

/* Never less than what maps the machine: large pages but where something begins or ends. */
static uint32_t table_pages(const struct pv_machine *machine, const struct pv_image *image)
{
	uint32_t gigabytes = 3; /* of the APIC's and windows', and one for what begins within one */
	uint32_t ends = image->segment_count + machine->device_count + 6; /* host's area, APIC, page zero */

	for (uint32_t i = 0; i < machine->memory.count; i++) {
		gigabytes += (uint32_t)(machine->memory.regions[i].size_bytes >> 30) + 2;
		ends++;
	}
	return 1 + gigabytes / 512 + 2 + machine->memory.count + gigabytes + 2 * ends;
}

static uint64_t pages(uint64_t size_bytes)
{
	return (size_bytes + PV_PAGE_BYTES - 1) & ~(PV_PAGE_BYTES - 1);
}

static bool tells(const struct pv_machine *machine)
{
	return machine->offered[PV_SERVICE_CONTINUITY] & PV_CONTINUITY_FEATURE_NOTIFY;
}

static const char *place(const struct pv_machine *machine, const struct pv_boot *boot, struct pv_layout *at)
{
	const struct pv_region *low = &machine->memory.regions[0];

	if (!machine->memory.count || low->gpa || low->size_bytes % PV_PAGE_BYTES)
		return "memory does not begin with a region of whole pages at zero";
	at->table_pages = table_pages(machine, boot->image);
	at->info_bytes = (uint32_t)pages(pv_boot_info_bytes(machine, boot));
	uint64_t start_bytes = boot->image->plain ? at->info_bytes : 0; /* holds less of the same */
	uint64_t told = tells(machine) ? PV_PAGE_BYTES : 0;
	uint64_t shared = (machine->vcpu_count + 1) * PV_PAGE_BYTES + told + at->info_bytes + start_bytes;
	uint64_t kept = shared + (2 + PV_TSS_PAGES + at->table_pages) * PV_PAGE_BYTES; /* IDT, GDT, TSS */

	if (at->info_bytes > PV_LIMIT_BOOT_INFO_BYTES)
		return "the boot information would be larger than 64 KiB; shorten the command line";
	if (kept + PV_PAGE_BYTES > low->size_bytes)
		return "there is not enough memory for the host's own tables";
	at->end_gpa = low->size_bytes;
	at->host_gpa = at->vcpu_gpa = low->size_bytes - kept;
	at->time_gpa = at->vcpu_gpa + machine->vcpu_count * PV_PAGE_BYTES;
	at->continuity_gpa = told ? at->time_gpa + PV_PAGE_BYTES : 0;
	at->info_gpa = at->time_gpa + PV_PAGE_BYTES + told;
	at->start_gpa = at->info_gpa + at->info_bytes;
	at->idt_gpa = at->start_gpa + start_bytes;
	at->gdt_gpa = at->idt_gpa + PV_PAGE_BYTES;
	at->tss_gpa = at->gdt_gpa + PV_PAGE_BYTES;
	at->tables_gpa = at->tss_gpa + PV_TSS_PAGES * PV_PAGE_BYTES;
	return NULL;
}

static const char *load(struct pv_machine *machine, const struct pv_image *image, const struct pv_layout *at)
{
	for (uint32_t i = 0; i < image->segment_count; i++) {
		const struct pv_segment *s = &image->segments[i];
		uint8_t *hva = pv_memory_at(&machine->memory, s->gpa, s->memory_bytes);

		if (!hva || (s->gpa + s->memory_bytes > at->host_gpa && s->gpa < at->end_gpa))
			return "a segment of the image does not lie in memory below the host's area (BOOT-14)";
		memcpy(hva, s->data, s->data_bytes);
		memset(hva + s->data_bytes, 0, s->memory_bytes - s->data_bytes); /* BOOT-15 */
	}
	return NULL;
}

static bool map(struct pv_machine *machine, const struct pv_image *image, const struct pv_layout *at)
{
	struct pv_page_tables tables;
	bool mapped = true;

	pv_page_tables_init(&tables, at->tables_gpa, pv_memory_at(&machine->memory, at->tables_gpa, PV_PAGE_BYTES),
			    at->table_pages);
	for (uint32_t i = 0; i < machine->memory.count; i++) {
		const struct pv_region *r = &machine->memory.regions[i];

		mapped = mapped && pv_page_tables_map(&tables, r->gpa, r->size_bytes, DATA);
	}
	for (uint32_t i = 0; i < image->segment_count; i++) { /* BOOT-4 */
		const struct pv_segment *s = &image->segments[i];
		uint64_t flags = PV_MAP_PRESENT | PV_MAP_USER | (s->flags & WRITABLE ? PV_MAP_WRITABLE : 0) |
				 (s->flags & EXECUTABLE ? 0 : PV_MAP_NO_EXECUTE);

		mapped = mapped && pv_page_tables_map(&tables, s->gpa, s->memory_bytes, flags);
	}
	for (uint32_t i = 0; i < machine->device_count; i++)
		if (machine->devices[i]->mmio)
			mapped = mapped &&
				 pv_page_tables_map(&tables, machine->devices[i]->mmio_gpa, PV_PAGE_BYTES, DEVICE);
	return mapped && pv_page_tables_map(&tables, 0, PV_PAGE_BYTES, 0) && /* BOOT-2 */
	       pv_page_tables_map(&tables, LOCAL_APIC_GPA, PV_PAGE_BYTES, DEVICE) && /* BOOT-11 */
	       pv_page_tables_map(&tables, at->time_gpa, at->idt_gpa - at->time_gpa, READ_ONLY) &&
	       pv_page_tables_map(&tables, at->gdt_gpa, at->tables_gpa - at->gdt_gpa, SYSTEM) &&
	       pv_page_tables_map(&tables, at->tables_gpa, at->end_gpa - at->tables_gpa, 0);
}

/* BOOT-10. */
static uint64_t vectors(uint32_t cpu_level)
{
	return cpu_level < PV_CPU_LEVEL_V3 ? 0 : cpu_level < PV_CPU_LEVEL_V4 ? X87_SSE_AVX : X87_SSE_AVX | AVX512;
}

static void enter(struct pv_entry_state *entry, const struct pv_boot *boot, const struct pv_layout *at,
		  uint32_t tss_bytes)
{
	bool user = at->privilege == PV_PRIVILEGE_USER;

	*entry = (struct pv_entry_state){
		.rip = boot->image->entry_gpa,
		.rdi = at->info_gpa,
		.rflags = FLAGS,
		.cr0 = CR0_LONG,
		.cr3 = at->tables_gpa,
		.cr4 = CR4_LONG,
		.efer = EFER_LONG,
		.xcr0 = vectors(boot->image->cpu_level),
		.code_selector = user ? 0x23 : 0x08,
		.data_selector = user ? 0x1b : 0x10,
		.wide = 1,
		.level = user ? 3 : 0,
		.gdt = { .base_gpa = at->gdt_gpa, .limit = PV_GDT_BYTES - 1 },
		.idt = { .base_gpa = at->idt_gpa, .limit = PV_PAGE_BYTES - 1 },
		.task = { .base_gpa = at->tss_gpa, .limit = tss_bytes - 1, .selector = PV_TSS_SELECTOR },
	};
	if (entry->xcr0)
		entry->cr4 |= CR4_OSXSAVE;
}

/* By PVH: 32-bit protected mode, paging off. */
static void enter_plain(struct pv_entry_state *entry, const struct pv_boot *boot, const struct pv_layout *at)
{
	*entry = (struct pv_entry_state){
		.rip = boot->image->entry_gpa,
		.rbx = at->start_gpa,
		.rflags = 2, /* the bit that is always set */
		.cr0 = 0x11, /* PE ET */
		.code_selector = 0x08,
		.data_selector = 0x10,
		.task = { .limit = 0x67 },
	};
}

/* Each is of four ports, which the TSS opens. */
static const char *check_ports(uint32_t trap, uint32_t doorbell)
{
	if (trap > PV_TSS_PORT_MOST || doorbell > PV_TSS_PORT_MOST)
		return "the port of the trap or the doorbell is above 0xfcb4";
	return trap < doorbell + 4 && doorbell < trap + 4 ? "the ports of trap and doorbell overlap" : NULL;
}

const char *pv_boot(struct pv_machine *machine, const struct pv_boot *boot, struct pv_entry_state *entry)
{
	struct pv_layout at = { .privilege = boot->image->privilege };
	const char *wrong = check_ports(boot->trap_port, boot->doorbell_port);

	if (!wrong)
		wrong = place(machine, boot, &at);
	if (boot->image->plain)
		at.privilege = PV_PRIVILEGE_SUPERVISOR;
	if (at.privilege == PV_PRIVILEGE_ANY)
		at.privilege = boot->privilege;
	if (!wrong && at.privilege != PV_PRIVILEGE_USER && at.privilege != PV_PRIVILEGE_SUPERVISOR)
		wrong = "neither the image nor the host says at which privilege to enter it";
	if (!wrong)
		wrong = pv_image_check(boot->image, machine);
	if (!wrong)
		wrong = load(machine, boot->image, &at);
	if (!wrong && !boot->image->plain && !map(machine, boot->image, &at))
		wrong = "there is not enough memory for page tables";
	if (!wrong && !pv_boot_info_write(machine, boot, &at))
		wrong = "there is no memory for the boot information";
	if (wrong)
		return wrong;
	pv_machine_pages(machine, at.time_gpa, at.vcpu_gpa);
	if (at.continuity_gpa)
		pv_machine_continuity(machine, at.continuity_gpa);
	if (boot->image->plain) {
		enter_plain(entry, boot, &at);
		return NULL;
	}
	uint32_t tss_bytes = pv_tss_fill(pv_memory_at(&machine->memory, at.tss_gpa, PV_TSS_PAGES * PV_PAGE_BYTES),
					 boot->trap_port, boot->doorbell_port);
	pv_gdt_fill(pv_memory_at(&machine->memory, at.gdt_gpa, PV_GDT_BYTES), at.tss_gpa, tss_bytes);
	enter(entry, boot, &at, tss_bytes);
	return NULL;
}
