// SPDX-License-Identifier: BSD-2-Clause
/*
 * The device side of a virtqueue (virtio 2.6): what the two formats have in common.  Areas and when they are
 * in use, the checks of buffers and indirect tables, chains given back in batches, copies.  How a ring is
 * walked is left to ring_split.c and ring_packed.c, of which RING_PACKED chooses one; what a queue belongs
 * to, and what follows from a fault, to status.c.
 *
 * The driver is hostile: each descriptor is copied once and the copy is checked (VQ-1 to VQ-6, VQ-13), and
 * the walks have a bound.  A queue whose driver broke a rule is silent until it is enabled again.
 *
 * Barriers, in pairs with the driver:
 *   A  it fills descriptors, then makes them available; we see that (acquire), then read those.
 *   B  we ask for doorbells, then look for more; it makes more available, then reads what we asked.
 *   C  we write buffers and entries, then say that they are used (release); it sees that, then reads those.
 *   D  we say so, then read whether it wants interrupts; it asks, then looks for more.
 * B and D are store-then-load on both sides, hence sequentially consistent: at least one side sees the
 * other, so no doorbell and no interrupt is lost.
 */
#include "ring.h"
#include "inflight.h"

_Static_assert(PV_MAX_QUEUE_SIZE == PV_LIMIT_QUEUE_SIZE, "the limit is what a chain has room for");

static bool packed(const struct pv_queue *queue)
{
	return pv_ring_has(queue, PV_VIRTIO_F_RING_PACKED);
}

/* Rarely: what follows lies out of the way of the others. */
static bool traced(const struct pv_queue *queue)
{
	return __builtin_expect(queue->way != NULL, 0);
}

/* Of a packed ring nobody knows how many wait, without a walk. */
static __attribute__((cold, noinline)) void trace_taken(struct pv_queue *queue, const struct pv_chain *chain)
{
	queue->way->ops->taken(queue, chain, packed(queue) ? 0 : pv_split_waiting(queue));
}

static __attribute__((cold, noinline)) void trace_pushed(struct pv_queue *queue, const struct pv_queue_used *used)
{
	queue->way->ops->given(queue, used->head, used->written_bytes);
	queue->way->ops->published(queue);
}

/* A queue whose chains a successor could find. */
static bool kept(const struct pv_queue *queue)
{
	return __builtin_expect(queue->inflight != NULL, 0);
}

static bool silent(const struct pv_queue *queue)
{
	return !queue->state->enabled || queue->fault;
}

/* Bytes and alignment of the driver's and the device's area (VQ-8); descriptors are alike in both formats. */
struct shape {
	uint64_t driver_bytes;
	uint64_t device_bytes;
	uint64_t driver_align;
	uint64_t device_align;
};

static struct shape shape_of(const struct pv_queue *queue, uint64_t size)
{
	const uint64_t event = sizeof(struct pv_virtq_packed_event);

	if (packed(queue))
		return (struct shape){ event, event, 4, 4 };
	/* + 2: used_event and avail_event have their place whether or not EVENT_IDX was agreed (virtio 2.7) */
	return (struct shape){
		.driver_bytes = sizeof(struct pv_virtq_avail) + size * 2 + 2,
		.device_bytes = sizeof(struct pv_virtq_used) + size * sizeof(struct pv_virtq_used_elem) + 2,
		.driver_align = 2,
		.device_align = 4,
	};
}

/* Host addresses of the three areas; NULL for one that is not wholly memory. */
struct areas {
	uint8_t *descriptors;
	uint8_t *driver;
	uint8_t *device;
};

static struct areas areas_of(const struct pv_queue *queue, const struct pv_queue_state *s)
{
	struct shape shape = shape_of(queue, s->size);

	return (struct areas){
		pv_memory_at(queue->memory, s->descriptors_gpa, (uint64_t)s->size * PV_DESC_BYTES),
		pv_memory_at(queue->memory, s->driver_gpa, shape.driver_bytes),
		pv_memory_at(queue->memory, s->device_gpa, shape.device_bytes),
	};
}

