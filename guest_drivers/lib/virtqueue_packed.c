/* SPDX-License-Identifier: 0BSD */
/*
 * The driver side of a packed ring (virtio 2.8): descriptors go round one ring, which the device writes, too.
 * Chains and their slots are virtqueue.c's, and so is the distrust.  The barriers are named in
 * virtqueue_format.h.
 *
 * Positions run freely over 16 bits: the low bits are the place in the ring, the bit above them is the
 * inverse of the wrap counter, which begins at 1.
 */
#include "virtqueue_format.h"

#define AVAIL_USED ((uint16_t)(PV_DESC_F_PACKED_AVAIL | PV_DESC_F_PACKED_USED))
#define WRAP_BIT 0x8000u /* of an event's descriptor word */

/* A descriptor is two words: the address; length, id and flags, which the flags publish. */
static uint64_t *place(const struct pv_virtq *queue, uint16_t position)
{
	return (uint64_t *)(void *)queue->descriptors + 2u * (position & pv_virtq_mask(queue));
}

static bool wrap(const struct pv_virtq *queue, uint16_t position)
{
	return !(position & queue->memory.size);
}

/* The first descriptor of a batch waits for publish: the device looks at no later one before it. */
void pv_virtq_packed_put(struct pv_virtq *queue, uint16_t head, const struct pv_virtq_piece *piece)
{
	uint64_t *words = place(queue, queue->next_avail);
	bool first = queue->next_avail == queue->shown;
	uint64_t mine = wrap(queue, queue->next_avail) ? PV_DESC_F_PACKED_AVAIL : PV_DESC_F_PACKED_USED;
	uint64_t second = (mine | piece->flags) << 48 | (uint64_t)head << 32 | piece->size_bytes;

	__atomic_store_n(&words[0], piece->gpa, __ATOMIC_RELAXED);
	if (first)
		queue->first = second;
	else
		__atomic_store_n(&words[1], second, __ATOMIC_RELAXED);
	queue->next_avail++;
}

void pv_virtq_packed_table(struct pv_virtq_desc *table, uint16_t i, const struct pv_virtq_piece *piece)
{
	((struct pv_virtq_packed_desc *)(void *)table)[i] = (struct pv_virtq_packed_desc){
		.gpa = piece->gpa,
		.size_bytes = piece->size_bytes,
		.flags = piece->flags & (uint16_t)PV_DESC_F_WRITE, /* the only one there (virtio 2.8.7) */
	};
}

bool pv_virtq_packed_publish(struct pv_virtq *queue)
{
	uint16_t size = queue->memory.size, before = queue->shown, now = queue->next_avail;

	__atomic_store_n(place(queue, before) + 1, queue->first, __ATOMIC_SEQ_CST); /* A, B */
	queue->shown = now;
	uint32_t event = __atomic_load_n((const uint32_t *)(const void *)queue->used, __ATOMIC_SEQ_CST);
	uint16_t flags = event >> 16 & 3;
	if (flags != PV_VIRTQ_EVENT_DESC || !queue->memory.event_idx)
		return flags != PV_VIRTQ_EVENT_DISABLE;
	uint16_t at = (uint16_t)((event & pv_virtq_mask(queue)) | (event & WRAP_BIT ? 0 : size));
	/* That place is among those just published; a position is known up to twice the ring. */
	return ((now - at - 1u) & (2u * size - 1)) < (uint16_t)(now - before);
}

static bool used(const struct pv_virtq *queue, uint64_t second)
{
	return (second >> 48 & AVAIL_USED) == (wrap(queue, queue->next_used) ? AVAIL_USED : 0);
}

bool pv_virtq_packed_returned(const struct pv_virtq *queue, struct pv_virtq_return *entry)
{
	uint64_t second = __atomic_load_n(place(queue, queue->next_used) + 1, __ATOMIC_ACQUIRE); /* C */

	if (!used(queue, second))
		return false;
	entry->id = (uint16_t)(second >> 32);
	entry->written_bytes = (uint32_t)second;
	/* Without WRITE the length means nothing (virtio 2.8.5), but there are devices that never set it: QEMU's. */
	entry->vague = !(second >> 48 & PV_DESC_F_WRITE);
	entry->chains = queue->published - queue->taken;
	return true;
}

bool pv_virtq_packed_arm(struct pv_virtq *queue)
{
	uint16_t next = queue->next_used;
	uint16_t at = (uint16_t)((next & pv_virtq_mask(queue)) | (wrap(queue, next) ? WRAP_BIT : 0));
	uint32_t event = queue->memory.event_idx ? (uint32_t)PV_VIRTQ_EVENT_DESC << 16 | at : 0;

	__atomic_store_n((uint32_t *)(void *)queue->avail, event, __ATOMIC_SEQ_CST);
	return used(queue, __atomic_load_n(place(queue, next) + 1, __ATOMIC_SEQ_CST)); /* D */
}

void pv_virtq_packed_disarm(struct pv_virtq *queue)
{
	__atomic_store_n((uint32_t *)(void *)queue->avail, (uint32_t)PV_VIRTQ_EVENT_DISABLE << 16, __ATOMIC_RELAXED);
}
