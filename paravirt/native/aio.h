/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Asynchronous file I/O for back ends: requests are started in a batch, carried out wholly or
 * failed, and collected in a batch, by one thread.  Two engines do the work: io_uring, and a pool of
 * threads where that is refused.  It knows nothing of disks or queues: who calls owns the requests,
 * so nothing is allocated once an aio exists.
 */
#ifndef PARAVIRT_AIO_H
#define PARAVIRT_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define PV_AIO_AUTO 0
#define PV_AIO_URING 1
#define PV_AIO_THREADS 2

#define PV_AIO_READ 0
#define PV_AIO_WRITE 1
#define PV_AIO_SYNC 2 /* data of earlier writes to stable storage */
#define PV_AIO_DISCARD 3 /* contents may vanish; done although the file cannot */
#define PV_AIO_ZERO 4 /* contents are zeros, blocks stay if the file can */
#define PV_AIO_ZERO_UNMAP 5 /* contents are zeros, blocks may go */

struct pv_aio;

/* One operation. Its memory and its segments stay the caller's, untouched until it is collected. */
struct pv_aio_request {
	uint32_t operation; /* one of PV_AIO_, changes if the file cannot do it */
	uint32_t durable; /* 1: a write is on stable storage when done */
	int fd;
	int error; /* when collected: 0 or an errno; a file that ended early is EIO */
	uint64_t offset_bytes; /* of what is left, in the file */
	uint64_t size_bytes; /* left to do; what segments hold for READ and WRITE */
	struct iovec *segments; /* first one left; used up as the request goes on */
	uint32_t segment_count;
	uint64_t refused_ns; /* since when the kernel has said "try again", and nothing else; 0: it has not */
	struct pv_aio_request *next; /* the engine's */
};

/* At most depth requests at a time. NULL with errno set if refused. */
struct pv_aio *pv_aio_create(uint32_t engine, uint32_t depth);
/* None may be in flight. */
void pv_aio_destroy(struct pv_aio *aio);
/* PV_AIO_URING or PV_AIO_THREADS. */
uint32_t pv_aio_engine(const struct pv_aio *aio);
#define PV_AIO_FILES 2u

/* Says which files most requests will be of: some engines are faster with them. Once, by the thread that uses it. */
void pv_aio_files(struct pv_aio *aio, const int *fds, uint32_t count);
/*
 * The same of memory that keeps its pages as long as the aio lives: they are held, and given away by nobody meanwhile.
 */
void pv_aio_memory(struct pv_aio *aio, const struct iovec *areas, uint32_t count);
/* Accepts a request; it begins with the next pv_aio_submit or pv_aio_wait. */
void pv_aio_start(struct pv_aio *aio, struct pv_aio_request *request);
void pv_aio_submit(struct pv_aio *aio);
/* Takes requests that are done, up to count; how many. Does not wait. */
uint32_t pv_aio_collect(struct pv_aio *aio, struct pv_aio_request **requests, uint32_t count);

#define PV_AIO_WAKES 2u

/*
 * Waits until a request is done or one of two eventfds was written, whose count it takes (or the next pv_aio_collect),
 * or timeout_ns passed (-1: no bound).  It may return early.  Both are the same until pv_aio_unwatch; -1: none.
 */
void pv_aio_wait(struct pv_aio *aio, const int wake_fds[PV_AIO_WAKES], int64_t timeout_ns);
/* Forgets the eventfds. Nothing is in flight. */
void pv_aio_unwatch(struct pv_aio *aio);
/* While set, requests that need several operations fail with ECANCELED after the one that runs. */
void pv_aio_cancel(struct pv_aio *aio, bool cancel);

#endif
