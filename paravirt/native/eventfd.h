/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Eventfds that another program has, too.  Whether one waits belongs to all who have it, so that ours does not is
 * asked of each access anew: a program that took O_NONBLOCK away would hold our thread otherwise.
 */
#ifndef PARAVIRT_EVENTFD_H
#define PARAVIRT_EVENTFD_H

#ifndef _GNU_SOURCE
#error "preadv2 needs _GNU_SOURCE before the first header"
#endif

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

/* Adds one. A counter that has no room wakes as it is. */
static inline void pv_eventfd_signal(int fd)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	const uint64_t one = 1;

	if (poll(&room, 1, 0) == 1)
		(void)!write(fd, &one, sizeof(one));
}

/* Takes the count; 0: there was none. */
static inline uint64_t pv_eventfd_take(int fd)
{
	struct pollfd some = { .fd = fd, .events = POLLIN };
	uint64_t count;
	const struct iovec to = { &count, sizeof(count) };

	if (preadv2(fd, &to, 1, -1, RWF_NOWAIT) > 0)
		return count;
	/* Linux before 5.8 */
	if (errno == EOPNOTSUPP && poll(&some, 1, 0) == 1 && read(fd, &count, sizeof(count)) > 0)
		return count;
	return 0;
}

#endif