int64_t pv_queue_check(const struct pv_queue *queue, const struct pv_queue_state *wanted)
{
	uint64_t size = wanted->size;
	struct shape shape = shape_of(queue, size);

	if (!size || size & (size - 1) || size > queue->maximum || size > PV_MAX_QUEUE_SIZE)
		return PV_STATUS_INVALID;
	if (wanted->descriptors_gpa % PV_DESC_BYTES || wanted->driver_gpa % shape.driver_align ||
	    wanted->device_gpa % shape.device_align) /* VQ-8 */
		return PV_STATUS_UNALIGNED;
	struct areas areas = areas_of(queue, wanted);
	return areas.descriptors && areas.driver && areas.device ? PV_STATUS_OK : PV_STATUS_BAD_ADDRESS;
}

/* Nothing is with the device, and nothing staged. */
static void forget_chains(struct pv_queue *queue)
{
	if (traced(queue))
		queue->way->ops->forgotten(queue);
	queue->inflight = NULL;
	memset(queue->taken, 0, sizeof(queue->taken));
	queue->staged = (struct pv_queue_used){ 0 };
	queue->first = NULL;
}

int64_t pv_queue_enable(struct pv_queue *queue)
{
	int64_t status = pv_queue_check(queue, queue->state);

	if (status != PV_STATUS_OK) {
		pv_queue_disable(queue);
		return status;
	}
	struct areas areas = areas_of(queue, queue->state);
	queue->descriptors = areas.descriptors;
	queue->driver = areas.driver;
	queue->device_area = areas.device;
	queue->fault = NULL;
	forget_chains(queue);
	queue->state->enabled = 1;
	return PV_STATUS_OK;
}

void pv_queue_disable(struct pv_queue *queue)
{
	queue->state->enabled = 0;
	queue->descriptors = queue->driver = queue->device_area = NULL;
	queue->fault = NULL;
	forget_chains(queue);
}

const char *pv_ring_add(const struct pv_queue *queue, struct pv_chain *chain, uint64_t gpa, uint32_t size_bytes,
			bool write)
{
	uint32_t count = (uint32_t)chain->readable + chain->writable;

	if (count == queue->state->size)
		return "VQ-2";
	void *hva = size_bytes ? pv_memory_at(queue->memory, gpa, size_bytes) : NULL;
	if (!hva)
		return "VQ-3";
	chain->segments[count] = (struct iovec){ hva, size_bytes };
	if (write) {
		chain->writable++;
		chain->writable_bytes += size_bytes;
	} else if (chain->writable) {
		return "VQ-4";
	} else {
		chain->readable++;
		chain->readable_bytes += size_bytes;
	}
	return NULL;
}

const char *pv_ring_table(const struct pv_queue *queue, uint64_t gpa, uint32_t size_bytes, uint16_t flags,
			  const uint8_t **table, uint32_t *count)
{
	*count = size_bytes / PV_DESC_BYTES;
	if (!pv_ring_has(queue, PV_VIRTIO_F_INDIRECT_DESC) || flags & PV_DESC_F_NEXT)
		return "VQ-6";
	if (!*count || size_bytes % PV_DESC_BYTES || *count > queue->state->size)
		return "VQ-5";
	*table = pv_memory_at(queue->memory, gpa, size_bytes);
	return *table ? NULL : "VQ-3";
}

/* The next chain of which it is kept that it was taken, by a predecessor or now. */
static __attribute__((cold, noinline)) bool take_kept(struct pv_queue *queue, struct pv_chain *chain, uint16_t *places)
{
	struct pv_inflight *inflight = queue->inflight;
	uint16_t position = queue->state->next_avail;

	if (pv_inflight_is_again(inflight)) {
		uint16_t entry = inflight->again[inflight->again_next++];

		if (!packed(queue))
			return pv_split_take_again(queue, chain, entry);
		*places = inflight->places[entry];
		if (!pv_packed_take_again(queue, chain, entry, *places))
			return false;
		inflight->entry_of[chain->head] = entry;
		return true;
	}
	if (!(packed(queue) ? pv_packed_take(queue, chain, places) : pv_split_take(queue, chain)))
		return false;
	pv_inflight_taken(queue, chain->head, position, *places);
	return true;
}

