/* SPDX-License-Identifier: 0BSD
 *
 * Walking a tar archive.
 */
#include <stdbool.h>

#include "paravirt/string.h"
#include "paravirt/tar.h"

/* POSIX ustar header; every field is text. */
struct header {
	char name[100];
	char mode[8];
	char uid[8];
	char gid[8];
	char size[12];
	char mtime[12];
	char checksum[8];
	char type;
	char link[100];
	char magic[6];
	char version[2];
	char user[32];
	char group[32];
	char device_major[8];
	char device_minor[8];
	char prefix[155];
	char padding[12];
};
_Static_assert(sizeof(struct header) == PV_TAR_BLOCK_BYTES, "header");

/* What extension headers say of the next file. */
struct extension {
	bool has_name;
	bool has_size;
	uint64_t size_bytes;
};

void pv_tar_init(struct pv_tar *tar, const void *archive, uint64_t size_bytes)
{
	*tar = (struct pv_tar){ .archive = archive, .size_bytes = size_bytes };
}

static bool octal(const char *text, size_t room, uint64_t *value)
{
	size_t i = 0;

	*value = 0;
	while (i < room && text[i] == ' ')
		i++;
	for (; i < room && text[i] >= '0' && text[i] <= '7'; i++) {
		if (*value >> 61)
			return false;
		*value = *value << 3 | (uint64_t)(text[i] - '0');
	}
	return i == room || text[i] == ' ' || text[i] == 0;
}

static bool checksum_ok(const struct header *header)
{
	const uint8_t *bytes = (const uint8_t *)header;
	uint64_t said, sum = 0;

	for (size_t i = 0; i < sizeof(*header); i++) {
		size_t field = i - offsetof(struct header, checksum);

		sum += field < sizeof(header->checksum) ? ' ' : bytes[i];
	}
	return octal(header->checksum, sizeof(header->checksum), &said) && said == sum;
}

static bool all_zero(const uint8_t *block)
{
	for (size_t i = 0; i < PV_TAR_BLOCK_BYTES; i++)
		if (block[i])
			return false;
	return true;
}

static bool set_name(struct pv_tar_entry *entry, const void *text, size_t length)
{
	if (length >= PV_TAR_NAME_BYTES)
		return false;
	memcpy(entry->name, text, length);
	entry->name[length] = 0;
	return true;
}

static bool ustar_name(struct pv_tar_entry *entry, const struct header *header)
{
	size_t prefix = strnlen(header->prefix, sizeof(header->prefix));
	size_t name = strnlen(header->name, sizeof(header->name));

	if (memcmp(header->magic, "ustar", 5) || header->magic[5] || !prefix)
		return set_name(entry, header->name, name);
	memcpy(entry->name, header->prefix, prefix);
	entry->name[prefix] = '/';
	memcpy(entry->name + prefix + 1, header->name, name);
	entry->name[prefix + 1 + name] = 0;
	return true;
}
_Static_assert(PV_TAR_NAME_BYTES > 155 + 1 + 100, "a ustar name fits");

/* One PAX record "LENGTH KEY=VALUE\n", the length counting all of it. */
static size_t pax_record(struct pv_tar_entry *entry, struct extension *extension, const char *record, size_t room)
{
	size_t length = 0, digits = 0;

	while (digits < room && digits < 8 && record[digits] >= '0' && record[digits] <= '9')
		length = length * 10 + (size_t)(record[digits++] - '0');
	if (!digits || digits == room || record[digits] != ' ' || length > room || length < digits + 2 ||
	    record[length - 1] != '\n')
		return 0;
	const char *key = record + digits + 1, *end = record + length - 1;

	if ((size_t)(end - key) >= 5 && !memcmp(key, "path=", 5)) {
		extension->has_name = true;
		return set_name(entry, key + 5, (size_t)(end - key - 5)) ? length : 0;
	}
	if ((size_t)(end - key) >= 5 && !memcmp(key, "size=", 5)) {
		extension->has_size = true;
		extension->size_bytes = 0;
		for (const char *at = key + 5; at < end; at++) {
			if (*at < '0' || *at > '9' || extension->size_bytes > UINT64_MAX / 10 - 1)
				return 0;
			extension->size_bytes = extension->size_bytes * 10 + (uint64_t)(*at - '0');
		}
	}
	return length;
}

static bool pax(struct pv_tar_entry *entry, struct extension *extension, const char *data, uint64_t size)
{
	while (size) {
		size_t length = pax_record(entry, extension, data, size);

		if (!length)
			return false;
		data += length;
		size -= length;
	}
	return true;
}

/* Takes the header at the offset, and moves past it and its data. */
static int step(struct pv_tar *tar, struct pv_tar_entry *entry, struct extension *extension)
{
	const struct header *header = (const struct header *)(tar->archive + tar->offset);
	const uint8_t *data = (const uint8_t *)(header + 1);
	uint64_t left, size;

	if (tar->size_bytes - tar->offset < PV_TAR_BLOCK_BYTES || all_zero((const uint8_t *)header))
		return PV_TAR_END;
	if (!checksum_ok(header) || !octal(header->size, sizeof(header->size), &size))
		return PV_TAR_MALFORMED;
	bool regular = header->type == '0' || header->type == 0 || header->type == '7';
	if (regular && extension->has_size)
		size = extension->size_bytes;
	left = tar->size_bytes - tar->offset - PV_TAR_BLOCK_BYTES;
	if (size > left)
		return PV_TAR_MALFORMED;
	uint64_t whole = (size + PV_TAR_BLOCK_BYTES - 1) / PV_TAR_BLOCK_BYTES * PV_TAR_BLOCK_BYTES;
	tar->offset += PV_TAR_BLOCK_BYTES + (whole < left ? whole : left); /* the last padding may be cut off */

	if (header->type == 'x')
		return pax(entry, extension, (const char *)data, size) ? 2 : PV_TAR_MALFORMED;
	if (header->type == 'L') {
		extension->has_name = true;
		return set_name(entry, data, strnlen((const char *)data, size)) ? 2 : PV_TAR_MALFORMED;
	}
	if (!regular) {
		if (header->type != 'g' && header->type != 'K')
			*extension = (struct extension){ 0 }; /* was about this directory or link */
		return 2;
	}
	if (!extension->has_name && !ustar_name(entry, header))
		return PV_TAR_MALFORMED;
	entry->data = data;
	entry->size_bytes = size;
	return PV_TAR_FILE;
}

int pv_tar_next(struct pv_tar *tar, struct pv_tar_entry *entry)
{
	struct extension extension = { 0 };
	int result;

	do
		result = step(tar, entry, &extension);
	while (result == 2);
	return result;
}
