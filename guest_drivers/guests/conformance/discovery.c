/* SPDX-License-Identifier: 0BSD
 *
 * Chapter discovery: the state a guest is entered in, the boot information, memory, CPUID.  First of all
 * chapters, for it looks at memory that nobody has used yet.
 */
#include "paravirt/string.h"
#include "support/conformance.h"

#define SAMPLES 64u /* pages of RAM that are looked at, of each range */
#define FLAGS_IF 0x200
#define FLAGS_DF 0x400
#define APIC_SVR 0xfee000f0u
#define APIC_ON 0x100
#define CR4_OSXSAVE 0x40000

static void entry_state(void)
{
	const struct cf_registers *r = &cf_at_entry;
	uint64_t cs;

	cf_case("NOTE-8 the privilege of the record ABI is that of CS");
	__asm__ volatile("movq %%cs, %0" : "=r"(cs));
	cf_expect(cf_boot.abi->privilege, cs & 3 ? PV_PRIVILEGE_USER : PV_PRIVILEGE_SUPERVISOR, "privilege");

	cf_case("BOOT-1 registers and flags at entry");
	if (!r->valid) {
		cf_skip("another start code");
		return;
	}
	cf_expect((int64_t)r->general[CF_RDI], (int64_t)pv_gpa(cf_info), "RDI");
	cf_expect((int64_t)r->general[CF_RDI] & 7, 0, "RDI, bits 2:0");
	for (uint32_t i = 0; i < 16; i++)
		if (i != CF_RDI)
			cf_expect((int64_t)r->general[i], 0, "a general register");
	cf_expect((int64_t)r->rflags & (FLAGS_IF | FLAGS_DF), FLAGS_IF, "IF and DF");
	cf_case("BOOT-10 x87 and SSE at entry");
	cf_expect(r->fcw, 0x37f, "FCW");
	if (cf_user()) /* see entry.S */
		cf_expect(r->mxcsr, 0x1f80, "MXCSR");
}

static uint32_t never_written[CF_PAGE]; /* BOOT-15; of more than one page */

static void read_counter(void *argument)
{
	__asm__ volatile("rdtsc" : "=a"(*(uint32_t *)argument) : : "rdx");
}

/* BOOT-13, before anything is started or chosen. */
static void first_state(void)
{
	uint32_t counter = 0, found = 0;
	uint64_t flat;

	cf_case("BOOT-13 vCPU 0 runs, the others are STOPPED, upcalls are off, RDTSC is allowed");
	cf_expect(cf_boot.abi->vcpu, 0, "the vCPU of the record ABI");
	cf_expect(cf_page(0)->state, PV_VCPU_STATE_RUNNING, "the state of vCPU 0");
	for (uint32_t i = 1; i < cf_vcpus(); i++) {
		cf_expect(cf_page(i)->state, PV_VCPU_STATE_STOPPED, "the state of another");
		if (cf_offered(PV_SERVICE_VCPU))
			cf_expect((int64_t)pv_call1(PV_CALL_VCPU_STATE, i).value, PV_VCPU_STATE_STOPPED,
				  "as asked for");
	}
	if (cf_has_gates) {
		cf_want(cf_no_gates_at_first, "the interrupt table is empty");
		cf_expect(cf_try(read_counter, &counter), 0, "exception of RDTSC");
	}
	if (cf_offered(PV_SERVICE_EVENT)) {
		pv_call2(PV_CALL_EVENT_SEND, 0, CF_CHANNEL);
		cf_wait_ns(CF_SECOND / 500);
		cf_expect((int64_t)(cf_page(0)->upcalls + cf_upcalls[0]), 0, "upcalls");
		CF_STORE(cf_page(0)->pending[0], 0);
		CF_STORE(cf_page(0)->upcall_pending, 0);
	}
	__asm__ volatile("movq %%ds:(%1), %0" : "=r"(flat) : "r"(cf_info));
	cf_expect((int64_t)flat, (int64_t)cf_info->magic, "what DS reaches");
	__asm__ volatile("movq %%ss:(%1), %0" : "=r"(flat) : "r"(cf_info));
	cf_expect((int64_t)flat, (int64_t)cf_info->magic, "what SS reaches");
	cf_case("BOOT-15 what a segment has beyond its bytes in the file is zero");
	for (uint32_t i = 0; i < CF_COUNT(never_written); i += cf_user() ? 1 : 17)
		found |= __atomic_load_n(&never_written[i], __ATOMIC_RELAXED);
	cf_expect(found, 0, "all of its words together");
}

