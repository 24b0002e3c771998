/* SPDX-License-Identifier: 0BSD
 *
 * What virtqueue.c and the two formats of a ring, virtqueue_split.c and virtqueue_packed.c, know of each
 * other.  No part of the library's interface.
 *
 * Barriers, in pairs with the device:
 *   A  we fill descriptors, then make them available (release); it sees that, then reads those.
 *   B  we make them available, then read whether it wants doorbells; it asks, then looks for more.
 *   C  it writes buffers and entries, then says that they are used; we see that (acquire), then read those.
 *   D  we ask for interrupts, then look for more; it says what is used, then reads what we asked.
 * B and D are store-then-load on both sides, hence sequentially consistent accesses.  These need no fence
 * instruction (x86: xchg), which hosts that emulate the guest's instructions may lack.
 *
 * Entries of the device are read once each: a second read might differ from what was checked.
 */
#ifndef PARAVIRT_VIRTQUEUE_FORMAT_H
#define PARAVIRT_VIRTQUEUE_FORMAT_H

#include "paravirt/virtqueue.h"

/* A descriptor, whatever its layout; flags without those that say whose it is. */
struct pv_virtq_piece {
	uint64_t gpa;
	uint32_t size_bytes;
	uint16_t flags;
};

/* What the device says of the next chains that it used; not believed yet. */
struct pv_virtq_return {
	uint32_t id;
	uint32_t written_bytes;
	bool vague; /* written_bytes may mean nothing */
	uint64_t chains; /* at most so many with this entry */
};

static inline uint16_t pv_virtq_mask(const struct pv_virtq *queue)
{
	return (uint16_t)(queue->memory.size - 1);
}

/*
 * A format.  put: a descriptor of the ring, of the chain that starts at slot `head`; its own slot is `at`, the
 * one after it `next`.  table: entry `i` of an indirect table.  publish: what was put since the last time; whether the
 * device wants the doorbell.  returned: whether there is an entry.  arm: asks, and whether there is one already.
 */
void pv_virtq_split_put(struct pv_virtq *queue, uint16_t head, uint16_t at, uint16_t next,
			const struct pv_virtq_piece *piece);
void pv_virtq_split_table(struct pv_virtq_desc *table, uint16_t i, const struct pv_virtq_piece *piece);
bool pv_virtq_split_publish(struct pv_virtq *queue);
bool pv_virtq_split_returned(const struct pv_virtq *queue, struct pv_virtq_return *entry);
bool pv_virtq_split_arm(struct pv_virtq *queue);
void pv_virtq_split_disarm(struct pv_virtq *queue);

void pv_virtq_packed_put(struct pv_virtq *queue, uint16_t head, const struct pv_virtq_piece *piece);
void pv_virtq_packed_table(struct pv_virtq_desc *table, uint16_t i, const struct pv_virtq_piece *piece);
bool pv_virtq_packed_publish(struct pv_virtq *queue);
bool pv_virtq_packed_returned(const struct pv_virtq *queue, struct pv_virtq_return *entry);
bool pv_virtq_packed_arm(struct pv_virtq *queue);
void pv_virtq_packed_disarm(struct pv_virtq *queue);

#endif
