/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Between block.c and block_serve.c: a disk, and its thread's work while the device is active.
 */
#ifndef PARAVIRT_BLOCK_SERVE_H
#define PARAVIRT_BLOCK_SERVE_H

#include <pthread.h>

#include "aio.h"
#include "block.h"
#include "block_request.h"

#define WANT_PARKED 0
#define WANT_SERVE 1
#define WANT_END 2

#define IS_STARTING 0
#define IS_FAILED 1
#define IS_PARKED 2
#define IS_SERVING 3

struct pv_block {
	struct pv_device *device;
	struct pv_block_options options;
	struct pv_block_statistics statistics; /* written by the thread, read by any */
	struct pv_aio *aio;
	struct pv_block_request *requests;
	struct pv_block_request *free; /* used before and free */
	uint32_t used; /* requests from here on were never used, so their memory was never touched */
	uint32_t in_flight;
	uint64_t poll_ns; /* how long it is worth to look now */
	int doorbell_fd; /* of queue 0, known when the device is active */
	int start_error;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint32_t wanted; /* written under the lock, read without */
	uint32_t is; /* under the lock */
};

/* Carries requests out until something else is wanted; then none is in flight. */
void pv_block_serve(struct pv_block *block);

#endif
