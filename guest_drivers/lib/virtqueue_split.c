/* SPDX-License-Identifier: 0BSD */
/*
 * The driver side of a split ring (virtio 2.7); chains and their slots are virtqueue.c's, and so is the
 * distrust.  The barriers are named in virtqueue_format.h.
 */
#include "virtqueue_format.h"

static uint16_t *avail_entry(const struct pv_virtq *queue, uint16_t position)
{
	return (uint16_t *)(queue->avail + 1) + position;
}

/* used_event lies behind the last available entry, avail_event behind the last used one. */
static uint16_t *used_event(const struct pv_virtq *queue)
{
	return avail_entry(queue, queue->memory.size);
}

static const struct pv_virtq_used_elem *used_entry(const struct pv_virtq *queue, uint16_t position)
{
	return (const struct pv_virtq_used_elem *)(queue->used + 1) + position;
}

static const uint16_t *avail_event(const struct pv_virtq *queue)
{
	return (const uint16_t *)used_entry(queue, queue->memory.size);
}

static struct pv_virtq_desc descriptor(const struct pv_virtq_piece *piece, uint16_t next)
{
	return (struct pv_virtq_desc){
		.gpa = piece->gpa,
		.size_bytes = piece->size_bytes,
		.flags = piece->flags,
		.next = piece->flags & PV_DESC_F_NEXT ? next : 0,
	};
}

void pv_virtq_split_put(struct pv_virtq *queue, uint16_t head, uint16_t at, uint16_t next,
			const struct pv_virtq_piece *piece)
{
	queue->descriptors[at] = descriptor(piece, next);
	/* The device reads this entry only once the index says so. */
	if (at == head)
		__atomic_store_n(avail_entry(queue, (uint16_t)queue->added & pv_virtq_mask(queue)), head,
				 __ATOMIC_RELAXED);
}

void pv_virtq_split_table(struct pv_virtq_desc *table, uint16_t i, const struct pv_virtq_piece *piece)
{
	table[i] = descriptor(piece, (uint16_t)(i + 1));
}

bool pv_virtq_split_publish(struct pv_virtq *queue)
{
	uint16_t before = (uint16_t)queue->published, now = (uint16_t)queue->added;

	__atomic_store_n(&queue->avail->index, now, __ATOMIC_SEQ_CST); /* A, B */
	if (!queue->memory.event_idx)
		return !(__atomic_load_n(&queue->used->flags, __ATOMIC_SEQ_CST) & PV_USED_F_NO_NOTIFY);
	uint16_t event = __atomic_load_n(avail_event(queue), __ATOMIC_SEQ_CST);
	/* The entry named by avail_event is among those just published. */
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

bool pv_virtq_split_returned(const struct pv_virtq *queue, struct pv_virtq_return *entry)
{
	uint16_t index = __atomic_load_n(&queue->used->index, __ATOMIC_ACQUIRE); /* C */
	uint16_t waiting = (uint16_t)(index - (uint16_t)queue->taken);

	if (!waiting)
		return false;
	const struct pv_virtq_used_elem *e = used_entry(queue, (uint16_t)queue->taken & pv_virtq_mask(queue));
	entry->id = __atomic_load_n(&e->id, __ATOMIC_RELAXED);
	entry->written_bytes = __atomic_load_n(&e->written_bytes, __ATOMIC_RELAXED);
	entry->vague = false;
	entry->chains = waiting <= queue->published - queue->taken ? waiting : 0; /* more than it was given: none */
	return true;
}

bool pv_virtq_split_arm(struct pv_virtq *queue)
{
	uint16_t taken = (uint16_t)queue->taken;

	if (queue->memory.event_idx)
		__atomic_store_n(used_event(queue), taken, __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(&queue->avail->flags, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&queue->used->index, __ATOMIC_SEQ_CST) != taken; /* D */
}

void pv_virtq_split_disarm(struct pv_virtq *queue)
{
	/* An index that the device has just passed comes again in 65536 chains: one interrupt too many by then. */
	if (queue->memory.event_idx)
		__atomic_store_n(used_event(queue), (uint16_t)(queue->taken - 1), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&queue->avail->flags, PV_RING_F_AVAIL_NO_INTERRUPT, __ATOMIC_RELAXED);
}
