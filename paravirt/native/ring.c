// SPDX-License-Identifier: BSD-2-Clause
/*
 * The device side of a split virtqueue (virtio 2.7), indirect descriptors and event index included.
 * What a queue belongs to, and what follows from a fault, is left to status.c.
 *
 * The driver is hostile: each descriptor is copied once and the copy is checked (VQ-1 to VQ-6), and
 * the walk has a bound.  A queue whose driver broke a rule is silent until it is enabled again.
 *
 * Barriers, in pairs with the driver:
 *   A  it fills descriptors and ring, then publishes its index; we read the index (acquire), then those.
 *   B  we ask for doorbells, then read its index; it publishes its index, then reads what we asked.
 *   C  we write buffers and entries, then our index (release); it reads the index, then those.
 *   D  we publish our index, then read whether it wants interrupts; it asks, then reads our index.
 * B and D are store-then-load on both sides, hence sequentially consistent: at least one side sees the
 * other, so no doorbell and no interrupt is lost.
 */
#include <string.h>

#include "host.h"

_Static_assert(PV_MAX_QUEUE_SIZE == PV_LIMIT_QUEUE_SIZE, "the limit is what a chain has room for");

#define DESC_BYTES sizeof(struct pv_virtq_desc)

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

static bool has(const struct pv_queue *queue, uint64_t feature)
{
	return (queue->features & feature) != 0;
}

static bool silent(const struct pv_queue *queue)
{
	return !queue->state->enabled || queue->fault;
}

/* Host addresses of the three areas; NULL for one that is not wholly memory. */
struct areas {
	uint8_t *descriptors;
	uint8_t *driver;
	uint8_t *device;
};

static struct areas areas_of(const struct pv_memory *memory, const struct pv_queue_state *s)
{
	uint64_t size = s->size;

	/* + 2: used_event and avail_event have their place whether or not EVENT_IDX was agreed (virtio 2.7) */
	return (struct areas){
		pv_memory_at(memory, s->descriptors_gpa, size * DESC_BYTES),
		pv_memory_at(memory, s->driver_gpa, sizeof(struct pv_virtq_avail) + size * 2 + 2),
		pv_memory_at(memory, s->device_gpa,
			     sizeof(struct pv_virtq_used) + size * sizeof(struct pv_virtq_used_elem) + 2),
	};
}

int64_t pv_queue_check(const struct pv_queue *queue, const struct pv_queue_state *wanted)
{
	uint64_t size = wanted->size;

	if (!size || size & (size - 1) || size > queue->maximum || size > PV_MAX_QUEUE_SIZE)
		return PV_STATUS_INVALID;
	if (wanted->descriptors_gpa % 16 || wanted->driver_gpa % 2 || wanted->device_gpa % 4) /* VQ-8 */
		return PV_STATUS_UNALIGNED;
	struct areas areas = areas_of(queue->memory, wanted);
	return areas.descriptors && areas.driver && areas.device ? PV_STATUS_OK : PV_STATUS_BAD_ADDRESS;
}

int64_t pv_queue_enable(struct pv_queue *queue)
{
	int64_t status = pv_queue_check(queue, queue->state);

	if (status != PV_STATUS_OK) {
		pv_queue_disable(queue);
		return status;
	}
	struct areas areas = areas_of(queue->memory, queue->state);
	queue->descriptors = areas.descriptors;
	queue->driver = areas.driver;
	queue->device_area = areas.device;
	queue->fault = NULL;
	queue->state->enabled = 1;
	return PV_STATUS_OK;
}

void pv_queue_disable(struct pv_queue *queue)
{
	queue->state->enabled = 0;
	queue->descriptors = queue->driver = queue->device_area = NULL;
	queue->fault = NULL;
}

/* Copies a descriptor; what the driver does to its table afterwards changes nothing here. */
static struct pv_virtq_desc take(const uint8_t *table, uint32_t index)
{
	struct pv_virtq_desc copy;

	memcpy(&copy, table + index * DESC_BYTES, sizeof(copy)); /* indirect tables need no alignment */
	__asm__ volatile("" : : "r"(&copy) : "memory"); /* no second read in place of the copy */
	return copy;
}

static const char *add_segment(const struct pv_queue *queue, struct pv_chain *chain, const struct pv_virtq_desc *d)
{
	uint32_t count = (uint32_t)chain->readable + chain->writable;

	if (count == queue->state->size)
		return "VQ-2";
	void *hva = d->size_bytes ? pv_memory_at(queue->memory, d->gpa, d->size_bytes) : NULL;
	if (!hva)
		return "VQ-3";
	chain->segments[count] = (struct iovec){ hva, d->size_bytes };
	if (d->flags & PV_DESC_F_WRITE) {
		chain->writable++;
		chain->writable_bytes += d->size_bytes;
	} else if (chain->writable) {
		return "VQ-4";
	} else {
		chain->readable++;
		chain->readable_bytes += d->size_bytes;
	}
	return NULL;
}

/* A table to go on in: its descriptors and how many. */
struct table {
	const uint8_t *hva;
	uint32_t size;
	bool indirect;
};

static const char *enter_indirect(const struct pv_queue *queue, struct table *table, const struct pv_virtq_desc *d)
{
	uint32_t count = d->size_bytes / (uint32_t)DESC_BYTES;

	if (table->indirect)
		return "VQ-5";
	if (!has(queue, PV_VIRTIO_F_INDIRECT_DESC) || d->flags & PV_DESC_F_NEXT)
		return "VQ-6";
	if (!count || d->size_bytes % DESC_BYTES || count > queue->state->size)
		return "VQ-5";
	*table = (struct table){ pv_memory_at(queue->memory, d->gpa, d->size_bytes), count, true };
	return table->hva ? NULL : "VQ-3";
}

