// SPDX-License-Identifier: BSD-2-Clause
/*
 * The floor of reading a mapped disk: the same pieces copied by a process that has the file mapped.
 */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t next_random(uint64_t place)
{
	place ^= place << 13;
	place ^= place >> 7;
	return place ^ place << 17;
}

static void copy(const uint8_t *from, uint64_t places, uint64_t requests, uint64_t bytes)
{
	static uint8_t buffer[4u << 20];
	uint64_t place = 0x9e3779b97f4a7c15u;

	for (uint64_t i = 0; i < requests; i++) {
		uint64_t next = next_random(place);

		for (uint64_t at = 0; at < bytes && at < 4096; at += 64)
			__builtin_prefetch(from + next % places * bytes + at, 0, 2);
		memcpy(buffer, from + place % places * bytes, bytes);
		__asm__ volatile("" : : "r"(buffer) : "memory");
		place = next;
	}
}

/* ns of so many reads of so many bytes, after as many that are not counted; 0: the file cannot be mapped. */
uint64_t mapped_floor(const char *path, uint64_t requests, uint64_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t ns = 0;
	struct stat status;

	if (fd < 0)
		return 0;
	if (fstat(fd, &status) == 0 && (uint64_t)status.st_size >= bytes && bytes <= 4u << 20) {
		uint64_t size = (uint64_t)status.st_size;
		uint8_t *from = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

		if (from != MAP_FAILED) {
			copy(from, size / bytes, requests, bytes);
			uint64_t begin_ns = now_ns();
			copy(from, size / bytes, requests, bytes);
			ns = now_ns() - begin_ns;
			munmap(from, size);
		}
	}
	close(fd);
	return ns;
}
