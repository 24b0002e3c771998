/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rate limits of back ends: a token bucket each for operations and for bytes.  What goes is charged after it went
 * and may leave the bucket in debt, so that a back end asks before it takes a chain and need not hold any back.
 * Any number of threads share one; each may overdraw it by what it does between asking and charging.
 *
 *	due = pv_limit_due(&limit, now);	0: go; else sleep until then
 *	...take one, do it...
 *	pv_limit_charge(&limit, now, bytes);
 */
#ifndef PARAVIRT_LIMIT_H
#define PARAVIRT_LIMIT_H

#include <stdint.h>

struct pv_limit_rates {
	uint64_t operations_per_second; /* 0: no bound */
	uint64_t bytes_per_second; /* 0: no bound */
	uint64_t burst_ns; /* what the rates allow in that time may go at once */
};

struct pv_limit {
	struct pv_limit_rates rates;
	uint64_t operations_paid_ns; /* the time up to which the rate is used up */
	uint64_t bytes_paid_ns;
};

/* A full bucket. */
void pv_limit_init(struct pv_limit *limit, const struct pv_limit_rates *rates);
/* 0: an operation may go at now_ns (pv_clock_ns); else the time from which on one may. */
uint64_t pv_limit_due(const struct pv_limit *limit, uint64_t now_ns);
/* An operation went with that many bytes. */
void pv_limit_charge(struct pv_limit *limit, uint64_t now_ns, uint64_t size_bytes);

#endif
