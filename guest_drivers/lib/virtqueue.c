/* SPDX-License-Identifier: 0BSD */
/*
 * The driver side of a split virtqueue; see paravirt/virtqueue.h for what it promises.
 *
 * Barriers, in pairs with the device:
 *   A  we fill descriptors and ring, then publish our index (release); it reads the index, then those.
 *   B  we publish our index, then read whether it wants doorbells; it asks, then reads our index.
 *   C  it writes buffers and entries, then its index; we read the index (acquire), then those.
 *   D  we ask for interrupts, then read its index; it publishes its index, then reads what we asked.
 * B and D are store-then-load on both sides, hence sequentially consistent accesses.  These need no fence
 * instruction (x86: xchg), which hosts that emulate the guest's instructions may lack.
 *
 * Entries and indexes of the device are read once each: a second read might differ from what was checked.
 */
#include "paravirt/virtqueue.h"

static uint16_t mask(const struct pv_virtq *queue)
{
	return (uint16_t)(queue->memory.size - 1);
}

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

int pv_virtq_init(struct pv_virtq *queue, const struct pv_virtq_memory *memory)
{
	uint16_t size = memory->size;
	unsigned char *ring = memory->ring;

	if (size == 0 || size > PV_LIMIT_QUEUE_SIZE || (size & (size - 1)) != 0)
		return PV_STATUS_INVALID;
	if (memory->indirect && memory->indirect_count > size)
		return PV_STATUS_INVALID;
	if ((uintptr_t)ring % PV_VIRTQ_RING_ALIGN || (uintptr_t)memory->indirect % 16)
		return PV_STATUS_UNALIGNED;
	for (size_t i = 0; i < PV_VIRTQ_RING_BYTES(size); i++)
		((volatile unsigned char *)ring)[i] = 0; /* volatile: no call of a memset that may not exist */
	for (uint16_t i = 0; i < size; i++) {
		memory->slots[i].next = (uint16_t)(i + 1); /* the last one's is never followed: see free_count */
		memory->slots[i].count = 0;
	}
	*queue = (struct pv_virtq){
		.memory = *memory,
		.descriptors = (struct pv_virtq_desc *)(void *)ring,
		.avail = (struct pv_virtq_avail *)(void *)(ring + (size_t)size * sizeof(struct pv_virtq_desc)),
		.used = (struct pv_virtq_used *)(void *)(ring + PV_VIRTQ_USED_OFFSET(size)),
		.free_count = size,
	};
	return PV_STATUS_OK;
}

void pv_virtq_describe(const struct pv_virtq *queue, struct pv_queue_setup *setup)
{
	setup->size = queue->memory.size;
	setup->descriptors_gpa = PV_VIRTQ_GPA(queue->descriptors);
	setup->driver_gpa = PV_VIRTQ_GPA(queue->avail);
	setup->device_gpa = PV_VIRTQ_GPA(queue->used);
}

/* VQ-2 to VQ-4, as far as the driver alone can know. */
static bool valid(const struct pv_virtq *queue, const struct pv_virtq_buffer *buffers, uint32_t count)
{
	if (count == 0 || count > queue->memory.size)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		if (!buffers[i].size_bytes || buffers[i].gpa > UINT64_MAX - buffers[i].size_bytes)
			return false;
		if (i && buffers[i - 1].write && !buffers[i].write)
			return false;
	}
	return true;
}

static struct pv_virtq_desc descriptor(const struct pv_virtq_buffer *buffer, bool last, uint16_t next)
{
	uint16_t write = buffer->write ? (uint16_t)PV_DESC_F_WRITE : 0;
	uint16_t more = last ? 0 : (uint16_t)PV_DESC_F_NEXT;

	return (struct pv_virtq_desc){
		.gpa = buffer->gpa,
		.size_bytes = buffer->size_bytes,
		.flags = write | more,
		.next = last ? 0 : next,
	};
}

/* Fills the table of the free descriptor, and the descriptor with the table. */
static uint16_t fill_indirect(struct pv_virtq *queue, const struct pv_virtq_buffer *buffers, uint16_t count)
{
	uint16_t head = queue->free_head;
	struct pv_virtq_desc *table = queue->memory.indirect + (size_t)head * queue->memory.indirect_count;

	for (uint16_t i = 0; i < count; i++)
		table[i] = descriptor(&buffers[i], i + 1 == count, (uint16_t)(i + 1));
	queue->descriptors[head] = (struct pv_virtq_desc){
		.gpa = PV_VIRTQ_GPA(table),
		.size_bytes = (uint32_t)(count * sizeof(struct pv_virtq_desc)),
		.flags = (uint16_t)PV_DESC_F_INDIRECT,
	};
	queue->free_head = queue->memory.slots[head].next;
	return 1;
}

static uint16_t fill_direct(struct pv_virtq *queue, const struct pv_virtq_buffer *buffers, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		uint16_t at = queue->free_head;

		queue->free_head = queue->memory.slots[at].next;
		queue->descriptors[at] = descriptor(&buffers[i], i + 1 == count, queue->free_head);
	}
	return count;
}

