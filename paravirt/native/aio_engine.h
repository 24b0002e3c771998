/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Between aio.c and its engines: what an engine provides, and the steps that a request is made of.
 * A step is one system call, whichever way it is made.
 */
#ifndef PARAVIRT_AIO_ENGINE_H
#define PARAVIRT_AIO_ENGINE_H

#include "aio.h"

struct pv_aio_engine {
	uint32_t kind; /* PV_AIO_URING or PV_AIO_THREADS */
	void (*destroy)(struct pv_aio *aio);
	void (*files)(struct pv_aio *aio, const int *fds, uint32_t count); /* or NULL */
	void (*memory)(struct pv_aio *aio, const struct iovec *areas, uint32_t count); /* or NULL */
	void (*start)(struct pv_aio *aio, struct pv_aio_request *request);
	void (*submit)(struct pv_aio *aio);
	uint32_t (*collect)(struct pv_aio *aio, struct pv_aio_request **requests, uint32_t count);
	void (*wait)(struct pv_aio *aio, const int *wake_fds, int64_t timeout_ns);
	void (*unwatch)(struct pv_aio *aio); /* or NULL */
};

/* The first member of an engine's own structure. */
struct pv_aio {
	const struct pv_aio_engine *engine;
	uint32_t cancel;
};

struct pv_aio *pv_aio_uring_create(uint32_t depth);
struct pv_aio *pv_aio_threads_create(void);

#define PV_STEP_READ 0
#define PV_STEP_WRITE 1
#define PV_STEP_SYNC 2
#define PV_STEP_ALLOCATE 3 /* fallocate with mode */

struct pv_aio_step {
	uint32_t call; /* one of PV_STEP_ */
	int mode;
	const struct iovec *segments; /* of READ and WRITE, always at least one */
	uint32_t segment_count;
	struct iovec clipped; /* what segments points to if a segment is done in parts */
	uint64_t size_bytes;
};

/* The next step of a request that is not done. */
void pv_aio_step(const struct pv_aio_request *request, struct pv_aio_step *step);
/* Takes the result of that step (bytes or a negative errno); true if the request is done. */
bool pv_aio_step_done(const struct pv_aio *aio, struct pv_aio_request *request, int64_t result);
/* Takes the count of a wake_fd that is readable. */
void pv_aio_woken(int wake_fd);

#endif
