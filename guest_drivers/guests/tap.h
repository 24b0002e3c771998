/* SPDX-License-Identifier: 0BSD
 *
 * Reporting like a test runner (TAP): one line a check.  For guests that test the library; host conformance has
 * its own (conformance/support/tap.c).
 */
#ifndef TAP_H
#define TAP_H

#include "paravirt/guest.h"

static uint32_t tap_checks, tap_failures;

/* `got` helps whoever looks at a failure. */
static inline bool tap_ok(bool holds, const char *what, int64_t got)
{
	tap_checks++;
	if (holds) {
		pv_print("ok %u - %s\n", tap_checks, what);
	} else {
		tap_failures++;
		pv_print("not ok %u - %s (got %ld)\n", tap_checks, what, got);
	}
	return holds;
}

static inline bool tap_is(int64_t got, int64_t expected, const char *what)
{
	return tap_ok(got == expected, what, got);
}

static inline void tap_skip(const char *what, const char *why)
{
	pv_print("ok %u - %s # SKIP %s\n", ++tap_checks, what, why);
}

/* The plan, at the end, and the machine's status. */
static inline int tap_done(void)
{
	pv_print("1..%u\n", tap_checks);
	return tap_failures ? 1 : 0;
}

#endif
