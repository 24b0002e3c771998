// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guest library's reader of boot information, before any memory at all (BOOT-16).  Whatever it says
 * it found must be there to be read.
 *
 * Input: the boot information.
 */
#include "input.h"
#include "paravirt/boot.h"

static volatile uint8_t sink;

static void read_all(const void *bytes, uint64_t size_bytes)
{
	const uint8_t *at = bytes;

	for (uint64_t i = 0; at && i < size_bytes; i++)
		sink = at[i];
}

static void read_found(const struct pv_boot *boot)
{
	read_all(boot->abi, sizeof(*boot->abi));
	read_all(boot->memory, (uint64_t)boot->memory_count * sizeof(*boot->memory));
	read_all(boot->pages, sizeof(*boot->pages));
	read_all(boot->tables, sizeof(*boot->tables));
	read_all(boot->machine, sizeof(*boot->machine));
	read_all(boot->seed, boot->seed_bytes);
	if (boot->command_line)
		read_all(boot->command_line, strlen(boot->command_line) + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	/* of this very size, so that the sanitizer sees a step too far; malloc aligns it to 8 */
	uint8_t *info = malloc(size_bytes ? size_bytes : 1);
	struct pv_boot boot;

	if (!info)
		return 0;
	if (size_bytes)
		memcpy(info, data, size_bytes);
	int64_t status = pv_boot_parse(&boot, info, size_bytes);
	REQUIRE(status == PV_STATUS_OK || status == PV_STATUS_INVALID || status == PV_STATUS_NOT_SUPPORTED);
	if (status != PV_STATUS_INVALID)
		read_found(&boot);
	if (status == PV_STATUS_OK)
		REQUIRE(boot.abi && boot.abi->major == PV_ABI_MAJOR && boot.pages && boot.memory && boot.vcpus);
	read_all(boot.abi, sizeof(*boot.abi)); /* kept whatever the answer */
	free(info);
	return 0;
}
