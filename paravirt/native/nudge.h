/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Ends of waits that another program has a thread of ours in: it may fill an eventfd between our question whether there
 * is room and our write.  A signal that does nothing cuts the call short, repeated until the thread is past it.
 *
 * A back end's threads are nudged by whoever wants them parked (backend.c); others nudge themselves.
 */
#ifndef PARAVIRT_NUDGE_H
#define PARAVIRT_NUDGE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define PV_NUDGE (SIGRTMIN + 7)
#define PV_NUDGE_NS 10000000

/* From now on the process does not end by a nudge.  Before the first. */
void pv_nudge_init(void);

struct pv_nudges {
	timer_t timer;
};

/* What the calling thread waits in from now on is cut short again and again.  False: it is not, there is no timer. */
bool pv_nudges_begin(struct pv_nudges *nudges);
void pv_nudges_end(struct pv_nudges *nudges);

#endif
