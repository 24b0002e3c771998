// SPDX-License-Identifier: BSD-2-Clause
/*
 * Keeping what a device has where a successor finds it.  A crash may come between any two stores, so their order is
 * the protocol's: a chain is marked before anything is done for it; a batch is named before the driver sees it and
 * unmarked after.  Stores of one thread to memory that a process leaves behind are seen in their order.
 *
 * The front end can write to the region at any time.  What is needed again is kept in our own memory; the region is
 * read at the beginning alone, and each of its numbers is checked.
 */
#include "inflight.h"

#include <stdlib.h>

#include "ring.h"

#define VERSION 1

struct split_entry {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next; /* of the batch */
	uint64_t counter;
};

struct split_region {
	uint64_t features;
	uint16_t version;
	uint16_t size;
	uint16_t last_batch_head;
	uint16_t used_index;
	struct split_entry entries[];
};

struct packed_entry {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next; /* free, or of the same chain */
	uint16_t last;
	uint16_t places;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t size_bytes;
	uint64_t gpa;
};

struct packed_region {
	uint64_t features;
	uint16_t version;
	uint16_t size;
	uint16_t free_head;
	uint16_t old_free_head;
	uint16_t used_index;
	uint16_t old_used_index;
	uint8_t used_wrap;
	uint8_t old_used_wrap;
	uint8_t padding[7];
	struct packed_entry entries[];
};

_Static_assert(sizeof(struct split_region) == 16 && sizeof(struct split_entry) == 16, "as the protocol has them");
_Static_assert(sizeof(struct packed_region) == 32 && sizeof(struct packed_entry) == 32, "as the protocol has them");

#define ALIGNMENT 64u

/* In this order for a successor: the compiler keeps it too. */
#define PUT(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)
#define GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

