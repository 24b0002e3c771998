/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The threads of a back end in C.  Each serves some queues of one device: it is parked while none of them
 * is in use, works while there is work, looks for more as long as experience says it pays, then arms the
 * doorbells and sleeps.  What a chain means, and what a turn does, is left to the back end.
 *
 *	pv_backend_init(&mine->backend, device, &ops, "disk", poll_ns);
 *	pv_backend_add(&mine->backend, &mine->queue[0], queues, 1);	a thread, parked until DRIVER_OK
 *	...
 *	pv_backend_deinit(&mine->backend);				ends the threads
 *
 * It sets the device's ops and its opaque, which is the backend itself; a back end that wants the device's
 * config_written too sets that one afterwards, and has the backend as the first member of its own.
 */
#ifndef PARAVIRT_BACKEND_H
#define PARAVIRT_BACKEND_H

#include <poll.h>
#include <pthread.h>

#include "host.h"

#define PV_BACKEND_QUEUES 4u /* of one thread: one, or a pair with its control queue */
#define PV_BACKEND_FDS 4u /* that a thread waits for beside its doorbells */

struct pv_backend_thread {
	void *opaque; /* the back end's own */
	struct pv_backend *backend;
	struct pv_device *device;
	uint32_t queues[PV_BACKEND_QUEUES]; /* indexes of the device's */
	uint32_t queue_count;
	/* Bit n: queues[n] is enabled.  It changes only while the thread is parked. */
	uint32_t enabled;

	/* For the sleep after a turn that did nothing; forgotten before each turn. */
	uint32_t unwatched; /* bit n: not for queues[n], whose chains may wait: they cannot be taken now */
	uint64_t due_ns; /* not beyond this time (pv_clock_ns); then it sleeps without looking for work; 0: no bound */

	/* Waited for beside the doorbells.  Events are the back end's to change in its turn: 0 ignores one. */
	struct pollfd fds[PV_BACKEND_FDS];
	uint32_t fd_count;

	uint64_t polls; /* statistics: looks for work that found it */
	uint64_t polled_ns; /* time spent looking */
	uint64_t sleeps;

	uint64_t poll_ns; /* backend_serve.c's: how long it is worth to look now */
	uint32_t vain; /* looks of full length in a row that were not */
	uint32_t rest; /* sleeps until looking for longer is tried again */
	pthread_t thread;
	uint32_t number;
	uint32_t wanted; /* written under the lock, read without */
	uint32_t is; /* under the lock */
	int error;
};

/* Called from the thread.  open and close are optional, so are drain and wait. */
struct pv_backend_ops {
	int (*open)(struct pv_backend_thread *thread); /* first of all: 0, or an errno that pv_backend_add returns */
	void (*close)(struct pv_backend_thread *thread); /* last of all, if open succeeded */
	/* Does all that can be done without waiting; false: that was nothing. */
	bool (*turn)(struct pv_backend_thread *thread);
	/* Ends what is in flight: afterwards neither queues nor guest memory are touched. */
	void (*drain)(struct pv_backend_thread *thread);
	/*
	 * A sleep of its own, of a thread with one queue: until the eventfd wake_fd was written (it takes the count),
	 * something of the back end's happened, or timeout_ns passed (-1: no bound).  It may return early.
	 */
	void (*wait)(struct pv_backend_thread *thread, int wake_fd, int64_t timeout_ns);
};

struct pv_backend {
	struct pv_device *device;
	const struct pv_backend_ops *ops;
	const char *word; /* what its threads are called, before the device's name */
	uint64_t poll_ns; /* longest look for work before a thread sleeps; 0: none */
	/* Its turns may wait for another program: who wants a thread parked nudges it (nudge.h), as where one has calls. */
	bool nudged;
	uint32_t thread_count;
	struct pv_backend_thread *threads[PV_MAX_QUEUES];
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

struct pv_backend_statistics {
	uint64_t polls;
	uint64_t poll_ns;
	uint64_t sleeps;
};

/* Becomes the device's ops. The device is not active; its queues have their doorbells when it is. */
void pv_backend_init(struct pv_backend *backend, struct pv_device *device, const struct pv_backend_ops *ops,
		     const char *word, uint64_t poll_ns);
/* Ends all threads after what is in flight. No op of the device may run or follow. */
void pv_backend_deinit(struct pv_backend *backend);
/* Starts a thread for some queues, each of which has one: 0 or an errno. Before the device is active. */
int pv_backend_add(struct pv_backend *backend, void *opaque, const uint32_t *queues, uint32_t queue_count);
/* The same with descriptors to wait for, with their events. */
int pv_backend_add_watching(struct pv_backend *backend, void *opaque, const uint32_t *queues, uint32_t queue_count,
			    const struct pollfd *fds, uint32_t fd_count);
/* What its ops activate and reset do, for a device whose ops are others': one caller at a time. */
void pv_backend_activate(struct pv_backend *backend);
void pv_backend_reset(struct pv_backend *backend);
/* Has a thread that sleeps take another turn. Any thread, while the device is active. */
void pv_backend_wake(const struct pv_backend_thread *thread);
/* Of all threads together. Any thread. */
void pv_backend_get_statistics(const struct pv_backend *backend, struct pv_backend_statistics *statistics);

/* For counters with one writer and many readers: no torn values, no locked instructions. */
static inline void pv_backend_count(uint64_t *counter, uint64_t more)
{
	__atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

/* Adds such counters to the sums of a struct of nothing else. */
static inline void pv_backend_sum(void *sums, const void *counters, size_t size_bytes)
{
	const uint64_t *from = counters;
	uint64_t *to = sums;

	for (size_t i = 0; i < size_bytes / sizeof(*to); i++)
		to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

#endif