/*
 * Bound: each turn adds a segment, of which there are at most `size` (VQ-2, so a loop ends), but the
 * one turn that enters the indirect table.
 */
static const char *walk(const struct pv_queue *queue, struct pv_chain *chain)
{
	struct table table = { queue->descriptors, queue->state->size, false };
	uint32_t next = chain->head;

	for (;;) {
		if (next >= table.size)
			return "VQ-1";
		struct pv_virtq_desc d = take(table.hva, next);
		const char *fault;

		if (d.flags & PV_DESC_F_INDIRECT) {
			fault = enter_indirect(queue, &table, &d);
			next = 0;
		} else {
			fault = add_segment(queue, chain, &d);
			if (!fault && !(d.flags & PV_DESC_F_NEXT))
				return NULL;
			next = d.next;
		}
		if (fault)
			return fault;
	}
}

int pv_queue_pop(struct pv_queue *queue, struct pv_chain *chain)
{
	struct pv_queue_state *s = queue->state;

	if (silent(queue))
		return 0;
	uint16_t index = __atomic_load_n(&avail_of(queue)->index, __ATOMIC_ACQUIRE); /* A */
	uint16_t waiting = (uint16_t)(index - s->next_avail);
	if (!waiting)
		return 0;
	if (waiting > s->size) {
		queue->fault = "VQ-7";
		return -1;
	}
	chain->head = __atomic_load_n(avail_entry(queue, s->next_avail & (s->size - 1u)), __ATOMIC_RELAXED);
	chain->readable = chain->writable = 0;
	chain->readable_bytes = chain->writable_bytes = 0;
	queue->fault = walk(queue, chain);
	if (queue->fault)
		return -1;
	s->next_avail++;
	return 1;
}

void pv_queue_push(struct pv_queue *queue, uint16_t head, uint32_t written_bytes)
{
	struct pv_queue_state *s = queue->state;

	if (silent(queue))
		return;
	struct pv_virtq_used_elem *e = used_entry(queue, s->next_used & (s->size - 1u));
	__atomic_store_n(&e->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&e->written_bytes, written_bytes, __ATOMIC_RELAXED);
	__atomic_store_n(&used_of(queue)->index, ++s->next_used, __ATOMIC_RELEASE); /* C */
}

bool pv_queue_wants_interrupt(struct pv_queue *queue)
{
	struct pv_queue_state *s = queue->state;
	uint16_t before = s->signalled, now = s->next_used;

	if (silent(queue) || before == now)
		return false;
	s->signalled = now;
	/* The same index once more: the store of pair D, paid once per batch. */
	__atomic_store_n(&used_of(queue)->index, now, __ATOMIC_SEQ_CST);
	pv_memory_fence(queue->memory);
	if (!has(queue, PV_VIRTIO_F_EVENT_IDX))
		return !(__atomic_load_n(&avail_of(queue)->flags, __ATOMIC_SEQ_CST) & PV_RING_F_AVAIL_NO_INTERRUPT);
	uint16_t event = __atomic_load_n(avail_entry(queue, s->size), __ATOMIC_SEQ_CST);
	/* The entry named by used_event is among those pushed since `before`. */
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

bool pv_queue_arm(struct pv_queue *queue)
{
	struct pv_queue_state *s = queue->state;

	if (silent(queue))
		return false;
	if (has(queue, PV_VIRTIO_F_EVENT_IDX))
		__atomic_store_n(avail_event(queue), s->next_avail, __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(&used_of(queue)->flags, 0, __ATOMIC_SEQ_CST);
	pv_memory_fence(queue->memory);
	return __atomic_load_n(&avail_of(queue)->index, __ATOMIC_SEQ_CST) != s->next_avail; /* B */
}

void pv_queue_disarm(struct pv_queue *queue)
{
	const struct pv_queue_state *s = queue->state;

	if (silent(queue))
		return;
	/* An index that the driver has just passed comes again in 65536 buffers: one doorbell too many by then. */
	if (has(queue, PV_VIRTIO_F_EVENT_IDX))
		__atomic_store_n(avail_event(queue), (uint16_t)(s->next_avail - 1), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&used_of(queue)->flags, PV_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

/* Copies up to size_bytes between host and the bytes of `count` segments from offset on; how many. */
static uint64_t copy(const struct iovec *segments, uint32_t count, uint64_t offset, uint8_t *host, uint64_t size_bytes,
		     bool to_guest)
{
	uint64_t done = 0;

	for (uint32_t i = 0; i < count && done < size_bytes; i++) {
		uint64_t length = segments[i].iov_len;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		length -= offset;
		if (length > size_bytes - done)
			length = size_bytes - done;
		uint8_t *guest = (uint8_t *)segments[i].iov_base + offset;
		memcpy(to_guest ? guest : host + done, to_guest ? host + done : guest, length);
		done += length;
		offset = 0;
	}
	return done;
}

uint64_t pv_chain_read(const struct pv_chain *chain, uint64_t offset, void *to, uint64_t size_bytes)
{
	uint64_t done = copy(chain->segments, chain->readable, offset, to, size_bytes, false);

	__asm__ volatile("" : : "r"(to) : "memory"); /* no second read in place of the copy */
	return done;
}

uint64_t pv_chain_write(const struct pv_chain *chain, uint64_t offset, const void *from, uint64_t size_bytes)
{
	return copy(chain->segments + chain->readable, chain->writable, offset, (uint8_t *)(uintptr_t)from, size_bytes,
		    true);
}