int pv_queue_pop(struct pv_queue *queue, struct pv_chain *chain)
{
	uint16_t places = 1;

	if (silent(queue))
		return 0;
	chain->readable = chain->writable = 0;
	chain->readable_bytes = chain->writable_bytes = 0;
	bool taken;
	if (kept(queue))
		taken = take_kept(queue, chain, &places);
	else
		taken = packed(queue) ? pv_packed_take(queue, chain, &places) : pv_split_take(queue, chain);
	if (queue->fault)
		return -1;
	if (!taken)
		return 0;
	queue->taken[chain->head] = (struct pv_queue_taken){
		.room_bytes = chain->writable_bytes < UINT32_MAX ? (uint32_t)chain->writable_bytes : UINT32_MAX,
		.places = places,
	};
	if (traced(queue))
		trace_taken(queue, chain);
	return 1;
}

/* Writes an entry; not visible before it is published. */
static void use(struct pv_queue *queue, const struct pv_queue_used *used)
{
	if (packed(queue))
		pv_packed_use(queue, used);
	else
		pv_split_use(queue, used);
}

static void settle(struct pv_queue *queue)
{
	if (!queue->staged.places)
		return;
	use(queue, &queue->staged);
	queue->staged.places = 0;
}

static __attribute__((cold, noinline)) void publish_kept(struct pv_queue *queue)
{
	pv_inflight_publishing(queue);
	if (packed(queue))
		pv_packed_publish(queue);
	else
		pv_split_publish(queue);
	pv_inflight_published(queue);
}

static void publish(struct pv_queue *queue)
{
	if (kept(queue))
		publish_kept(queue);
	else if (packed(queue))
		pv_packed_publish(queue);
	else
		pv_split_publish(queue);
}

void pv_queue_stage(struct pv_queue *queue, uint16_t head, uint32_t written_bytes)
{
	struct pv_queue_taken *taken = &queue->taken[head % PV_MAX_QUEUE_SIZE];
	uint16_t places = packed(queue) ? taken->places : 1;

	if (silent(queue) || !places)
		return;
	/* Virtio 2.7.9, 2.8.9: of chains in order, one entry may stand for those before it that were used wholly. */
	if (!pv_ring_has(queue, PV_VIRTIO_F_IN_ORDER) || !queue->staged.whole)
		settle(queue);
	queue->staged = (struct pv_queue_used){
		.head = head,
		.places = (uint16_t)(queue->staged.places + places),
		.written_bytes = written_bytes,
		.whole = written_bytes == taken->room_bytes,
	};
	taken->places = 0;
	if (kept(queue))
		pv_inflight_given(queue, head);
	if (traced(queue))
		queue->way->ops->given(queue, queue->staged.head, written_bytes);
}

void pv_queue_publish(struct pv_queue *queue)
{
	if (silent(queue))
		return;
	settle(queue);
	publish(queue);
	if (traced(queue))
		queue->way->ops->published(queue);
}

/* As pv_queue_stage and pv_queue_publish, without the way through queue->staged for what goes out at once. */
void pv_queue_push(struct pv_queue *queue, uint16_t head, uint32_t written_bytes)
{
	struct pv_queue_taken *taken = &queue->taken[head % PV_MAX_QUEUE_SIZE];
	struct pv_queue_used used = { head, packed(queue) ? taken->places : 1, written_bytes, false };

	if (silent(queue) || !used.places)
		return;
	settle(queue);
	taken->places = 0;
	use(queue, &used);
	if (kept(queue))
		pv_inflight_given(queue, head);
	if (traced(queue))
		trace_pushed(queue, &used);
	publish(queue);
}

bool pv_queue_wants_interrupt(struct pv_queue *queue)
{
	struct pv_queue_state *s = queue->state;

	pv_queue_publish(queue);
	if (silent(queue) || s->signalled == s->next_used)
		return false;
	uint16_t before = s->signalled;
	s->signalled = s->next_used;
	bool wants = packed(queue) ? pv_packed_wants_interrupt(queue, before) : pv_split_wants_interrupt(queue, before);
	if (traced(queue))
		queue->way->ops->decided(queue, wants);
	return wants;
}

bool pv_queue_arm(struct pv_queue *queue)
{
	if (silent(queue))
		return false;
	return packed(queue) ? pv_packed_arm(queue) : pv_split_arm(queue);
}

void pv_queue_disarm(struct pv_queue *queue)
{
	if (silent(queue))
		return;
	if (packed(queue))
		pv_packed_disarm(queue);
	else
		pv_split_disarm(queue);
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
