// SPDX-License-Identifier: BSD-2-Clause
/*
 * A split queue that another process walks: which chains it has taken and not given back.  Only indices and heads
 * are read here, never descriptors, and nothing is written until the borrower is gone.
 *
 * A borrower gives chains back in any order, so the used index alone does not say which are in flight.  Both rings
 * are followed instead, as two logs.  Each keeps as many entries as it has: if more passed between two looks, or what
 * was read contradicts itself (the driver prepares entries before it publishes them), the chains in flight at that
 * moment are unknown, and the notes are unsure until as many have come back that were not seen to go.
 */
#include <string.h>

#include "vhost_user.h"

static uint16_t *avail_entries(const struct pv_queue *queue)
{
	return (uint16_t *)(void *)(queue->driver + sizeof(struct pv_virtq_avail));
}

static struct pv_virtq_used_elem *used_entries(const struct pv_queue *queue)
{
	return (struct pv_virtq_used_elem *)(void *)(queue->device_area + sizeof(struct pv_virtq_used));
}

static uint16_t available_index(const struct pv_queue *queue)
{
	return __atomic_load_n(&((struct pv_virtq_avail *)(void *)queue->driver)->index, __ATOMIC_ACQUIRE);
}

static uint16_t used_index(const struct pv_queue *queue)
{
	return __atomic_load_n(&((struct pv_virtq_used *)(void *)queue->device_area)->index, __ATOMIC_ACQUIRE);
}

static uint16_t available_head(const struct pv_queue *queue, uint16_t position)
{
	return __atomic_load_n(&avail_entries(queue)[position & (queue->state->size - 1u)], __ATOMIC_RELAXED);
}

/* Nothing is known of the chains in flight, but how many they are. */
static void forget(struct pv_lent *lent, uint16_t in_flight)
{
	memset(lent->taken, 0, sizeof(lent->taken));
	lent->in_flight = lent->unknown = in_flight;
}

void pv_lent_begin(struct pv_lent *lent, const struct pv_queue *queue)
{
	lent->queue = queue;
	lent->available = queue->state->next_avail;
	lent->used = queue->state->next_used;
	forget(lent, 0);
}

/* False: the head is none, or was what it now becomes. */
static bool mark(struct pv_lent *lent, uint32_t head, bool taken)
{
	if (head >= lent->queue->state->size)
		return false;
	uint64_t bit = 1ULL << head % 64, *word = &lent->taken[head / 64];

	if (!(*word & bit) == taken)
		*word ^= bit;
	else if (!taken && lent->unknown)
		lent->unknown--; /* one that was not seen to go */
	else
		return false;
	lent->in_flight = (uint16_t)(lent->in_flight + (taken ? 1 : -1));
	return true;
}

bool pv_lent_look(struct pv_lent *lent)
{
	const struct pv_queue *queue = lent->queue;
	uint16_t size = queue->state->size;
	/* In this order: what was used before had been available. */
	uint16_t used = used_index(queue), available = available_index(queue);
	const uint16_t used_before = lent->used, available_before = lent->available;
	bool changed = used != lent->used || available != lent->available;
	bool good = (uint16_t)(available - lent->available) <= size && (uint16_t)(used - lent->used) <= size;

	/*
	 * A head may be offered, used and offered again between two looks.  So the logs are merged: an offer that finds
	 * its head taken lets the used ones pass first, of which one must be that head's.
	 */
	while (good && lent->available != available) {
		uint16_t head = available_head(queue, lent->available);

		while (good && head < size && lent->taken[head / 64] >> head % 64 & 1 && lent->used != used)
			good = mark(
				lent,
				__atomic_load_n(&used_entries(queue)[lent->used++ & (size - 1u)].id, __ATOMIC_RELAXED),
				false);
		good = good && mark(lent, head, true);
		lent->available++;
	}
	while (good && lent->used != used)
		good = mark(lent,
			    __atomic_load_n(&used_entries(queue)[lent->used++ & (size - 1u)].id, __ATOMIC_RELAXED),
			    false);
	/* What was read had not been written over meanwhile? */
	good = good && (uint16_t)(available_index(queue) - available_before) <= size &&
	       (uint16_t)(used_index(queue) - used_before) <= size;
	lent->available = available;
	lent->used = used;
	if (!good)
		forget(lent, (uint16_t)(available - used));
	return changed;
}

static uint16_t next_taken(const struct pv_lent *lent, uint16_t head)
{
	while (!(lent->taken[head / 64] >> head % 64 & 1))
		head++;
	return head;
}

/* Whether the entries from the used index on are the chains in flight, as if all had come back in order. */
static bool in_order(const struct pv_lent *lent)
{
	uint64_t seen[PV_MAX_QUEUE_SIZE / 64] = { 0 };

	for (uint16_t position = lent->used; position != lent->available; position++) {
		uint16_t head = available_head(lent->queue, position);

		if (head >= lent->queue->state->size || seen[head / 64] >> head % 64 & 1 ||
		    !(lent->taken[head / 64] >> head % 64 & 1))
			return false;
		seen[head / 64] |= 1ULL << head % 64;
	}
	return true;
}

int pv_lent_recover(struct pv_lent *lent, bool tracked)
{
	struct pv_queue_state *s = lent->queue->state;

	pv_lent_look(lent);
	uint16_t waiting = (uint16_t)(lent->available - lent->used);
	if (waiting > s->size)
		return PV_LENT_BROKEN;
	if (!tracked && (lent->unknown || lent->in_flight != waiting))
		return PV_LENT_UNSURE;
	/*
	 * The driver does not read its own ring, and where it writes next lies behind these entries: `waiting` is at
	 * most the ring's size.
	 */
	if (!tracked && !in_order(lent)) {
		uint16_t head = 0;

		for (uint16_t position = lent->used; position != lent->available; position++, head++) {
			head = next_taken(lent, head);
			__atomic_store_n(&avail_entries(lent->queue)[position & (s->size - 1u)], head,
					 __ATOMIC_RELAXED);
		}
	}
	s->next_avail = s->next_used = s->signalled = lent->used;
	return PV_LENT_GOOD;
}
