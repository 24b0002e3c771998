// SPDX-License-Identifier: BSD-2-Clause
/*
 * The boot information: records with the memory map, the pages and the machine's identity (chapter boot),
 * and the leaves of CPUID that lead to it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "boot.h"

#define SEED_BYTES 32
#define RECORDS 9

struct writer {
	uint8_t *bytes;
	uint32_t used;
	uint32_t records;
};

static uint64_t line_bytes(const struct pv_boot *boot)
{
	return boot->command_line ? strlen(boot->command_line) + 1 : 1;
}

/* Ranges: one for each segment and the host's area, one before and behind each. */
static uint32_t most_ranges(const struct pv_machine *machine, const struct pv_image *image)
{
	return 2 * (image->segment_count + 1) + machine->memory.count;
}

uint64_t pv_boot_info_bytes(const struct pv_machine *machine, const struct pv_boot *boot)
{
	return sizeof(struct pv_boot_info) + RECORDS * (sizeof(struct pv_boot_header) + 7) +
	       sizeof(struct pv_boot_abi) + most_ranges(machine, boot->image) * sizeof(struct pv_boot_memory) +
	       sizeof(struct pv_boot_vcpus) + sizeof(struct pv_boot_pages) + line_bytes(boot) +
	       sizeof(struct pv_boot_machine) + SEED_BYTES + sizeof(struct pv_boot_tables);
}

/* BOOT-16; the room is zero. */
static void put(struct writer *to, uint16_t type, uint16_t flags, const void *payload, uint64_t size_bytes)
{
	struct pv_boot_header head = { .type = type, .flags = flags, .size_bytes = (uint32_t)size_bytes };

	memcpy(to->bytes + to->used, &head, sizeof(head));
	if (size_bytes)
		memcpy(to->bytes + to->used + sizeof(head), payload, size_bytes);
	to->used += (uint32_t)(sizeof(head) + ((size_bytes + 7) & ~7ull));
	to->records++;
}

struct map {
	struct pv_boot_memory *ranges;
	uint32_t count;
};

static void add_range(struct map *map, uint64_t gpa, uint64_t end_gpa, uint32_t kind)
{
	struct pv_boot_memory *last = map->count ? &map->ranges[map->count - 1] : NULL;

	if (gpa >= end_gpa)
		return;
	if (last && last->kind == kind && last->gpa + last->size_bytes == gpa)
		last->size_bytes += end_gpa - gpa;
	else
		map->ranges[map->count++] =
			(struct pv_boot_memory){ .gpa = gpa, .size_bytes = end_gpa - gpa, .kind = kind };
}

/* One region: RAM, but for the segments in it and, in the first, page zero and the host's area (BOOT-12). */
static void add_region(struct map *map, const struct pv_region *region, const struct pv_image *image,
		       const struct pv_layout *layout)
{
	uint64_t at = region->gpa ? region->gpa : PV_PAGE_BYTES, end = region->gpa + region->size_bytes;
	uint64_t ram_end = region->gpa ? end : layout->host_gpa;

	for (uint32_t i = 0; i < image->segment_count; i++) {
		const struct pv_segment *s = &image->segments[i];
		uint64_t first = s->gpa & ~(PV_PAGE_BYTES - 1);
		uint64_t last = (s->gpa + s->memory_bytes + PV_PAGE_BYTES - 1) & ~(PV_PAGE_BYTES - 1);

		if (s->gpa < region->gpa || s->gpa >= end)
			continue;
		add_range(map, at, first, PV_MEMORY_KIND_RAM);
		add_range(map, first > at ? first : at, last, PV_MEMORY_KIND_IMAGE);
		at = last > at ? last : at;
	}
	add_range(map, at, ram_end, PV_MEMORY_KIND_RAM);
	add_range(map, ram_end, end, PV_MEMORY_KIND_HOST);
}

/* In order of addresses, whatever order regions were added in; how many. */
static uint32_t map_memory(const struct pv_machine *machine, const struct pv_image *image, const struct pv_layout *at,
			   struct pv_boot_memory *ranges)
{
	struct map map = { .ranges = ranges };
	uint64_t after = 0;

	for (uint32_t n = 0; n < machine->memory.count; n++) {
		const struct pv_region *next = NULL;

		for (uint32_t i = 0; i < machine->memory.count; i++) {
			const struct pv_region *r = &machine->memory.regions[i];

			if ((n == 0 ? r->gpa == 0 : r->gpa > after) && (!next || r->gpa < next->gpa))
				next = r;
		}
		after = next->gpa;
		add_region(&map, next, image, at);
	}
	return map.count;
}

/* What PVH hands to a plain guest, after Xen's public interface: in one block, text last. */
struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t modules_gpa, line_gpa, acpi_gpa, map_gpa;
	uint32_t map_entries, reserved;
};

struct start_range {
	uint64_t gpa, size_bytes;
	uint32_t kind, reserved;
};

