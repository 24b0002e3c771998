// SPDX-License-Identifier: BSD-2-Clause
/*
 * A split queue whose device is another process, and whose driver is here: chains that a guest's driver offered are
 * given on, by host addresses.  What is in flight is kept here, out of the peer's reach.
 *
 * The peer is not trusted: it may write to all of the shared memory, so nothing but the used ring is read, an entry
 * is copied once, and one that names no chain in flight is the last one (pv_shadow_take).
 */
#include <stdlib.h>
#include <string.h>

#include "vhost_user.h"

#define MASK (PV_SHADOW_SIZE - 1u)

_Static_assert(PV_SHADOW_SIZE * sizeof(struct pv_virtq_desc) <= PV_SHADOW_AVAILABLE, "the table has its room");
_Static_assert(PV_SHADOW_AVAILABLE + sizeof(struct pv_virtq_avail) + 2 * PV_SHADOW_SIZE + 2 <= PV_SHADOW_USED,
	       "so has the available ring");
_Static_assert(PV_SHADOW_USED + sizeof(struct pv_virtq_used) + PV_SHADOW_SIZE * sizeof(struct pv_virtq_used_elem) + 2 <=
		       PV_SHADOW_BYTES,
	       "and the used ring");
_Static_assert(PV_SHADOW_SIZE >= PV_MAX_QUEUE_SIZE, "a chain of any size fits");

static struct pv_virtq_desc *descriptor(const struct pv_shadow *shadow, uint16_t index)
{
	return (struct pv_virtq_desc *)(void *)shadow->memory + index;
}

static struct pv_virtq_avail *available_ring(const struct pv_shadow *shadow)
{
	return (struct pv_virtq_avail *)(void *)(shadow->memory + PV_SHADOW_AVAILABLE);
}

static struct pv_virtq_used *used_ring(const struct pv_shadow *shadow)
{
	return (struct pv_virtq_used *)(void *)(shadow->memory + PV_SHADOW_USED);
}

static uint16_t used_index(const struct pv_shadow *shadow)
{
	return __atomic_load_n(&used_ring(shadow)->index, __ATOMIC_SEQ_CST);
}

void pv_shadow_init(struct pv_shadow *shadow, void *memory)
{
	memset(shadow, 0, sizeof(*shadow));
	shadow->memory = memory;
	shadow->free_count = PV_SHADOW_SIZE;
	for (uint16_t i = 0; i < PV_SHADOW_SIZE; i++)
		shadow->free[i] = i;
	pv_shadow_restart(shadow);
}

/* Puts the chain with that first descriptor into the available ring. */
static void offer(struct pv_shadow *shadow, uint16_t first)
{
	uint16_t *entries = (uint16_t *)(void *)(available_ring(shadow) + 1);

	entries[shadow->available++ & MASK] = first;
}

struct order {
	uint64_t number;
	uint16_t first;
};

static int by_number(const void *a, const void *b)
{
	uint64_t left = ((const struct order *)a)->number, right = ((const struct order *)b)->number;

	return left < right ? -1 : left > right;
}

void pv_shadow_restart(struct pv_shadow *shadow)
{
	struct order orders[PV_SHADOW_SIZE];
	size_t count = 0;

	for (uint16_t i = 0; i < PV_SHADOW_SIZE; i++) {
		if (shadow->chains[i].count)
			orders[count++] = (struct order){ shadow->chains[i].number, i };
	}
	qsort(orders, count, sizeof(orders[0]), by_number);
	/* Nobody looks: the last peer is gone, the next one not there yet.  The driver's half of the rings is ours. */
	memset(shadow->memory + PV_SHADOW_AVAILABLE, 0, PV_SHADOW_BYTES - PV_SHADOW_AVAILABLE);
	shadow->available = shadow->used = 0;
	for (size_t i = 0; i < count; i++)
		offer(shadow, orders[i].first);
	pv_shadow_disarm(shadow);
	(void)pv_shadow_publish(shadow);
}

