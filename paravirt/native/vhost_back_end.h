/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A device whose driver is behind another hypervisor's front end (vhost-user): its queues are started and stopped one
 * by one, with positions that are told, instead of by the status machine's transports.  Messages, memory and eventfds
 * are left to paravirt/vhost_user/.  One thread calls, at a time.
 */
#ifndef PARAVIRT_VHOST_BACK_END_H
#define PARAVIRT_VHOST_BACK_END_H

#include "host.h"

struct pv_vhost_back_end;

/* A queue as the front end describes it; addresses are guest-physical. */
struct pv_vhost_ring {
	uint32_t size;
	uint32_t base; /* position, as the protocol has it: packed queues' have both, with their wrap counters */
	uint64_t descriptors_gpa;
	uint64_t driver_gpa;
	uint64_t device_gpa;
	void *inflight; /* region of the queue (inflight.h), or NULL */
	uint64_t inflight_bytes; /* there are in it */
};

/* NULL: no memory.  The device is the caller's, as are its queues' eventfds. */
struct pv_vhost_back_end *pv_vhost_back_end_create(struct pv_device *device);
/* No queue is started. */
void pv_vhost_back_end_destroy(struct pv_vhost_back_end *back_end);
/* The driver accepted these features: false if it may not.  No queue is started. */
bool pv_vhost_back_end_agree(struct pv_vhost_back_end *back_end, uint64_t features);
/* From now on the device works on a queue: a status of the ABI; BAD_STATE also for an in-flight region that cannot be. */
int64_t pv_vhost_back_end_start(struct pv_vhost_back_end *back_end, uint32_t queue, const struct pv_vhost_ring *ring);
/* All that was taken is given back, or will be taken again. */
int64_t pv_vhost_back_end_stop(struct pv_vhost_back_end *back_end, uint32_t queue);
/* Where a queue that was stopped had come to. */
uint32_t pv_vhost_back_end_base(const struct pv_vhost_back_end *back_end, uint32_t queue);
/* Between these two guest memory may change.  False: a queue is not in it any more; those are stopped. */
void pv_vhost_back_end_pause(struct pv_vhost_back_end *back_end);
bool pv_vhost_back_end_resume(struct pv_vhost_back_end *back_end);
/*
 * An eventfd of the front end's is signalled, or a queue's call, from a thread that is no back end's: it does not wait,
 * even if the front end fills the counter at that moment.  False: there is no timer that would keep it from that.
 */
bool pv_vhost_back_end_signal(int fd);
/* What an eventfd counted, which is taken, whoever has it; 0: nothing. */
uint64_t pv_vhost_back_end_take(int fd);
bool pv_vhost_back_end_interrupt(struct pv_device *device, uint32_t queue);
/* Bytes of an in-flight region of a queue. */
uint64_t pv_vhost_back_end_inflight_bytes(bool packed, uint32_t size);

#endif
