/* SPDX-License-Identifier: 0BSD
 *
 * lwIP's platform: a clock, numbers that differ from run to run, and the one function of a C library's that the guest
 * library does without.
 */
#include "stdlib.h"

#include "lwip/sys.h"

u32_t sys_now(void)
{
	return (u32_t)(pv_now_ns() / 1000000);
}

/* xorshift: for port numbers and the like, not for keys. */
uint32_t port_random(void)
{
	static uint64_t state;

	if (!state)
		state = (pv_now_ns() ^ pv_wall_ns()) | 1;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

int atoi(const char *digits)
{
	int value = 0;

	for (; *digits >= '0' && *digits <= '9'; digits++)
		value = value * 10 + (*digits - '0');
	return value;
}