bool pv_shadow_give(struct pv_shadow *shadow, const struct pv_chain *chain)
{
	uint16_t count = (uint16_t)(chain->readable + chain->writable), first = 0, before = 0;

	if (count > shadow->free_count)
		return false;
	for (uint16_t i = 0; i < count; i++) {
		uint16_t index = shadow->free[--shadow->free_count];
		bool last = i == count - 1, write = i >= chain->readable;

		*descriptor(shadow, index) = (struct pv_virtq_desc){
			.gpa = (uintptr_t)chain->segments[i].iov_base,
			.size_bytes = (uint32_t)chain->segments[i].iov_len,
			.flags = (uint16_t)((last ? 0 : PV_DESC_F_NEXT) | (write ? PV_DESC_F_WRITE : 0)),
		};
		if (i == 0)
			first = index;
		else
			descriptor(shadow, before)->next = shadow->next[before] = index;
		before = index;
	}
	shadow->chains[first] = (struct pv_shadow_chain){
		.number = shadow->given++,
		.room_bytes = chain->writable_bytes < UINT32_MAX ? (uint32_t)chain->writable_bytes : UINT32_MAX,
		.head = chain->head,
		.count = count,
	};
	__atomic_store_n(&shadow->in_flight, (uint16_t)(shadow->in_flight + 1), __ATOMIC_RELAXED);
	offer(shadow, first);
	return true;
}

bool pv_shadow_publish(struct pv_shadow *shadow)
{
	/* Sequentially consistent, as is the peer's half: it sees the index, or we see that it wants a kick. */
	__atomic_store_n(&available_ring(shadow)->index, shadow->available, __ATOMIC_SEQ_CST);
	return !(__atomic_load_n(&used_ring(shadow)->flags, __ATOMIC_SEQ_CST) & PV_USED_F_NO_NOTIFY);
}

static void free_chain(struct pv_shadow *shadow, uint16_t first)
{
	uint16_t count = shadow->chains[first].count, index = first;

	for (uint16_t i = 0; i < count; i++) {
		shadow->free[shadow->free_count++] = index;
		index = shadow->next[index];
	}
	shadow->chains[first].count = 0;
	__atomic_store_n(&shadow->in_flight, (uint16_t)(shadow->in_flight - 1), __ATOMIC_RELAXED);
}

int pv_shadow_take(struct pv_shadow *shadow, uint16_t *head, uint32_t *written_bytes)
{
	struct pv_virtq_used_elem *entries = (struct pv_virtq_used_elem *)(void *)(used_ring(shadow) + 1);

	if (__atomic_load_n(&used_ring(shadow)->index, __ATOMIC_ACQUIRE) == shadow->used)
		return 0;
	struct pv_virtq_used_elem *entry = &entries[shadow->used & MASK];
	uint32_t id = __atomic_load_n(&entry->id, __ATOMIC_RELAXED);
	uint32_t written = __atomic_load_n(&entry->written_bytes, __ATOMIC_RELAXED);

	/* An index that runs away is found here too: what was given back is not in flight any more. */
	if (id >= PV_SHADOW_SIZE || !shadow->chains[id].count || written > shadow->chains[id].room_bytes)
		return -1;
	*head = shadow->chains[id].head;
	*written_bytes = written;
	shadow->used++;
	free_chain(shadow, (uint16_t)id);
	return 1;
}

bool pv_shadow_arm(struct pv_shadow *shadow)
{
	__atomic_store_n(&available_ring(shadow)->flags, 0, __ATOMIC_SEQ_CST);
	return used_index(shadow) != shadow->used;
}

void pv_shadow_disarm(struct pv_shadow *shadow)
{
	__atomic_store_n(&available_ring(shadow)->flags, PV_RING_F_AVAIL_NO_INTERRUPT, __ATOMIC_RELAXED);
}
