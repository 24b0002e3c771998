/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What ring.c and the two formats of a virtqueue, ring_split.c and ring_packed.c, know of each other.
 */
#ifndef PARAVIRT_RING_H
#define PARAVIRT_RING_H

#include <string.h>

#include "host.h"

#define PV_DESC_BYTES ((uint32_t)sizeof(struct pv_virtq_desc)) /* in both formats */

static inline bool pv_ring_has(const struct pv_queue *queue, uint64_t feature)
{
	return (queue->features & feature) != 0;
}

/* A copy of a descriptor; what the driver does to its table afterwards changes nothing here. */
static inline void pv_ring_copy(void *copy, const uint8_t *table, uint32_t index)
{
	memcpy(copy, table + (size_t)index * PV_DESC_BYTES, PV_DESC_BYTES); /* indirect tables need no alignment */
	__asm__ volatile("" : : "r"(copy) : "memory"); /* no second read in place of the copy */
}

/* Each answers the rule that the driver broke, or NULL. */
/* One more buffer of a chain: VQ-2, VQ-3, VQ-4. */
const char *pv_ring_add(const struct pv_queue *queue, struct pv_chain *chain, uint64_t gpa, uint32_t size_bytes,
			bool write);
/* The table that a descriptor with INDIRECT names, and its descriptors: VQ-3, VQ-5, VQ-6. */
const char *pv_ring_table(const struct pv_queue *queue, uint64_t gpa, uint32_t size_bytes, uint16_t flags,
			  const uint8_t **table, uint32_t *count);

/*
 * A format.  take: the next chain, with the places that it takes in the ring; false: none, or queue->fault.
 * use: an entry at next_used, which moves on; seen by the driver after publish.  The others are as in
 * paravirt_host.h; wants_interrupt is about what was used since `before`, of which there is some.
 */
bool pv_split_take(struct pv_queue *queue, struct pv_chain *chain);
/* A chain that a predecessor has taken. */
bool pv_split_take_again(struct pv_queue *queue, struct pv_chain *chain, uint16_t head);
void pv_split_use(struct pv_queue *queue, const struct pv_queue_used *used);
void pv_split_publish(struct pv_queue *queue);
bool pv_split_wants_interrupt(struct pv_queue *queue, uint16_t before);
bool pv_split_arm(struct pv_queue *queue);
/* Chains that the driver says are available and nobody has taken: at most as many as there are places. */
uint16_t pv_split_waiting(const struct pv_queue *queue);
void pv_split_disarm(struct pv_queue *queue);

bool pv_packed_take(struct pv_queue *queue, struct pv_chain *chain, uint16_t *places);
/* The same; its descriptors' copies begin at an entry of queue->inflight. */
bool pv_packed_take_again(struct pv_queue *queue, struct pv_chain *chain, uint16_t entry, uint16_t places);
/* A descriptor at a position of the ring, and whether it is available to who stands there. */
struct pv_virtq_packed_desc pv_packed_look(const struct pv_queue *queue, uint16_t position);
bool pv_packed_is_available(const struct pv_queue *queue, uint16_t position);
void pv_packed_use(struct pv_queue *queue, const struct pv_queue_used *used);
void pv_packed_publish(struct pv_queue *queue);
bool pv_packed_wants_interrupt(struct pv_queue *queue, uint16_t before);
bool pv_packed_arm(struct pv_queue *queue);
void pv_packed_disarm(struct pv_queue *queue);

#endif
