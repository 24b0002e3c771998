// SPDX-License-Identifier: BSD-2-Clause
/*
 * ELF notes of the owner Paravirt (chapter ELF notes), and Xen's by which a plain guest is entered.
 * Others are passed by.
 */
#include <string.h>

#include "image.h"

#define PVH_ENTRY 18 /* of the owner Xen */

struct note_header {
	uint32_t name_bytes, payload_bytes, type;
};

static const char malformed[] = "one of its notes is malformed (NOTE-1)";

static const char *take_require(struct pv_image *image, const uint8_t *payload, uint32_t size_bytes)
{
	struct pv_note_require head;

	if (size_bytes < sizeof(head))
		return malformed;
	memcpy(&head, payload, sizeof(head));
	if (head.services > PV_MAX_REQUIRED)
		return "it requires more than 32 services";
	if (size_bytes != sizeof(head) + head.services * sizeof(image->required[0]))
		return malformed;
	image->version = (uint32_t)head.major << 16 | head.minor;
	image->required_count = head.services;
	memcpy(image->required, payload + sizeof(head), head.services * sizeof(image->required[0]));
	for (uint32_t i = 0; i < head.services; i++) {
		if (image->required[i].flags)
			return malformed;
		for (uint32_t j = 0; j < i; j++)
			if (image->required[j].service == image->required[i].service)
				return malformed;
	}
	return NULL;
}

/* NOTE-6; the bytes of UTF-8 beyond ASCII are taken as printable. */
static bool good_name(const char *name)
{
	uint32_t length = 0;

	for (; length < sizeof(((struct pv_note_device *)0)->name) && name[length]; length++)
		if ((uint8_t)name[length] < ' ' || name[length] == 0x7f)
			return false;
	return length > 0;
}

static const char *take_manifest(struct pv_image *image, const uint8_t *payload, uint32_t size_bytes)
{
	const size_t each = sizeof(image->devices[0]);

	if (size_bytes % each || size_bytes / each > PV_MAX_DEVICES)
		return malformed;
	image->device_count = (uint32_t)(size_bytes / each);
	memcpy(image->devices, payload, size_bytes);
	for (uint32_t i = 0; i < image->device_count; i++) {
		const struct pv_note_device *device = &image->devices[i];

		if (device->flags & ~(uint32_t)(PV_DEVICE_FLAG_OPTIONAL | PV_DEVICE_FLAG_READ_ONLY))
			return malformed;
		if (!good_name(device->name))
			return "a name in its manifest is empty or not printable (NOTE-6)";
		for (uint32_t j = 0; j < i; j++)
			if (!strncmp(image->devices[j].name, device->name, sizeof(device->name)))
				return "its manifest names a device twice (NOTE-6)";
	}
	return NULL;
}

static const char *take_privilege(struct pv_image *image, const uint8_t *payload, uint32_t size_bytes)
{
	struct pv_note_privilege note;

	if (size_bytes != sizeof(note))
		return malformed;
	memcpy(&note, payload, sizeof(note));
	image->privilege = note.privilege;
	return note.flags || note.privilege > PV_PRIVILEGE_SUPERVISOR ? malformed : NULL;
}

static const char *take_cpu(struct pv_image *image, const uint8_t *payload, uint32_t size_bytes)
{
	struct pv_note_cpu note;

	if (size_bytes != sizeof(note))
		return malformed;
	memcpy(&note, payload, sizeof(note));
	image->cpu_level = note.level;
	return note.flags || note.level < PV_CPU_LEVEL_V1 || note.level > PV_CPU_LEVEL_V4 ? malformed : NULL;
}

static const char *take(struct pv_notes *notes, struct pv_image *image, uint32_t type, const uint8_t *payload,
			uint32_t size_bytes)
{
	static const char *(*const takers[])(struct pv_image *, const uint8_t *, uint32_t) = {
		[PV_NOTE_REQUIRE] = take_require,
		[PV_NOTE_MANIFEST] = take_manifest,
		[PV_NOTE_PRIVILEGE] = take_privilege,
		[PV_NOTE_CPU] = take_cpu,
	};

	notes->seen |= 1;
	notes->bytes += size_bytes;
	if (notes->bytes > PV_LIMIT_NOTE_BYTES)
		return "its notes hold more than 16 KiB";
	if (type >= PV_NOTE_MANDATORY)
		return "it has a note that a host must know and this one does not (NOTE-2)";
	if (type >= sizeof(takers) / sizeof(takers[0]) || !takers[type])
		return NULL;
	if (notes->seen >> type & 1 && type)
		return "one of its notes stands twice (NOTE-1)";
	notes->seen |= 1u << type;
	return takers[type](image, payload, size_bytes);
}

static uint64_t padded(uint64_t size_bytes, uint32_t align)
{
	return (size_bytes + align - 1) & ~(uint64_t)(align - 1);
}

/* Less than a header is padding, if it is zero. */
static bool zeros(const uint8_t *bytes, uint64_t size_bytes)
{
	while (size_bytes)
		if (bytes[--size_bytes])
			return false;
	return true;
}

/* With its NUL, without, or with several. */
static bool owned_by(const char *owner, const uint8_t *name, uint32_t size_bytes)
{
	uint32_t length = (uint32_t)strlen(owner);

	return size_bytes >= length && !memcmp(name, owner, length) && zeros(name + length, size_bytes - length);
}

/* The entry of a plain guest. */
static const char *take_pvh(struct pv_notes *notes, const uint8_t *payload, uint32_t size_bytes)
{
	if (notes->entered || (size_bytes != 4 && size_bytes != 8))
		return "its PVH note stands twice, or has neither 4 nor 8 bytes";
	memcpy(&notes->pvh_entry_gpa, payload, size_bytes);
	notes->entered = true;
	return NULL;
}

const char *pv_notes_parse(struct pv_notes *notes, struct pv_image *image, const uint8_t *area, uint64_t size_bytes,
			   uint32_t align)
{
	struct note_header header;

	for (uint64_t at = 0; at < size_bytes;) {
		if (size_bytes - at < sizeof(header))
			return zeros(area + at, size_bytes - at) ? NULL : malformed;
		memcpy(&header, area + at, sizeof(header));
		/* of 32 bits each: sums do not wrap in 64 */
		uint64_t name_at = at + sizeof(header);
		uint64_t payload_at = padded(name_at + padded(header.name_bytes, 4), align);
		uint64_t end = payload_at + header.payload_bytes;

		if (name_at + header.name_bytes > size_bytes || end > size_bytes)
			return malformed;
		const char *wrong = NULL;
		if (owned_by("Paravirt", area + name_at, header.name_bytes))
			wrong = take(notes, image, header.type, area + payload_at, header.payload_bytes);
		else if (header.type == PVH_ENTRY && owned_by("Xen", area + name_at, header.name_bytes))
			wrong = take_pvh(notes, area + payload_at, header.payload_bytes);
		if (wrong)
			return wrong;
		at = padded(end, align);
	}
	return NULL;
}
