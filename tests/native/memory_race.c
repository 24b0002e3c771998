// SPDX-License-Identifier: BSD-2-Clause
/*
 * Regions are added while another thread looks memory up: it finds each wholly or not at all, never what stood in its
 * place before.
 */
#include <pthread.h>
#include <stdio.h>

#include "check.h"
#include "host.h"

#define GPA(n) (0x100000ull * ((n) + 1))

static struct pv_memory memory;
static uint8_t bytes[PV_MAX_REGIONS][16] __attribute__((aligned(16)));
static uint32_t over, found;

static void *look(void *opaque)
{
	(void)opaque;
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		for (uint32_t n = 0; n < PV_MAX_REGIONS; n++) {
			uint8_t *at = pv_memory_at(&memory, GPA(n), 16);

			CHECK(!at || at == bytes[n]);
			__atomic_fetch_add(&found, at != NULL, __ATOMIC_RELAXED);
		}
		CHECK(pv_memory_bytes(&memory) <= sizeof(bytes));
	}
	return NULL;
}

int main(void)
{
	pthread_t thread;

	/* As those that went have left it. */
	for (uint32_t n = 0; n < PV_MAX_REGIONS; n++)
		memory.regions[n] = (struct pv_region){ .gpa = GPA(n), .size_bytes = 1 << 20 };
	CHECK(pthread_create(&thread, NULL, look, NULL) == 0);
	for (uint32_t n = 0; n < PV_MAX_REGIONS; n++) {
		CHECK(pv_memory_add(&memory, GPA(n), 16, bytes[n]) == 0);
		while (__atomic_exchange_n(&found, 0, __ATOMIC_RELAXED) <= n)
			;
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("regions %u\n", PV_MAX_REGIONS);
	return 0;
}
