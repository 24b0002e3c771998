// SPDX-License-Identifier: BSD-2-Clause
/*
 * The walk of a packed virtqueue (virtio 2.8): one ring of descriptors that both sides write, wrap counters,
 * event suppression.  ring.c has what both formats share, names the barriers, and calls nothing here while
 * the queue is silent.
 *
 * Positions run freely over 16 bits, as the indexes of a split queue do: the low bits are the place in the
 * ring, the bit above them is the inverse of the wrap counter, which begins at 1.  So wrap counters are no
 * state of their own, and distances are differences.
 */
#include "inflight.h"
#include "ring.h"

_Static_assert(PV_MAX_QUEUE_SIZE <= 0x8000, "a position has a bit above the place");

#define AVAIL_USED ((uint16_t)(PV_DESC_F_PACKED_AVAIL | PV_DESC_F_PACKED_USED))
#define WRAP_BIT 0x8000u /* of an event's descriptor word */

/* A descriptor is two words: the address; length, id and flags, which the flags publish. */
static uint64_t *place(const struct pv_queue *queue, uint16_t position)
{
	return (uint64_t *)(void *)queue->descriptors + 2u * (position & (queue->state->size - 1u));
}

static bool wrap(const struct pv_queue *queue, uint16_t position)
{
	return !(position & queue->state->size);
}

/* Available to who stands at this position: AVAIL is the wrap counter, USED its inverse. */
static bool available(const struct pv_queue *queue, uint16_t position, uint16_t flags)
{
	return (flags & AVAIL_USED) == (wrap(queue, position) ? PV_DESC_F_PACKED_AVAIL : PV_DESC_F_PACKED_USED);
}

struct pv_virtq_packed_desc pv_packed_look(const struct pv_queue *queue, uint16_t position)
{
	const uint64_t *words = place(queue, position);
	uint64_t second = __atomic_load_n(&words[1], __ATOMIC_ACQUIRE); /* A */

	return (struct pv_virtq_packed_desc){
		.gpa = __atomic_load_n(&words[0], __ATOMIC_RELAXED),
		.size_bytes = (uint32_t)second,
		.id = (uint16_t)(second >> 32),
		.flags = (uint16_t)(second >> 48),
	};
}

/* All of the table, one after another; of the flags only WRITE and INDIRECT mean something there. */
static const char *walk_table(const struct pv_queue *queue, struct pv_chain *chain,
			      const struct pv_virtq_packed_desc *to)
{
	const uint8_t *table;
	uint32_t count;
	const char *fault = pv_ring_table(queue, to->gpa, to->size_bytes, to->flags, &table, &count);

	for (uint32_t i = 0; !fault && i < count; i++) {
		struct pv_virtq_packed_desc d;

		pv_ring_copy(&d, table, i);
		if (d.flags & PV_DESC_F_INDIRECT)
			return "VQ-5";
		fault = pv_ring_add(queue, chain, d.gpa, d.size_bytes, d.flags & PV_DESC_F_WRITE);
	}
	return fault;
}

/*
 * The chain whose first descriptor is `d`, at next_avail.  Bound: a turn for each place that no chain of the
 * driver's has, at most `size`.
 */
static const char *walk(const struct pv_queue *queue, struct pv_chain *chain, struct pv_virtq_packed_desc d,
			uint16_t *places)
{
	const struct pv_queue_state *s = queue->state;
	const char *fault;

	for (*places = 1;; ++*places) {
		uint16_t next = (uint16_t)(s->next_avail + *places);

		/* Places that were taken and not given back yet are the device's (VQ-13). */
		if ((uint16_t)(next - s->next_used) > s->size)
			return "VQ-13";
		if (d.flags & PV_DESC_F_INDIRECT)
			fault = walk_table(queue, chain, &d);
		else
			fault = pv_ring_add(queue, chain, d.gpa, d.size_bytes, d.flags & PV_DESC_F_WRITE);
		if (fault)
			return fault;
		if (!(d.flags & PV_DESC_F_NEXT))
			break;
		if (*places == s->size)
			return "VQ-2";
		d = pv_packed_look(queue, next);
		if (!available(queue, next, d.flags))
			return "VQ-13";
	}
	chain->head = d.id; /* of the last one (virtio 2.8.6) */
	return d.id >= s->size || queue->taken[d.id].places ? "VQ-13" : NULL;
}