static void use_sse(void *argument)
{
	__asm__ volatile("movups (%0), %%xmm7\n\tmovups %%xmm7, 16(%0)" : : "r"(argument) : "memory");
}

static void units(void)
{
	uint64_t words[4] = { 1, 2, 0, 0 }, cr4 = 0;

	cf_case("BOOT-10 SSE can be used");
	cf_expect(cf_try(use_sse, words), 0, "exception");
	cf_want(words[2] == 1 && words[3] == 2, "a register holds 16 bytes");
	cf_case("BOOT-10 XSAVE is off without a CPU note");
	if (cf_user()) {
		cf_skip("CR4 cannot be read at CPL 3");
		return;
	}
	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	cf_expect((int64_t)cr4 & CR4_OSXSAVE, 0, "CR4.OSXSAVE");
}

static void read_at(void *argument)
{
	__asm__ volatile("movb (%0), %%al" : : "r"(argument) : "rax", "memory");
}

static void write_at(void *argument)
{
	__asm__ volatile("movb $0, (%0)" : : "r"(argument) : "memory");
}

static void call_at(void *argument)
{
	__asm__ volatile("call *%0" : : "r"(argument) : "rax", "memory");
}

static const uint8_t code_in_rodata[16] __attribute__((aligned(16))) = { 0xc3 };
static uint8_t code_in_data[16] __attribute__((aligned(16))) = { 0xc3 };

static void mappings(void)
{
	cf_case("BOOT-2 page zero is not mapped");
	if (!cf_has_gates) {
		cf_skip("no table for gates");
		return;
	}
	cf_expect(cf_try(read_at, pv_at(8)), CF_PAGE_FAULT, "a read");
	cf_expect(cf_try(write_at, pv_at(4088)), CF_PAGE_FAULT, "a write");
	cf_case("BOOT-4 a segment is mapped as its program header says");
	cf_expect(cf_try(write_at, pv_at(pv_gpa(code_in_rodata))), CF_PAGE_FAULT, "a write to read-only data");
	cf_expect(cf_try(call_at, pv_at(pv_gpa(code_in_rodata))), CF_PAGE_FAULT, "a jump to read-only data");
	cf_expect(cf_try(write_at, pv_at(pv_gpa(mappings))), CF_PAGE_FAULT, "a write to code");
	cf_expect(cf_try(call_at, code_in_data), CF_PAGE_FAULT, "a jump to data");
	cf_expect(cf_try(write_at, &code_in_data[1]), 0, "a write to data");
}

static void other_mappings(void)
{
	uint8_t *ram = cf_take(CF_PAGE, CF_PAGE);
	uint64_t cr3 = 0;

	cf_case("BOOT-18 how memory outside of segments is mapped");
	if (!cf_has_gates || !ram) {
		cf_skip("no table for gates, or no RAM");
		return;
	}
	*ram = code_in_rodata[0];
	cf_expect(cf_try(call_at, ram), CF_PAGE_FAULT, "a jump to RAM");
	cf_expect(cf_try(write_at, pv_at(pv_gpa(cf_info))), CF_PAGE_FAULT, "a write to the boot information");
	cf_expect(cf_try(write_at, pv_at(cf_boot.pages->time_gpa)), CF_PAGE_FAULT, "a write to the time page");
	if (cf_boot.pages->continuity_gpa)
		cf_expect(cf_try(write_at, pv_at(cf_boot.pages->continuity_gpa)), CF_PAGE_FAULT,
			  "a write to the continuity page");
	cf_expect(cf_try(write_at, &cf_page(0)->upcall_mask), 0, "a write to the vCPU's page");
	if (cf_user())
		return;
	__asm__ volatile("movq %%cr3, %0" : "=r"(cr3));
	cf_expect(cf_try(read_at, pv_at(cr3 & ~(uint64_t)(CF_PAGE - 1))), CF_PAGE_FAULT, "a read of the page tables");
}

