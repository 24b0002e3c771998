/* SPDX-License-Identifier: 0BSD
 *
 * Walking the boot information.
 */
#include "paravirt/boot.h"

/* Payload of at least the record's size; NULL if it is shorter. A longer one is a later version's. */
#define PAYLOAD(type, at, size_bytes) ((size_bytes) < sizeof(type) ? (const type *)0 : (const type *)(at))

static int64_t known(struct pv_boot *boot, const struct pv_boot_header *header, const uint8_t *at)
{
	uint32_t size = header->size_bytes;
	const struct pv_boot_vcpus *vcpus;

	switch (header->type) {
	case PV_BOOT_RECORD_ABI:
		boot->abi = PAYLOAD(struct pv_boot_abi, at, size);
		return boot->abi ? PV_STATUS_OK : PV_STATUS_INVALID;
	case PV_BOOT_RECORD_MEMORY_MAP:
		boot->memory = (const struct pv_boot_memory *)at;
		boot->memory_count = (uint32_t)(size / sizeof(struct pv_boot_memory));
		return size % sizeof(struct pv_boot_memory) ? PV_STATUS_INVALID : PV_STATUS_OK;
	case PV_BOOT_RECORD_VCPUS:
		vcpus = PAYLOAD(struct pv_boot_vcpus, at, size);
		boot->vcpus = vcpus ? vcpus->count : 0;
		return vcpus ? PV_STATUS_OK : PV_STATUS_INVALID;
	case PV_BOOT_RECORD_PAGES:
		boot->pages = PAYLOAD(struct pv_boot_pages, at, size);
		return boot->pages ? PV_STATUS_OK : PV_STATUS_INVALID;
	case PV_BOOT_RECORD_TABLES:
		boot->tables = PAYLOAD(struct pv_boot_tables, at, size);
		return boot->tables ? PV_STATUS_OK : PV_STATUS_INVALID;
	case PV_BOOT_RECORD_MACHINE:
		boot->machine = PAYLOAD(struct pv_boot_machine, at, size);
		return boot->machine ? PV_STATUS_OK : PV_STATUS_INVALID;
	case PV_BOOT_RECORD_COMMAND_LINE:
		if (!size || at[size - 1])
			return PV_STATUS_INVALID;
		boot->command_line = (const char *)at;
		return PV_STATUS_OK;
	case PV_BOOT_RECORD_SEED:
		boot->seed = at;
		boot->seed_bytes = size;
		return PV_STATUS_OK;
	default:
		return PV_STATUS_NOT_SUPPORTED;
	}
}

static int64_t walk(struct pv_boot *boot, const uint8_t *info, uint32_t size_bytes, uint32_t records)
{
	uint64_t offset = sizeof(struct pv_boot_info);

	for (uint32_t i = 0; i < records; i++) {
		const struct pv_boot_header *header = (const struct pv_boot_header *)(info + offset);

		if (offset > size_bytes || size_bytes - offset < sizeof(*header))
			return PV_STATUS_INVALID;
		offset += sizeof(*header);
		if (header->type == PV_BOOT_RECORD_END)
			return i + 1 == records ? PV_STATUS_OK : PV_STATUS_INVALID;
		if (header->size_bytes > size_bytes - offset)
			return PV_STATUS_INVALID;
		int64_t status = known(boot, header, info + offset);
		if (status == PV_STATUS_INVALID)
			return status;
		/* BOOT-3; the walk goes on, to find how to tell the host */
		if (status == PV_STATUS_NOT_SUPPORTED && header->flags & PV_BOOT_FLAG_MANDATORY && !boot->refused_type)
			boot->refused_type = header->type;
		offset += (header->size_bytes + 7ull) & ~7ull;
	}
	return PV_STATUS_INVALID; /* no END */
}

int64_t pv_boot_parse(struct pv_boot *boot, const void *info, uint64_t room_bytes)
{
	const struct pv_boot_info *head = info;

	*boot = (struct pv_boot){ 0 };
	if (room_bytes < sizeof(*head) || head->magic != PV_BOOT_MAGIC || head->size_bytes < sizeof(*head) ||
	    head->size_bytes > room_bytes)
		return PV_STATUS_INVALID;
	int64_t status = walk(boot, info, head->size_bytes, head->records);
	if (status != PV_STATUS_OK)
		return status;
	if (boot->refused_type || !boot->abi || boot->abi->major != PV_ABI_MAJOR || !boot->pages || !boot->memory ||
	    !boot->vcpus)
		return PV_STATUS_NOT_SUPPORTED;
	return PV_STATUS_OK;
}
