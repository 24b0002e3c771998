// SPDX-License-Identifier: BSD-2-Clause
/*
 * Reads a byte of so many pieces of a sparse file, all in the page cache: how many of the reads were copies, and how
 * many kB of page tables the process has.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block_cached.h"

#define PIECE_BYTES (2ull << 20)

static void print_tables(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	unsigned long size_kb;
	char line[200];

	while (status && fgets(line, sizeof(line), status)) {
		if (sscanf(line, "VmPTE: %lu", &size_kb) == 1)
			printf("%lu\n", size_kb);
	}
	if (status)
		fclose(status);
}

int main(int argc, char **argv)
{
	uint64_t pieces = argc == 3 ? strtoull(argv[2], NULL, 10) : 0, copies = 0;
	int fd = argc == 3 ? open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	uint8_t byte;

	if (fd < 0 || ftruncate(fd, (off_t)(pieces * PIECE_BYTES)) < 0)
		return 1;
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	struct pv_block_cached *cached = pv_block_cached_create(fd, pieces * PIECE_BYTES);
	if (!cached)
		return 2;
	for (uint64_t i = 0; i < pieces; i++) {
		struct iovec segment = { &byte, sizeof(byte) };
		struct pv_aio_request io = {
			.operation = PV_AIO_READ,
			.segments = &segment,
			.segment_count = 1,
			.offset_bytes = i * PIECE_BYTES,
			.size_bytes = sizeof(byte),
		};

		if (pread(fd, &byte, sizeof(byte), (off_t)io.offset_bytes) != sizeof(byte))
			return 3;
		pv_block_cached_passed(cached, io.offset_bytes, sizeof(byte));
		copies += pv_block_cached_read(cached, &io);
	}
	printf("%llu ", (unsigned long long)copies);
	print_tables();
	pv_block_cached_destroy(cached);
	close(fd);
	return 0;
}