uint64_t pv_inflight_bytes(bool packed, uint16_t size)
{
	uint64_t bytes = packed ? sizeof(struct packed_region) + size * sizeof(struct packed_entry)
				: sizeof(struct split_region) + size * sizeof(struct split_entry);

	return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- while the device works ---- */

/* The chain's descriptors, copied: the driver's ring has room for others' entries where they are. */
static void packed_taken(struct pv_inflight *inflight, const struct pv_queue *queue, uint16_t head, uint16_t position,
			 uint16_t places)
{
	struct packed_region *region = inflight->region;
	uint16_t first = inflight->free_head, at = first;

	inflight->entry_of[head] = inflight->size;
	for (uint16_t n = 0; n < places; n++) {
		if (at == inflight->size)
			return; /* a driver that offers places before it can see them used: its chain is not kept */
		struct pv_virtq_packed_desc d = pv_packed_look(queue, (uint16_t)(position + n));
		struct packed_entry *entry = &region->entries[at];

		entry->gpa = d.gpa;
		entry->size_bytes = d.size_bytes;
		entry->flags = d.flags;
		entry->id = d.id;
		inflight->last[first] = at;
		at = inflight->next[at];
	}
	inflight->places[first] = places;
	inflight->entry_of[head] = first;
	inflight->free_head = at;
	PUT(region->entries[first].last, inflight->last[first]);
	PUT(region->entries[first].places, places);
	PUT(region->entries[first].counter, inflight->counter++);
	PUT(region->entries[first].inflight, 1);
	PUT(region->free_head, at);
	PUT(region->old_free_head, at);
}

void pv_inflight_taken(struct pv_queue *queue, uint16_t head, uint16_t position, uint16_t places)
{
	struct pv_inflight *inflight = queue->inflight;

	if (inflight->packed) {
		packed_taken(inflight, queue, head, position, places);
		return;
	}
	struct split_region *region = inflight->region;
	PUT(region->entries[head].counter, inflight->counter++);
	PUT(region->entries[head].inflight, 1);
}

void pv_inflight_given(struct pv_queue *queue, uint16_t head)
{
	struct pv_inflight *inflight = queue->inflight;
	uint16_t entry = inflight->packed ? inflight->entry_of[head] : head;

	/* A driver that offers a chain again before it can see it used: once is enough. */
	if (entry < inflight->size && inflight->batch < PV_MAX_QUEUE_SIZE)
		inflight->batch_of[inflight->batch++] = entry;
}

/* What was given back is free for other chains now, and not before: its copies are needed if we die until then. */
static void packed_publishing(struct pv_inflight *inflight, const struct pv_queue *queue)
{
	struct packed_region *region = inflight->region;
	uint16_t used = queue->state->next_used;

	for (uint16_t i = 0; i < inflight->batch; i++) {
		uint16_t entry = inflight->batch_of[i], last = inflight->last[entry];

		inflight->next[last] = inflight->free_head;
		PUT(region->entries[last].next, inflight->free_head);
		inflight->free_head = entry;
	}
	PUT(region->free_head, inflight->free_head);
	PUT(region->used_index, used & (inflight->size - 1u));
	PUT(region->used_wrap, !(used & inflight->size));
}

void pv_inflight_publishing(struct pv_queue *queue)
{
	struct pv_inflight *inflight = queue->inflight;

	if (inflight->packed) {
		packed_publishing(inflight, queue);
		return;
	}
	struct split_region *region = inflight->region;
	for (uint16_t i = 0; i < inflight->batch; i++) {
		uint16_t head = inflight->batch_of[i];

		PUT(region->entries[head].next, inflight->batch_of[i ? i - 1 : 0]);
		PUT(region->last_batch_head, head);
	}
}

void pv_inflight_published(struct pv_queue *queue)
{
	struct pv_inflight *inflight = queue->inflight;
	struct split_region *split = inflight->region;
	struct packed_region *packed = inflight->region;

	for (uint16_t i = 0; i < inflight->batch; i++) {
		uint16_t at = inflight->batch_of[i];

		PUT(*(inflight->packed ? &packed->entries[at].inflight : &split->entries[at].inflight), 0);
	}
	inflight->batch = 0;
	if (inflight->packed) {
		PUT(packed->old_free_head, inflight->free_head);
		PUT(packed->old_used_index, GET(packed->used_index));
		PUT(packed->old_used_wrap, GET(packed->used_wrap));
	} else {
		PUT(split->used_index, queue->state->next_used);
	}
}

struct pv_virtq_packed_desc pv_inflight_descriptor(const struct pv_inflight *inflight, uint16_t entry, uint16_t n)
{
	const struct packed_region *region = inflight->region;

	while (n--)
		entry = inflight->next[entry];
	return (struct pv_virtq_packed_desc){
		.gpa = GET(region->entries[entry].gpa),
		.size_bytes = GET(region->entries[entry].size_bytes),
		.id = GET(region->entries[entry].id),
		.flags = GET(region->entries[entry].flags),
	};
}

/* ---- the beginning ---- */

struct found {
	uint64_t counter;
	uint16_t entry;
};

static int earlier(const void *left, const void *right)
{
	uint64_t a = ((const struct found *)left)->counter, b = ((const struct found *)right)->counter;

	return a < b ? -1 : a > b;
}

/* Chains that are to be taken again, in their order. */
static void order(struct pv_inflight *inflight, struct found *found, uint16_t count)
{
	qsort(found, count, sizeof(*found), earlier);
	for (uint16_t i = 0; i < count; i++)
		inflight->again[i] = found[i].entry;
	inflight->again_count = count;
	inflight->counter = count ? found[count - 1].counter + 1 : 0;
}

/* Bound: as many as the driver saw since the predecessor noted it, of which each has a place. */
static void forget_last_batch(struct split_region *region, uint16_t size, uint16_t used)
{
	uint16_t count = (uint16_t)(used - GET(region->used_index)), head = GET(region->last_batch_head);

	for (uint16_t i = 0; i < count && i < size && head < size; i++) {
		PUT(region->entries[head].inflight, 0);
		head = GET(region->entries[head].next);
	}
	PUT(region->used_index, used);
}

static bool begin_split(struct pv_inflight *inflight, struct pv_queue *queue)
{
	struct split_region *region = inflight->region;
	struct found found[PV_MAX_QUEUE_SIZE];
	uint16_t count = 0;

	if (!GET(region->version)) {
		PUT(region->size, inflight->size);
		PUT(region->used_index, queue->state->next_used);
		PUT(region->version, VERSION);
		return true;
	}
	if (GET(region->version) != VERSION || GET(region->size) != inflight->size)
		return false;
	forget_last_batch(region, inflight->size, queue->state->next_used);
	for (uint16_t head = 0; head < inflight->size; head++) {
		if (GET(region->entries[head].inflight))
			found[count++] = (struct found){ GET(region->entries[head].counter), head };
	}
	order(inflight, found, count);
	if (count)
		queue->state->next_avail = (uint16_t)(queue->state->next_used + count);
	return true;
}

static uint16_t position_of(uint16_t size, uint16_t index, bool wrap)
{
	return (uint16_t)(index | (wrap ? 0 : size));
}

/* Settles what was under way: the driver saw the last batch, or it did not.  What is free is not with the device. */
static bool settle(struct pv_inflight *inflight, const struct pv_queue *queue)
{
	struct packed_region *region = inflight->region;
	uint16_t used = GET(region->used_index), before = GET(region->old_used_index), size = inflight->size;
	bool wrap = GET(region->used_wrap), wrap_before = GET(region->old_used_wrap);
	uint16_t at;

	if (used >= size || before >= size)
		return false;
	if ((used != before || wrap != wrap_before) &&
	    !pv_packed_is_available(queue, position_of(size, before, wrap_before))) {
		PUT(region->old_free_head, GET(region->free_head));
		PUT(region->old_used_index, used);
		PUT(region->old_used_wrap, wrap);
	}
	PUT(region->used_index, GET(region->old_used_index));
	PUT(region->used_wrap, GET(region->old_used_wrap));
	at = GET(region->old_free_head);
	for (uint16_t i = 0; i < size && at < size; i++) {
		PUT(region->entries[at].inflight, 0);
		at = GET(region->entries[at].next);
	}
	return true;
}

/* The chain that begins at an entry, checked: its entries are its own.  How many; 0: it cannot be. */
static uint16_t load_chain(struct pv_inflight *inflight, uint16_t first, bool *of_some)
{
	const struct packed_region *region = inflight->region;
	uint16_t places = GET(region->entries[first].places), at = first;

	if (!places || places > inflight->size)
		return 0;
	for (uint16_t n = 0; n < places; n++) {
		if (at >= inflight->size || of_some[at])
			return 0;
		of_some[at] = true;
		inflight->last[first] = at;
		inflight->next[at] = GET(region->entries[at].next);
		at = inflight->next[at];
	}
	inflight->places[first] = places;
	return places;
}

/* All that belongs to no chain, one after another; behind the last comes what is no entry. */
static void link_free(struct pv_inflight *inflight, const bool *of_some)
{
	struct packed_region *region = inflight->region;

	inflight->free_head = inflight->size;
	for (uint16_t at = inflight->size; at-- > 0;) {
		if (of_some[at])
			continue;
		inflight->next[at] = inflight->free_head;
		PUT(region->entries[at].next, inflight->free_head);
		inflight->free_head = at;
	}
	PUT(region->free_head, inflight->free_head);
	PUT(region->old_free_head, inflight->free_head);
}

static void begin_new_packed(struct pv_inflight *inflight, uint16_t used)
{
	struct packed_region *region = inflight->region;
	bool of_some[PV_MAX_QUEUE_SIZE] = { false };

	link_free(inflight, of_some);
	region->used_index = region->old_used_index = (uint16_t)(used & (inflight->size - 1u));
	region->used_wrap = region->old_used_wrap = !(used & inflight->size);
	PUT(region->size, inflight->size);
	PUT(region->version, VERSION);
}

static bool begin_packed(struct pv_inflight *inflight, struct pv_queue *queue)
{
	struct packed_region *region = inflight->region;
	struct pv_queue_state *s = queue->state;
	struct found found[PV_MAX_QUEUE_SIZE];
	bool of_some[PV_MAX_QUEUE_SIZE] = { false };
	uint16_t count = 0, places = 0;

	if (!GET(region->version)) {
		begin_new_packed(inflight, s->next_used);
		return true;
	}
	if (GET(region->version) != VERSION || GET(region->size) != inflight->size || !settle(inflight, queue))
		return false;
	for (uint16_t at = 0; at < inflight->size; at++) {
		if (!GET(region->entries[at].inflight))
			continue;
		uint16_t more = load_chain(inflight, at, of_some);
		if (!more)
			return false;
		places = (uint16_t)(places + more);
		found[count++] = (struct found){ GET(region->entries[at].counter), at };
	}
	link_free(inflight, of_some);
	order(inflight, found, count);
	s->next_used = position_of(inflight->size, GET(region->used_index) % inflight->size, GET(region->used_wrap));
	s->signalled = s->next_used;
	s->next_avail = (uint16_t)(s->next_used + places);
	return true;
}

bool pv_inflight_begin(struct pv_inflight *inflight, struct pv_queue *queue, void *region, uint64_t region_bytes)
{
	*inflight = (struct pv_inflight){
		.region = region,
		.packed = pv_ring_has(queue, PV_VIRTIO_F_RING_PACKED),
		.size = (uint16_t)queue->state->size,
	};
	/* The queue's size is told apart from the region's. */
	if (region_bytes < pv_inflight_bytes(inflight->packed, inflight->size) || (uintptr_t)region % sizeof(uint64_t))
		return false;
	if (!(inflight->packed ? begin_packed(inflight, queue) : begin_split(inflight, queue)))
		return false;
	queue->inflight = inflight;
	return true;
}
