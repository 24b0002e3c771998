/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a queue's device has taken and not given back, kept in memory that outlives it (vhost-user, "Inflight I/O
 * tracking"): a successor goes on where it died.  Between ring.c and who knows of such memory; layouts are the
 * protocol's, and whatever is read there may be anything.
 */
#ifndef PARAVIRT_INFLIGHT_H
#define PARAVIRT_INFLIGHT_H

#include "host.h"

struct pv_inflight {
	void *region; /* of one queue */
	uint32_t packed;
	uint16_t size; /* of the queue */
	uint16_t batch; /* chains given back and not published */
	uint16_t batch_of[PV_MAX_QUEUE_SIZE]; /* them */
	uint64_t counter; /* of chains, ever */
	uint16_t again[PV_MAX_QUEUE_SIZE]; /* a predecessor's, in the order in which it took them */
	uint16_t again_count;
	uint16_t again_next;
	/* Packed: our copy of what the region says of its entries, which nobody else writes. */
	uint16_t free_head;
	uint16_t next[PV_MAX_QUEUE_SIZE];
	uint16_t last[PV_MAX_QUEUE_SIZE];
	uint16_t places[PV_MAX_QUEUE_SIZE];
	uint16_t entry_of[PV_MAX_QUEUE_SIZE]; /* where a chain begins, by what names it */
};

/* Bytes of the region of a queue of that size. */
uint64_t pv_inflight_bytes(bool packed, uint16_t size);
/*
 * Begins with a region of so many bytes, and a queue that is enabled: one that is all zeros is new and its queue stands where it
 * stands; else the queue goes on where the predecessor was.  False: the region is too small for the queue or not
 * aligned, or what is in it cannot be.
 */
bool pv_inflight_begin(struct pv_inflight *inflight, struct pv_queue *queue, void *region, uint64_t region_bytes);

static inline bool pv_inflight_is_again(const struct pv_inflight *inflight)
{
	return inflight->again_next < inflight->again_count;
}

/*
 * What ring.c tells: a chain was taken, with its places from `position` on; it was given back; those that were are
 * about to be seen by the driver; they can be seen.
 */
void pv_inflight_taken(struct pv_queue *queue, uint16_t head, uint16_t position, uint16_t places);
void pv_inflight_given(struct pv_queue *queue, uint16_t head);
void pv_inflight_publishing(struct pv_queue *queue);
void pv_inflight_published(struct pv_queue *queue);
/* Packed: a copy of the nth descriptor of the chain that begins at `entry`. */
struct pv_virtq_packed_desc pv_inflight_descriptor(const struct pv_inflight *inflight, uint16_t entry, uint16_t n);

#endif