static void records(void)
{
	uint32_t count[PV_BOOT_RECORD_TABLES + 1] = { 0 }, seen = 0, last = ~0u;
	const uint8_t *at = (const uint8_t *)(cf_info + 1), *end = (const uint8_t *)cf_info + cf_info->size_bytes;

	cf_case("BOOT-8 BOOT-16 the records that every guest needs, once each, END last, each padded with zeros");
	while (at + sizeof(struct pv_boot_header) <= end && last != PV_BOOT_RECORD_END) {
		const struct pv_boot_header *header = (const struct pv_boot_header *)at;

		for (uint32_t i = header->size_bytes; i % 8; i++)
			cf_expect(at[sizeof(*header) + i], 0, "a byte of padding");
		cf_want(header->size_bytes <= (uint64_t)(end - at) - sizeof(*header), "the payload lies inside");

		last = header->type;
		count[last <= PV_BOOT_RECORD_TABLES ? last : 0] += last <= PV_BOOT_RECORD_TABLES;
		seen++;
		at += sizeof(*header) + ((header->size_bytes + 7ull) & ~7ull);
	}
	cf_expect(count[PV_BOOT_RECORD_ABI], 1, "records ABI");
	cf_expect(count[PV_BOOT_RECORD_MEMORY_MAP], 1, "records MEMORY_MAP");
	cf_expect(count[PV_BOOT_RECORD_VCPUS], 1, "records VCPUS");
	cf_expect(count[PV_BOOT_RECORD_PAGES], 1, "records PAGES");
	cf_expect(count[PV_BOOT_RECORD_TABLES], 1, "records TABLES");
	cf_expect(last, PV_BOOT_RECORD_END, "type of the last record");
	cf_expect(seen, cf_info->records, "records, as the head says");
	cf_want(at == end, "the last record ends where the head says");
	cf_case("BASE-1 the version of the record ABI and that of base.version agree");
	cf_expect((int64_t)pv_call0(PV_CALL_BASE_VERSION).value, (int64_t)cf_boot.abi->major << 32 | cf_boot.abi->minor,
		  "version");
	cf_want(cf_boot.vcpus >= 1 && cf_boot.vcpus <= PV_LIMIT_VCPUS, "the number of vCPUs is within its limit");
}

/* Whether a range lies wholly inside one range of kind HOST. */
static bool is_host(uint64_t gpa, uint64_t size_bytes)
{
	for (uint32_t i = 0; i < cf_boot.memory_count; i++) {
		const struct pv_boot_memory *range = &cf_boot.memory[i];

		if (range->kind == PV_MEMORY_KIND_HOST && gpa >= range->gpa &&
		    gpa + size_bytes <= range->gpa + range->size_bytes)
			return true;
	}
	return false;
}

static void shared_pages(void)
{
	const struct pv_boot_pages *pages = cf_boot.pages;

	cf_case("BOOT-9 the boot information and its pages lie in memory of kind HOST");
	cf_want(is_host(pv_gpa(cf_info), cf_info->size_bytes), "the boot information");
	cf_want(is_host(pages->time_gpa, sizeof(struct pv_time_page)), "the time page");
	for (uint32_t i = 0; i < cf_vcpus(); i++) {
		cf_want(is_host(pv_gpa(cf_page(i)), sizeof(struct pv_vcpu_page)), "a vCPU's page");
		cf_expect(cf_page(i)->index, i, "the index in a vCPU's page");
	}
	cf_want(!pages->continuity_gpa || is_host(pages->continuity_gpa, sizeof(struct pv_continuity_page)),
		"the continuity page");
	if (cf_boot.tables)
		cf_want(is_host(cf_boot.tables->idt_gpa, cf_boot.tables->idt_bytes), "the interrupt table");
}

/* Whether the pages of a range are all zero and take what is written, as far as samples show. */
static void sample(const struct pv_boot_memory *range)
{
	uint64_t step = (range->size_bytes / SAMPLES + CF_PAGE - 1) & ~(uint64_t)(CF_PAGE - 1);

	for (uint64_t at = 0; at < range->size_bytes; at += step ? step : CF_PAGE) {
		volatile uint64_t *page = pv_at(range->gpa + at);
		uint64_t found = page[0] | page[1] | page[255] | page[511];

		if (!cf_expect((int64_t)found, 0, "what a page of RAM holds at first"))
			return;
		page[511] = range->gpa + at;
		if (!cf_expect((int64_t)page[511], (int64_t)(range->gpa + at), "what was written to it"))
			return;
		page[511] = 0;
	}
}

