// SPDX-License-Identifier: BSD-2-Clause
/*
 * The signal that cuts waits short, and a timer that sends it to the thread which asked for it.
 */
#define _GNU_SOURCE
#include "nudge.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static void ignore(int number)
{
	(void)number;
}

void pv_nudge_init(void)
{
	static const struct sigaction nudged = { .sa_handler =
							 ignore }; /* without SA_RESTART: calls are not begun again */

	sigaction(PV_NUDGE, &nudged, NULL);
}

bool pv_nudges_begin(struct pv_nudges *nudges)
{
	static const struct itimerspec every = { { 0, PV_NUDGE_NS }, { 0, PV_NUDGE_NS } };
	struct sigevent event;

	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = PV_NUDGE;
	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &event, &nudges->timer) != 0)
		return false;
	return !timer_settime(nudges->timer, 0, &every, NULL); /* which cannot fail: the times are right */
}

void pv_nudges_end(struct pv_nudges *nudges)
{
	timer_delete(nudges->timer);
}
