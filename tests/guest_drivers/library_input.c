/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Feeds cases from standard input, each a 32-bit length and that many bytes, to what reads untrusted or
 * host-made bytes in the guest library: `sha256`, `tar`, `boot`, `status`.  Prints what was found, a line a finding.
 * Each case has an allocation of exactly its size, so that the sanitizers see one byte too many.
 */
#include <string.h>

#include "check.h"
#include "paravirt/boot.h"
#include "paravirt/sha256.h"
#include "paravirt/status.h"
#include "paravirt/tar.h"

static void sha256_case(const uint8_t *data, uint32_t size_bytes)
{
	struct pv_sha256 hash;
	uint8_t digest[PV_SHA256_BYTES];
	char hex[2 * PV_SHA256_BYTES + 1];
	uint64_t seed = size_bytes + 1;
	uint32_t at = 0;

	pv_sha256_init(&hash);
	while (at < size_bytes) { /* in pieces of all sizes around that of a block */
		uint32_t part = random_below(&seed, 200);

		part = part < size_bytes - at ? part : size_bytes - at;
		pv_sha256_update(&hash, data + at, part);
		at += part;
	}
	pv_sha256_final(&hash, digest);
	pv_sha256_hex(digest, hex);
	printf("%s\n", hex);
}

static void tar_case(const uint8_t *data, uint32_t size_bytes)
{
	static struct pv_tar_entry entry;
	struct pv_tar tar;
	int result;

	pv_tar_init(&tar, data, size_bytes);
	while ((result = pv_tar_next(&tar, &entry)) == PV_TAR_FILE) {
		unsigned sum = 0;

		CHECK(strlen(entry.name) < PV_TAR_NAME_BYTES);
		for (uint64_t i = 0; i < entry.size_bytes; i++) /* all of it is there to be read */
			sum = sum * 31 + entry.data[i];
		printf("file %lu %u ", entry.size_bytes, sum);
		for (const char *c = entry.name; *c; c++)
			printf("%02x", (unsigned char)*c);
		printf("\n");
	}
	printf("%s\n", result == PV_TAR_END ? "end" : "malformed");
}

static void boot_case(const uint8_t *data, uint32_t size_bytes)
{
	struct pv_boot boot;
	int64_t status = pv_boot_parse(&boot, data, size_bytes);
	unsigned sum = 0;

	for (uint32_t i = 0; i < boot.seed_bytes; i++)
		sum += boot.seed[i];
	for (uint32_t i = 0; i < boot.memory_count; i++)
		sum += (unsigned)(boot.memory[i].gpa + boot.memory[i].size_bytes);
	printf("%ld refused %u trap %ld vcpus %u ranges %u seed %u sum %u pages %ld tables %ld name %.48s line %s\n",
	       status, boot.refused_type, boot.abi ? (long)boot.abi->trap : -1, boot.vcpus, boot.memory_count,
	       boot.seed_bytes, sum, boot.pages ? (long)boot.pages->time_gpa : -1,
	       boot.tables ? (long)boot.tables->idt_gpa : -1, boot.machine ? boot.machine->name : "",
	       boot.command_line ? boot.command_line : "");
}

static void status_case(const uint8_t *data, uint32_t size_bytes)
{
	int64_t status;

	CHECK(size_bytes == sizeof(status));
	memcpy(&status, data, sizeof(status));
	printf("%s\n", pv_status_name(status));
}

int main(int argc, char **argv)
{
	uint32_t size_bytes;

	CHECK(argc == 2);
	while (fread(&size_bytes, sizeof(size_bytes), 1, stdin) == 1) {
		uint8_t *data = malloc(size_bytes);

		CHECK(fread(data, 1, size_bytes, stdin) == size_bytes);
		if (!strcmp(argv[1], "sha256"))
			sha256_case(data, size_bytes);
		else if (!strcmp(argv[1], "tar"))
			tar_case(data, size_bytes);
		else if (!strcmp(argv[1], "status"))
			status_case(data, size_bytes);
		else
			boot_case(data, size_bytes);
		free(data);
	}
	return 0;
}