static void memory_map(void)
{
	uint64_t end = CF_PAGE;

	cf_case("BOOT-12 the memory map: whole pages, in order, apart, none at zero");
	for (uint32_t i = 0; i < cf_boot.memory_count; i++) {
		const struct pv_boot_memory *range = &cf_boot.memory[i];

		cf_want(range->gpa >= end, "a range begins after the one before");
		cf_want(!(range->gpa % CF_PAGE) && !(range->size_bytes % CF_PAGE) && range->size_bytes, "whole pages");
		cf_want(range->kind >= PV_MEMORY_KIND_RAM && range->kind <= PV_MEMORY_KIND_HOST, "a kind");
		cf_expect(range->flags, 0, "flags");
		end = range->gpa + range->size_bytes;
	}
	cf_case("BOOT-2 BOOT-12 RAM is mapped one to one, writable, and reads as zero at first");
	for (uint32_t i = 0; i < cf_boot.memory_count; i++)
		if (cf_boot.memory[i].kind == PV_MEMORY_KIND_RAM)
			sample(&cf_boot.memory[i]);
}

static void read_apic(void *argument)
{
	*(uint32_t *)argument = *(volatile uint32_t *)(uintptr_t)APIC_SVR;
}

static void apics(void)
{
	uint32_t values[2] = { 0, 0 };

	cf_case("BOOT-11 the local APIC is on, and its page is mapped");
	cf_expect(cf_try(read_apic, &values[0]), 0, "exception");
	cf_expect(values[0] & APIC_ON, APIC_ON, "the spurious vector register's bit 8");
	cf_case("BOOT-11 that of another vCPU, too");
	if (cf_vcpus() < 2 || !cf_offered(PV_SERVICE_VCPU)) {
		cf_skip("one vCPU");
		return;
	}
	cf_expect(cf_start(1, read_apic, &values[1]), PV_STATUS_OK, "vcpu.start");
	cf_want(cf_join(1), "it stops");
	cf_expect(values[1] & APIC_ON, APIC_ON, "the spurious vector register's bit 8");
}

struct leaf {
	uint32_t eax, ebx, ecx, edx;
};

static struct leaf cpuid(uint32_t number)
{
	struct leaf leaf;

	__asm__ volatile("cpuid"
			 : "=a"(leaf.eax), "=b"(leaf.ebx), "=c"(leaf.ecx), "=d"(leaf.edx)
			 : "a"(number), "c"(0));
	return leaf;
}

static uint32_t find_leaves(void)
{
	for (uint32_t base = PV_CPUID_FIRST; base <= PV_CPUID_LAST; base += PV_CPUID_STEP) {
		struct leaf leaf = cpuid(base);

		if (!memcmp(&leaf.ebx, PV_CPUID_SIGNATURE, sizeof(PV_CPUID_SIGNATURE)))
			return base;
	}
	return 0;
}

static void leaves(void)
{
	uint32_t base = find_leaves();

	cf_case("CPUID-1 the leaves stand at the first free base and say what the boot information says");
	if (!base && cf_user()) {
		cf_skip("at CPL 3 CPUID may be that of the machine below");
		return;
	}
	if (!cf_want(base != 0, "the signature is found"))
		return;
	for (uint32_t before = PV_CPUID_FIRST; before < base; before += PV_CPUID_STEP)
		cf_want(cpuid(before).eax >= before || cpuid(before).ebx, "a base before ours is in use");
	struct leaf head = cpuid(base), abi = cpuid(base + 1), boot = cpuid(base + 2);
	cf_want(head.eax >= base + PV_CPUID_LEAVES && head.eax < base + PV_CPUID_STEP, "the last leaf");
	cf_expect(abi.eax, cf_boot.abi->major << 16 | cf_boot.abi->minor, "version");
	cf_expect(abi.ebx, cf_boot.abi->trap_kind, "kind of trap");
	cf_expect(abi.ecx, (int64_t)cf_boot.abi->trap, "trap");
	cf_expect(abi.edx, (int64_t)cf_boot.abi->doorbell, "doorbell");
	uint64_t info = (uint64_t)boot.ebx << 32 | boot.eax;
	cf_want(!info || info == pv_gpa(cf_info), "the address of the boot information");
	cf_expect(boot.ecx, cf_boot.vcpus, "vCPUs");
	cf_expect(boot.edx, 0, "flags");
}

static void discovery(void)
{
	entry_state();
	first_state();
	memory_map();
	units();
	mappings();
	other_mappings();
	records();
	shared_pages();
	apics();
	leaves();
}

CF_CHAPTER(discovery, discovery);