bool pv_packed_take(struct pv_queue *queue, struct pv_chain *chain, uint16_t *places)
{
	struct pv_queue_state *s = queue->state;
	struct pv_virtq_packed_desc d = pv_packed_look(queue, s->next_avail);

	if (!available(queue, s->next_avail, d.flags))
		return false;
	queue->fault = walk(queue, chain, d, places);
	if (queue->fault)
		return false;
	s->next_avail = (uint16_t)(s->next_avail + *places);
	return true;
}

bool pv_packed_is_available(const struct pv_queue *queue, uint16_t position)
{
	return available(queue, position, pv_packed_look(queue, position).flags);
}

bool pv_packed_take_again(struct pv_queue *queue, struct pv_chain *chain, uint16_t entry, uint16_t places)
{
	for (uint16_t n = 0; n < places && !queue->fault; n++) {
		struct pv_virtq_packed_desc d = pv_inflight_descriptor(queue->inflight, entry, n);

		chain->head = d.id;
		if (d.flags & PV_DESC_F_INDIRECT)
			queue->fault = walk_table(queue, chain, &d);
		else
			queue->fault = pv_ring_add(queue, chain, d.gpa, d.size_bytes, d.flags & PV_DESC_F_WRITE);
	}
	if (!queue->fault && (chain->head >= queue->state->size || queue->taken[chain->head].places))
		queue->fault = "VQ-13";
	return !queue->fault;
}

/* The first entry of a batch waits for publish: the driver looks at no later one before it. */
void pv_packed_use(struct pv_queue *queue, const struct pv_queue_used *used)
{
	struct pv_queue_state *s = queue->state;
	uint64_t *word = place(queue, s->next_used) + 1;
	uint64_t flags = (wrap(queue, s->next_used) ? AVAIL_USED : 0) | (used->written_bytes ? PV_DESC_F_WRITE : 0);
	uint64_t entry = flags << 48 | (uint64_t)used->head << 32 | used->written_bytes;

	if (queue->first) {
		__atomic_store_n(word, entry, __ATOMIC_RELAXED);
	} else {
		queue->first = word;
		queue->first_entry = entry;
	}
	s->next_used = (uint16_t)(s->next_used + used->places);
}

void pv_packed_publish(struct pv_queue *queue)
{
	if (queue->first)
		__atomic_store_n(queue->first, queue->first_entry, __ATOMIC_RELEASE); /* C */
	queue->first = NULL;
}

static uint32_t event_word(uint16_t descriptor, uint16_t flags)
{
	return (uint32_t)flags << 16 | descriptor;
}

bool pv_packed_wants_interrupt(struct pv_queue *queue, uint16_t before)
{
	uint16_t size = queue->state->size, now = queue->state->next_used;

	/*
	 * Pair D.  What was published cannot be stored once more, for the driver may have put something else
	 * there: an exchange of our own is the barrier, once per batch.
	 */
	__atomic_exchange_n(&queue->barrier, 0, __ATOMIC_SEQ_CST);
	pv_memory_fence(queue->memory);
	uint32_t event = __atomic_load_n((const uint32_t *)(const void *)queue->driver, __ATOMIC_SEQ_CST);
	uint16_t flags = event >> 16 & 3;
	if (flags != PV_VIRTQ_EVENT_DESC || !pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX))
		return flags != PV_VIRTQ_EVENT_DISABLE;
	uint16_t at = (uint16_t)((event & (size - 1u)) | (event & WRAP_BIT ? 0 : size));
	/* That place is among those passed since `before`; a position is known up to twice the ring. */
	return ((now - at - 1u) & (2u * size - 1)) < (uint16_t)(now - before);
}

bool pv_packed_arm(struct pv_queue *queue)
{
	uint16_t next = queue->state->next_avail;
	uint16_t at = (uint16_t)((next & (queue->state->size - 1u)) | (wrap(queue, next) ? WRAP_BIT : 0));
	uint32_t event = pv_ring_has(queue, PV_VIRTIO_F_EVENT_IDX) ? event_word(at, PV_VIRTQ_EVENT_DESC)
								   : event_word(0, PV_VIRTQ_EVENT_ENABLE);

	__atomic_store_n((uint32_t *)(void *)queue->device_area, event, __ATOMIC_SEQ_CST);
	pv_memory_fence(queue->memory);
	uint64_t second = __atomic_load_n(place(queue, next) + 1, __ATOMIC_SEQ_CST); /* B */
	return available(queue, next, (uint16_t)(second >> 48));
}

void pv_packed_disarm(struct pv_queue *queue)
{
	__atomic_store_n((uint32_t *)(void *)queue->device_area, event_word(0, PV_VIRTQ_EVENT_DISABLE),
			 __ATOMIC_RELAXED);
}
