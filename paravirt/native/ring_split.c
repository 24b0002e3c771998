// SPDX-License-Identifier: BSD-2-Clause
/*
 * The walk of a split virtqueue (virtio 2.7), event index included.  ring.c has what both formats share,
 * names the barriers, and calls nothing here while the queue is silent.
 */
#include "ring.h"

static struct pv_virtq_avail *avail_of(const struct pv_queue *queue)
{
	return (struct pv_virtq_avail *)(void *)queue->driver;
}

static struct pv_virtq_used *used_of(const struct pv_queue *queue)
{
	return (struct pv_virtq_used *)(void *)queue->device_area;
}

/* Head of a chain at a position of the available ring; the position `size` holds used_event. */
static uint16_t *avail_entry(const struct pv_queue *queue, uint32_t position)
{
	return (uint16_t *)(void *)(queue->driver + sizeof(struct pv_virtq_avail)) + position;
}

static struct pv_virtq_used_elem *used_entry(const struct pv_queue *queue, uint32_t position)
{
	return (struct pv_virtq_used_elem *)(void *)(queue->device_area + sizeof(struct pv_virtq_used)) + position;
}

/* avail_event lies behind the last used entry. */
static uint16_t *avail_event(const struct pv_queue *queue)
{
	return (uint16_t *)(void *)used_entry(queue, queue->state->size);
}

/* A table to go on in: its descriptors and how many. */
struct table {
	const uint8_t *hva;
	uint32_t size;
	bool indirect;
};

static const char *enter_indirect(const struct pv_queue *queue, struct table *table, const struct pv_virtq_desc *d)
{
	if (table->indirect)
		return "VQ-5";
	table->indirect = true;
	return pv_ring_table(queue, d->gpa, d->size_bytes, d->flags, &table->hva, &table->size);
}

/*
 * Bound: each turn adds a segment, of which there are at most `size` (VQ-2, so a loop ends), but the
 * one turn that enters the indirect table.
 */
static inline __attribute__((always_inline)) const char *walk(const struct pv_queue *queue, struct pv_chain *chain)
{
	struct table table = { queue->descriptors, queue->state->size, false };
	uint32_t next = chain->head;

	for (;;) {
		if (next >= table.size)
			return "VQ-1";
		struct pv_virtq_desc d;
		const char *fault;

		pv_ring_copy(&d, table.hva, next);
		if (d.flags & PV_DESC_F_INDIRECT) {
			fault = enter_indirect(queue, &table, &d);
			next = 0;
		} else {
			fault = pv_ring_add(queue, chain, d.gpa, d.size_bytes, d.flags & PV_DESC_F_WRITE);
			if (!fault && !(d.flags & PV_DESC_F_NEXT))
				return NULL;
			next = d.next;
		}
		if (fault)
			return fault;
	}
}

bool pv_split_take(struct pv_queue *queue, struct pv_chain *chain)
{
	struct pv_queue_state *s = queue->state;
	uint16_t index = __atomic_load_n(&avail_of(queue)->index, __ATOMIC_ACQUIRE); /* A */
	uint16_t waiting = (uint16_t)(index - s->next_avail);

	if (!waiting)
		return false;
	if (waiting > s->size) {
		queue->fault = "VQ-7";
		return false;
	}
	chain->head = __atomic_load_n(avail_entry(queue, s->next_avail & (s->size - 1u)), __ATOMIC_RELAXED);
	queue->fault = walk(queue, chain);
	if (queue->fault)
		return false;
	s->next_avail++;
	return true;
}

__attribute__((cold)) bool pv_split_take_again(struct pv_queue *queue, struct pv_chain *chain, uint16_t head)
{
	chain->head = head;
	queue->fault = walk(queue, chain);
	return !queue->fault;
}

uint16_t pv_split_waiting(const struct pv_queue *queue)
{
	uint16_t index = __atomic_load_n(&avail_of(queue)->index, __ATOMIC_RELAXED);
	uint16_t waiting = (uint16_t)(index - queue->state->next_avail);

	return waiting < queue->state->size ? waiting : queue->state->size;
}

void pv_split_use(struct pv_queue *queue, const struct pv_queue_used *used)
{
	struct pv_queue_state *s = queue->state;
	struct pv_virtq_used_elem *e = used_entry(queue, s->next_used & (s->size - 1u));

	__atomic_store_n(&e->id, used->head, __ATOMIC_RELAXED);
	__atomic_store_n(&e->written_bytes, used->written_bytes, __ATOMIC_RELAXED);
	s->next_used = (uint16_t)(s->next_used + used->places);
}

void pv_split_publish(struct pv_queue *queue)
{
	__atomic_store_n(&used_of(queue)->index, queue->state->next_used, __ATOMIC_RELEASE); /* C */
}

bool pv_split_wants_interrupt(struct pv_queue *queue, uint16_t before)
{
	uint16_t now = queue->state->next_used;

	/* The same index once more: the store of pair D, paid once per batch. */
	__atomic_store_n(&used_of(queue)->index, now, __ATOMIC_SEQ_CST);
	pv_memory_fence(queue->memory);
	if (!pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX))
		return !(__atomic_load_n(&avail_of(queue)->flags, __ATOMIC_SEQ_CST) & PV_RING_F_AVAIL_NO_INTERRUPT);
	uint16_t event = __atomic_load_n(avail_entry(queue, queue->state->size), __ATOMIC_SEQ_CST);
	/* The entry named by used_event is among those pushed since `before`. */
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

bool pv_split_arm(struct pv_queue *queue)
{
	const struct pv_queue_state *s = queue->state;

	if (pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX))
		__atomic_store_n(avail_event(queue), s->next_avail, __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(&used_of(queue)->flags, 0, __ATOMIC_SEQ_CST);
	pv_memory_fence(queue->memory);
	return __atomic_load_n(&avail_of(queue)->index, __ATOMIC_SEQ_CST) != s->next_avail; /* B */
}

void pv_split_disarm(struct pv_queue *queue)
{
	/* An index that the driver has just passed comes again in 65536 buffers: one doorbell too many by then. */
	if (pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX))
		__atomic_store_n(avail_event(queue), (uint16_t)(queue->state->next_avail - 1), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&used_of(queue)->flags, PV_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}