int pv_virtq_add(struct pv_virtq *queue, const struct pv_virtq_buffer *buffers, uint32_t count, uint64_t cookie)
{
	if (queue->broken)
		return PV_STATUS_FAILED;
	if (!valid(queue, buffers, count))
		return PV_STATUS_INVALID;
	bool indirect = queue->memory.indirect && count > 1 && count <= queue->memory.indirect_count;
	if ((indirect ? 1 : count) > queue->free_count)
		return PV_STATUS_BAD_STATE;

	uint16_t head = queue->free_head;
	struct pv_virtq_slot *slot = &queue->memory.slots[head];
	uint16_t taken = (indirect ? fill_indirect : fill_direct)(queue, buffers, (uint16_t)count);
	queue->free_count = (uint16_t)(queue->free_count - taken);
	slot->cookie = cookie;
	slot->sequence = queue->added;
	slot->count = taken;
	slot->writable_bytes = 0;
	for (uint32_t i = 0; i < count; i++)
		slot->writable_bytes += buffers[i].write ? buffers[i].size_bytes : 0;
	/* The device reads this entry only once the index says so. */
	__atomic_store_n(avail_entry(queue, (uint16_t)queue->added & mask(queue)), head, __ATOMIC_RELAXED);
	queue->added++;
	return PV_STATUS_OK;
}

bool pv_virtq_publish(struct pv_virtq *queue)
{
	uint16_t before = (uint16_t)queue->published, now = (uint16_t)queue->added;

	if (queue->broken || before == now) /* at most `size` were added: no wrap hides them */
		return false;
	queue->published = queue->added;
	__atomic_store_n(&queue->avail->index, now, __ATOMIC_SEQ_CST); /* A, B */
	if (!queue->memory.event_idx)
		return !(__atomic_load_n(&queue->used->flags, __ATOMIC_SEQ_CST) & PV_USED_F_NO_NOTIFY);
	uint16_t event = __atomic_load_n(avail_event(queue), __ATOMIC_SEQ_CST);
	/* The entry named by avail_event is among those just published. */
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

static void release(struct pv_virtq *queue, uint16_t head)
{
	struct pv_virtq_slot *slots = queue->memory.slots;
	uint16_t last = head;

	for (uint16_t i = 1; i < slots[head].count; i++)
		last = slots[last].next;
	slots[last].next = queue->free_head;
	queue->free_head = head;
	queue->free_count = (uint16_t)(queue->free_count + slots[head].count);
	slots[head].count = 0;
}

int pv_virtq_get(struct pv_virtq *queue, struct pv_virtq_completion *completion)
{
	if (queue->broken)
		return PV_STATUS_FAILED;
	uint16_t index = __atomic_load_n(&queue->used->index, __ATOMIC_ACQUIRE); /* C */
	uint16_t waiting = (uint16_t)(index - (uint16_t)queue->taken);
	if (!waiting)
		return 0;
	const struct pv_virtq_used_elem *e = used_entry(queue, (uint16_t)queue->taken & mask(queue));
	uint32_t id = __atomic_load_n(&e->id, __ATOMIC_RELAXED);
	uint32_t written_bytes = __atomic_load_n(&e->written_bytes, __ATOMIC_RELAXED);
	const struct pv_virtq_slot *slot = &queue->memory.slots[id & mask(queue)];

	/* More than it was given; no such chain, or one that it was not shown; more bytes than fit. */
	if (waiting > queue->published - queue->taken || id > mask(queue) || !slot->count ||
	    slot->sequence >= queue->published || written_bytes > slot->writable_bytes) {
		queue->broken = true;
		return PV_STATUS_FAILED;
	}
	completion->cookie = slot->cookie;
	completion->written_bytes = written_bytes;
	queue->taken++;
	release(queue, (uint16_t)id);
	return 1;
}

bool pv_virtq_arm(struct pv_virtq *queue)
{
	uint16_t taken = (uint16_t)queue->taken;

	if (queue->memory.event_idx)
		__atomic_store_n(used_event(queue), taken, __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(&queue->avail->flags, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&queue->used->index, __ATOMIC_SEQ_CST) != taken; /* D */
}

void pv_virtq_disarm(struct pv_virtq *queue)
{
	/* An index that the device has just passed comes again in 65536 chains: one interrupt too many by then. */
	if (queue->memory.event_idx)
		__atomic_store_n(used_event(queue), (uint16_t)(queue->taken - 1), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&queue->avail->flags, PV_RING_F_AVAIL_NO_INTERRUPT, __ATOMIC_RELAXED);
}

bool pv_virtq_reclaim(struct pv_virtq *queue, uint64_t *cookie)
{
	for (uint16_t head = 0; head < queue->memory.size; head++) {
		if (!queue->memory.slots[head].count)
			continue;
		*cookie = queue->memory.slots[head].cookie;
		release(queue, head);
		return true;
	}
	return false;
}
