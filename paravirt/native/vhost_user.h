/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A device whose queues another process serves (vhost-user).  That process, the peer, is given rings of ours, and
 * chains that were checked: the driver's rings are never its business.  So it is known at any time which chains it
 * has, and another one can go on when it dies.  The protocol is Python's.
 */
#ifndef PARAVIRT_VHOST_USER_H
#define PARAVIRT_VHOST_USER_H

#include "host.h"

/* ---- shadow.c: a split queue for the peer, of which we are the driver ---- */

/* Descriptors: a chain of any size fits, though not beside many others whose tables were indirect. */
#define PV_SHADOW_SIZE 256
/* Shared with the peer: descriptors, available ring, used ring. */
#define PV_SHADOW_AVAILABLE 4096
#define PV_SHADOW_USED 5120
#define PV_SHADOW_BYTES 8192

struct pv_shadow_chain {
	uint64_t number; /* chains are given in this order */
	uint32_t room_bytes; /* that the peer may say that it wrote */
	uint16_t head; /* of the driver's */
	uint16_t count; /* descriptors; 0: the peer does not have it */
};

struct pv_shadow {
	uint8_t *memory; /* PV_SHADOW_BYTES; only the used ring is ever read */
	uint16_t available; /* positions, not reduced */
	uint16_t used;
	uint16_t free_count;
	uint16_t in_flight; /* chains */
	uint64_t given; /* chains, ever */
	uint16_t free[PV_SHADOW_SIZE]; /* descriptors, the last one first */
	uint16_t next[PV_SHADOW_SIZE]; /* of a chain's descriptors */
	struct pv_shadow_chain chains[PV_SHADOW_SIZE]; /* by their first descriptor */
};

/* A queue with nothing in it, in zeroed memory. */
void pv_shadow_init(struct pv_shadow *shadow, void *memory);
/* For a new peer: the positions are zero, and what the last one had is available again, in order. */
void pv_shadow_restart(struct pv_shadow *shadow);
/* Gives a chain that was popped; not seen before it is published. False: there is no room yet. */
bool pv_shadow_give(struct pv_shadow *shadow, const struct pv_chain *chain);
/* True: the peer wants to be kicked. */
bool pv_shadow_publish(struct pv_shadow *shadow);
/* The next chain that the peer gives back: 1, 0 none, -1 what it says cannot be; it says nothing true any more. */
int pv_shadow_take(struct pv_shadow *shadow, uint16_t *head, uint32_t *written_bytes);
/* Asks for calls; true if something came back meanwhile. */
bool pv_shadow_arm(struct pv_shadow *shadow);
void pv_shadow_disarm(struct pv_shadow *shadow);

/* ---- vhost_user.c: the threads between a driver's queues and their shadows ---- */

struct pv_vhost_user;

/* What the peer is told of a queue; addresses of this process. */
struct pv_vhost_user_ring {
	uint64_t descriptors_hva;
	uint64_t available_hva;
	uint64_t used_hva;
	int kick_fd; /* eventfds */
	int call_fd;
};

struct pv_vhost_user_statistics {
	uint64_t chains; /* that came back */
	uint64_t kicks; /* wake-ups of the peer */
	uint64_t calls; /* and by it */
	uint64_t interrupts;
	uint64_t polls; /* looks for work that found it */
	uint64_t poll_ns; /* time spent looking */
	uint64_t sleeps;
	uint64_t in_flight; /* chains that the peer has now */
};

/*
 * Threads, parked, for the device's first `queues` queues; its ops stay the caller's.  The eventfd news_fd is written
 * when a peer broke its ring.  NULL: `error` says why.
 */
struct pv_vhost_user *pv_vhost_user_create(struct pv_device *device, uint32_t queues, uint64_t poll_ns, int news_fd,
					   char *error, size_t error_bytes);
void pv_vhost_user_destroy(struct pv_vhost_user *vhost);
/* Where the rings lie: a file of *size_bytes, mapped at *hva. */
int pv_vhost_user_memory(const struct pv_vhost_user *vhost, uint64_t *hva, uint64_t *size_bytes);
void pv_vhost_user_describe(const struct pv_vhost_user *vhost, uint32_t queue, struct pv_vhost_user_ring *ring);
/* The driver has its queues back: nothing is in flight. Parked. */
void pv_vhost_user_forget(struct pv_vhost_user *vhost);
/* A new peer is about to be given the rings, with what its predecessor had. Parked. */
void pv_vhost_user_restart(struct pv_vhost_user *vhost);
/* Between these two the threads work on the queues that are enabled. */
void pv_vhost_user_serve(struct pv_vhost_user *vhost);
/* The peer is gone, or the driver takes its queues back: what came back until now is the driver's. */
void pv_vhost_user_park(struct pv_vhost_user *vhost);
/* Whether the peer broke a ring since the last restart. */
bool pv_vhost_user_broken(const struct pv_vhost_user *vhost);
void pv_vhost_user_get_statistics(const struct pv_vhost_user *vhost, struct pv_vhost_user_statistics *statistics);

#endif
