/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A device whose queues another process serves (vhost-user).  That process reads doorbells and rings itself; here its
 * calls become interrupts, and notes are kept of what it has taken, so that another one can go on when it dies.
 * The protocol is Python's.  Split queues only.
 */
#ifndef PARAVIRT_VHOST_USER_H
#define PARAVIRT_VHOST_USER_H

#include "host.h"

/* ---- lent.c: what the borrower of a queue has taken and not given back ---- */

struct pv_lent {
	const struct pv_queue *queue;
	uint16_t available; /* positions looked at so far */
	uint16_t used;
	uint16_t in_flight; /* chains */
	uint16_t unknown; /* of them; more happened between two looks than the rings remember */
	uint64_t taken[PV_MAX_QUEUE_SIZE / 64]; /* a bit per head */
};

#define PV_LENT_GOOD 0
#define PV_LENT_UNSURE -1 /* which chains are in flight is not known */
#define PV_LENT_BROKEN -2 /* the driver broke VQ-7 */

/* The queue, which is enabled, is lent from the position in its state on. */
void pv_lent_begin(struct pv_lent *lent, const struct pv_queue *queue);
/* Takes note of what happened since. Often enough: a ring remembers as many entries as it has. True: something did. */
bool pv_lent_look(struct pv_lent *lent);
/*
 * The borrower is gone: what is in flight lies in the available ring from the used index on, and the queue's state
 * says so, for the next one.  `tracked`: the borrower kept a record of its own, the ring stays as it is.
 */
int pv_lent_recover(struct pv_lent *lent, bool tracked);

/* ---- vhost_user.c ---- */

struct pv_vhost_user;

struct pv_vhost_user_statistics {
	uint64_t calls; /* wake-ups by the peer, each an interrupt */
	uint64_t sleeps;
	uint64_t chains; /* that came back, as far as was seen */
	uint64_t in_flight; /* chains, at the last look */
};

/* Becomes the device's; its thread is parked. NULL: `error` says why. */
struct pv_vhost_user *pv_vhost_user_create(struct pv_device *device, char *error, size_t error_bytes);
void pv_vhost_user_destroy(struct pv_vhost_user *vhost);
/* The eventfd that the peer signals when it used buffers. */
int pv_vhost_user_call_fd(const struct pv_vhost_user *vhost, uint32_t queue);
/* An enabled queue is lent to a new peer; `again`: instead of one that is gone. What pv_lent_recover says, or 0. */
int pv_vhost_user_lend(struct pv_vhost_user *vhost, uint32_t queue, bool again, bool tracked);
/* Between these two the thread works; the queues that were lent stay enabled. */
void pv_vhost_user_serve(struct pv_vhost_user *vhost);
void pv_vhost_user_park(struct pv_vhost_user *vhost);
/* As if the peer had called, and as if the driver had rung: whoever had more to say is gone. */
void pv_vhost_user_stir(struct pv_vhost_user *vhost, uint32_t queue);
/* The peer gave the queue back at a position of the available ring; the queue's state has it. */
void pv_vhost_user_returned(struct pv_vhost_user *vhost, uint32_t queue, uint16_t position);
void pv_vhost_user_get_statistics(const struct pv_vhost_user *vhost, struct pv_vhost_user_statistics *statistics);

#endif
