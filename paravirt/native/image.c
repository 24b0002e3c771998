// SPDX-License-Identifier: BSD-2-Clause
/*
 * A guest's image: an ELF file, checked and taken apart where it lies; its notes are notes.c's.
 *
 * The file is hostile: every number is checked before it is used, and nothing in it is followed twice.
 */
#include <string.h>

#include "image.h"

#define HEADER_BYTES 64
#define PROGRAM_HEADER_BYTES 56
#define MAX_PROGRAM_HEADERS 64
#define MAX_NOTE_BYTES 65536
#define GPA_END (1ull << 52)

#define EXECUTABLE 1
#define LOAD 1
#define INTERPRETER 3
#define NOTE 4

/* Elf64_Ehdr, Elf64_Phdr. */
struct elf_header {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, program_headers, section_headers;
	uint32_t flags;
	uint16_t header_bytes, program_header_bytes, program_header_count;
	uint16_t section_header_bytes, section_header_count, names;
};

struct program_header {
	uint32_t type, flags;
	uint64_t offset, virtual_address, physical_address, file_bytes, memory_bytes, align;
};

PV_STATIC_ASSERT(sizeof(struct elf_header) == HEADER_BYTES, "Elf64_Ehdr");
PV_STATIC_ASSERT(sizeof(struct program_header) == PROGRAM_HEADER_BYTES, "Elf64_Phdr");

static const char *check_header(const struct elf_header *header, uint64_t size_bytes)
{
	static const uint8_t ident[] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };

	if (memcmp(header->ident, ident, sizeof(ident)) != 0 || header->machine != 62 || header->type != 2)
		return "it is not an executable ELF file for x86-64, linked with -static -no-pie (BOOT-17)";
	if (!header->program_header_count || header->program_header_count > MAX_PROGRAM_HEADERS ||
	    header->program_header_bytes != PROGRAM_HEADER_BYTES)
		return "it has no program headers, more than 64, or such of another size";
	if (header->program_headers > size_bytes ||
	    header->program_header_count * (uint64_t)PROGRAM_HEADER_BYTES > size_bytes - header->program_headers)
		return "it ends within its program headers";
	return NULL;
}

static const char *add_segment(struct pv_image *image, struct pv_notes *notes, const struct program_header *header,
			       const uint8_t *file)
{
	uint32_t at = image->segment_count;

	if (!header->memory_bytes && !header->file_bytes)
		return NULL;
	if (at == PV_MAX_SEGMENTS)
		return "it has more than 16 segments";
	if (header->memory_bytes > GPA_END || header->physical_address > GPA_END - header->memory_bytes)
		return "a segment wraps or ends above 2^52";
	if (header->file_bytes > header->memory_bytes)
		return "a segment has more bytes than memory";
	notes->moved = notes->moved || header->virtual_address != header->physical_address;
	for (; at && image->segments[at - 1].gpa > header->physical_address; at--)
		image->segments[at] = image->segments[at - 1];
	image->segments[at] = (struct pv_segment){
		.gpa = header->physical_address,
		.memory_bytes = header->memory_bytes,
		.data = file + header->offset,
		.data_bytes = header->file_bytes,
		.flags = header->flags,
	};
	image->segment_count++;
	return NULL;
}

/* BOOT-14, of segments in order. */
static const char *check_segments(const struct pv_image *image)
{
	bool entered = false;

	for (uint32_t i = 0; i < image->segment_count; i++) {
		const struct pv_segment *s = &image->segments[i], *next = s + 1;
		uint64_t end = s->gpa + s->memory_bytes;

		entered = entered || (s->flags & EXECUTABLE && s->gpa <= image->entry_gpa && image->entry_gpa < end);
		if (i + 1 == image->segment_count)
			break;
		if (end > next->gpa)
			return "two segments overlap (BOOT-14)";
		if (!image->plain && (end - 1) / PV_PAGE_BYTES == next->gpa / PV_PAGE_BYTES && s->flags != next->flags)
			return "two segments of other flags share a page; align them to 4096 (BOOT-14)";
	}
	if (!image->segment_count)
		return "it has nothing to load";
	if (!image->plain && image->segments[0].gpa < PV_PAGE_BYTES)
		return "a segment lies in page zero (BOOT-2)";
	return entered ? NULL : "its entry point is not in an executable segment (BOOT-14)";
}

static const char *take_part(struct pv_image *image, struct pv_notes *notes, const struct program_header *header,
			     const uint8_t *file, uint64_t size_bytes)
{
	if (header->type == INTERPRETER)
		return "it wants a dynamic linker; link it with -static";
	if (header->type != LOAD && header->type != NOTE)
		return NULL;
	if (header->offset > size_bytes || header->file_bytes > size_bytes - header->offset)
		return "it ends within a segment";
	if (header->type == LOAD)
		return add_segment(image, notes, header, file);
	if (header->file_bytes > MAX_NOTE_BYTES)
		return "it has a note segment of more than 64 KiB";
	return pv_notes_parse(notes, image, file + header->offset, header->file_bytes, header->align == 8 ? 8 : 4);
}

const char *pv_image_parse(struct pv_image *image, const void *file, uint64_t size_bytes)
{
	struct elf_header header;
	struct pv_notes notes = { 0 };

	memset(image, 0, sizeof(*image));
	image->cpu_level = PV_CPU_LEVEL_V1;
	if (size_bytes < sizeof(header))
		return "it is too short for an ELF file";
	memcpy(&header, file, sizeof(header));
	const char *wrong = check_header(&header, size_bytes);
	for (uint32_t i = 0; !wrong && i < header.program_header_count; i++) {
		struct program_header part;

		memcpy(&part, (const uint8_t *)file + header.program_headers + i * sizeof(part), sizeof(part));
		wrong = take_part(image, &notes, &part, file, size_bytes);
	}
	if (wrong)
		return wrong;
	image->plain = !notes.seen;
	if (image->plain && !notes.entered)
		return "it has neither notes of the owner Paravirt nor a PVH entry (NOTE-4)";
	if (!image->plain && notes.moved)
		return "a segment's virtual and physical addresses differ, but memory is mapped one to one (BOOT-17)";
	image->entry_gpa = image->plain ? notes.pvh_entry_gpa : header.entry;
	return check_segments(image);
}

static bool has_device(const struct pv_machine *machine, const struct pv_note_device *wanted)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		const struct pv_device *device = machine->devices[i];

		if (device->type == wanted->type && !strncmp(device->name, wanted->name, sizeof(wanted->name)))
			return true;
	}
	return false;
}

const char *pv_image_check(const struct pv_image *image, const struct pv_machine *machine)
{
	if (image->version && (image->version >> 16 != PV_ABI_MAJOR || (image->version & 0xffff) > PV_ABI_MINOR))
		return "it is for another version of the ABI (NOTE-7)";
	for (uint32_t i = 0; i < image->required_count; i++) {
		int slot = pv_service_slot(machine, image->required[i].service);

		if (slot < 0 || image->required[i].features & ~pv_service_offers(machine, (uint32_t)slot))
			return "it requires a service or a feature that is not offered (NOTE-5)";
	}
	for (uint32_t i = 0; i < image->device_count; i++)
		if (!(image->devices[i].flags & PV_DEVICE_FLAG_OPTIONAL) && !has_device(machine, &image->devices[i]))
			return "it needs a device that this host does not have (NOTE-3)";
	return NULL;
}