static void write_start_info(const struct pv_machine *machine, const struct pv_boot *boot, const struct pv_layout *at,
			     const struct pv_boot_memory *ranges, uint32_t count)
{
	struct start_info info = {
		.magic = 0x336ec578,
		.version = 1,
		.map_gpa = at->start_gpa + sizeof(info),
		.map_entries = count,
	};
	uint64_t place_gpa = info.map_gpa;

	for (uint32_t i = 0; i < count; i++, place_gpa += sizeof(struct start_range)) {
		const struct start_range range = { ranges[i].gpa, ranges[i].size_bytes,
						   ranges[i].kind == PV_MEMORY_KIND_HOST ? 2 : 1, 0 };

		pv_memory_write(&machine->memory, place_gpa, &range, sizeof(range));
	}
	info.line_gpa = place_gpa;
	pv_memory_write(&machine->memory, place_gpa, boot->command_line ? boot->command_line : "", line_bytes(boot));
	pv_memory_write(&machine->memory, at->start_gpa, &info, sizeof(info));
}

static bool put_machine(struct writer *to, const struct pv_boot *boot)
{
	struct pv_boot_machine machine = { 0 };
	uint8_t seed[SEED_BYTES];

	memcpy(machine.uuid, boot->uuid, sizeof(machine.uuid));
	if (boot->name)
		memcpy(machine.name, boot->name, strnlen(boot->name, sizeof(machine.name)));
	put(to, PV_BOOT_RECORD_MACHINE, 0, &machine, sizeof(machine));
	if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		return false;
	put(to, PV_BOOT_RECORD_SEED, 0, seed, sizeof(seed));
	return true;
}

static void put_places(struct writer *to, const struct pv_machine *machine, const struct pv_boot *boot,
		       const struct pv_layout *at)
{
	const struct pv_boot_abi abi = {
		.major = PV_ABI_MAJOR,
		.minor = PV_ABI_MINOR,
		.trap_kind = PV_TRAP_KIND_PORT,
		.trap = boot->trap_port,
		.doorbell = boot->doorbell_port,
		.privilege = at->privilege,
	};
	struct pv_boot_memory ranges[2 * (PV_MAX_SEGMENTS + 1) + PV_MAX_REGIONS];
	const struct pv_boot_vcpus vcpus = { .count = machine->vcpu_count };
	const struct pv_boot_pages shared = {
		.time_gpa = at->time_gpa,
		.continuity_gpa = at->continuity_gpa,
		.vcpu_gpa = at->vcpu_gpa,
		.vcpu_stride_bytes = PV_PAGE_BYTES,
	};
	const struct pv_boot_tables tables = {
		.idt_gpa = at->idt_gpa,
		.code_selector = at->privilege == PV_PRIVILEGE_USER ? 0x23 : 0x08,
		.data_selector = at->privilege == PV_PRIVILEGE_USER ? 0x1b : 0x10,
		.idt_bytes = PV_PAGE_BYTES,
	};

	put(to, PV_BOOT_RECORD_ABI, PV_BOOT_FLAG_MANDATORY, &abi, sizeof(abi));
	uint32_t count = map_memory(machine, boot->image, at, ranges);
	put(to, PV_BOOT_RECORD_MEMORY_MAP, 0, ranges, count * sizeof(ranges[0]));
	put(to, PV_BOOT_RECORD_VCPUS, 0, &vcpus, sizeof(vcpus));
	put(to, PV_BOOT_RECORD_PAGES, 0, &shared, sizeof(shared));
	if (boot->image->plain)
		write_start_info(machine, boot, at, ranges, count);
	else
		put(to, PV_BOOT_RECORD_TABLES, 0, &tables, sizeof(tables));
}

bool pv_boot_info_write(struct pv_machine *machine, const struct pv_boot *boot, const struct pv_layout *at)
{
	struct writer to = { .bytes = calloc(1, at->info_bytes), .used = sizeof(struct pv_boot_info) };

	if (!to.bytes)
		return false;
	put_places(&to, machine, boot, at);
	put(&to, PV_BOOT_RECORD_COMMAND_LINE, 0, boot->command_line ? boot->command_line : "", line_bytes(boot));
	if (!put_machine(&to, boot)) {
		free(to.bytes);
		return false;
	}
	put(&to, PV_BOOT_RECORD_END, 0, NULL, 0); /* BOOT-8 */
	struct pv_boot_info head = { .magic = PV_BOOT_MAGIC, .size_bytes = to.used, .records = to.records };
	memcpy(to.bytes, &head, sizeof(head));
	pv_memory_write(&machine->memory, at->info_gpa, to.bytes, to.used);
	free(machine->owned_boot_info);
	machine->owned_boot_info = to.bytes;
	pv_machine_boot_info(machine, to.bytes, to.used);
	machine->boot_info_gpa = at->info_gpa;
	machine->ports[0] = boot->trap_port;
	machine->ports[1] = boot->doorbell_port;
	return true;
}

void pv_boot_cpuid(const struct pv_machine *machine, uint32_t base, uint32_t n, uint32_t words[4])
{
	static const char signature[12] = PV_CPUID_SIGNATURE;

	memset(words, 0, 4 * sizeof(words[0]));
	if (n == 0) {
		words[0] = base + PV_CPUID_LEAVES;
		memcpy(&words[1], signature, sizeof(signature));
	} else if (n == 1) {
		words[0] = PV_ABI_MAJOR << 16 | PV_ABI_MINOR;
		words[1] = PV_TRAP_KIND_PORT;
		words[2] = machine->ports[0];
		words[3] = machine->ports[1];
	} else if (n == 2) {
		words[0] = (uint32_t)machine->boot_info_gpa;
		words[1] = (uint32_t)(machine->boot_info_gpa >> 32);
		words[2] = machine->vcpu_count;
	}
}
