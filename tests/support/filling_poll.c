// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loaded before the C library: whenever a program has found that an eventfd has room, another one fills it at that
 * moment.  What is lucky timing of a hostile program elsewhere happens each time here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_eventfd(int fd)
{
	char path[32], kind[32] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, kind, sizeof(kind) - 1) > 0 && !strcmp(kind, "anon_inode:[eventfd]");
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	int (*next)(struct pollfd *, nfds_t, int) = (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");
	int ready = next(fds, count, timeout);

	if (count == 1 && ready == 1 && fds->events == POLLOUT && is_eventfd(fds->fd)) {
		const uint64_t full = UINT64_MAX - 1;
		uint64_t before;
		const struct iovec to = { &before, sizeof(before) };

		(void)!preadv2(fds->fd, &to, 1, -1, RWF_NOWAIT);
		(void)!write(fds->fd, &full, sizeof(full));
	}
	return ready;
}
