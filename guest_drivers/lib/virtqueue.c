/* SPDX-License-Identifier: 0BSD */
/*
 * The driver side of a virtqueue: chains, the slots that remember them, and what is believed of the device;
 * see paravirt/virtqueue.h for what it promises.  What lies in the ring is virtqueue_split.c's and
 * virtqueue_packed.c's.
 *
 * Slots: a chain takes one for each of its descriptors in the ring, the first of them names it.  In a split
 * ring they are the descriptors' numbers, in a packed one the first is the buffer's id.  With IN_ORDER they are
 * taken and given back round the table, as virtio demands of a split ring (2.7.5.3).
 */
#include "virtqueue_format.h"

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
		memory->slots[i].next = (uint16_t)((i + 1) & (size - 1));
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

/* The n-th of so many descriptors. */
static struct pv_virtq_piece piece(const struct pv_virtq_buffer *buffer, bool last)
{
	uint16_t write = buffer->write ? (uint16_t)PV_DESC_F_WRITE : 0;
	uint16_t more = last ? 0 : (uint16_t)PV_DESC_F_NEXT;

	return (struct pv_virtq_piece){ buffer->gpa, buffer->size_bytes, write | more };
}

/* A descriptor of the chain `head`, in the next free slot. */
static void put(struct pv_virtq *queue, uint16_t head, const struct pv_virtq_piece *p)
{
	uint16_t at = queue->free_head;

	queue->free_head = queue->memory.slots[at].next;
	if (queue->memory.packed)
		pv_virtq_packed_put(queue, head, p);
	else
		pv_virtq_split_put(queue, head, at, queue->free_head, p);
}

/* Fills the table of the free slot, and a descriptor with the table. */
static uint16_t fill_indirect(struct pv_virtq *queue, const struct pv_virtq_buffer *buffers, uint16_t count)
{
	uint16_t head = queue->free_head;
	struct pv_virtq_desc *table = queue->memory.indirect + (size_t)head * queue->memory.indirect_count;

	for (uint16_t i = 0; i < count; i++) {
		struct pv_virtq_piece p = piece(&buffers[i], i + 1 == count);

		(queue->memory.packed ? pv_virtq_packed_table : pv_virtq_split_table)(table, i, &p);
	}
	put(queue, head,
	    &(struct pv_virtq_piece){
		    .gpa = PV_VIRTQ_GPA(table),
		    .size_bytes = (uint32_t)(count * sizeof(struct pv_virtq_desc)),
		    .flags = (uint16_t)PV_DESC_F_INDIRECT,
	    });
	return 1;
}

static uint16_t fill_direct(struct pv_virtq *queue, const struct pv_virtq_buffer *buffers, uint16_t count)
{
	uint16_t head = queue->free_head;

	for (uint16_t i = 0; i < count; i++) {
		struct pv_virtq_piece p = piece(&buffers[i], i + 1 == count);

		put(queue, head, &p);
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

	struct pv_virtq_slot *slot = &queue->memory.slots[queue->free_head];
	uint16_t taken = (indirect ? fill_indirect : fill_direct)(queue, buffers, (uint16_t)count);
	queue->free_count = (uint16_t)(queue->free_count - taken);
	slot->cookie = cookie;
	slot->sequence = queue->added;
	slot->count = taken;
	slot->writable_bytes = 0;
	for (uint32_t i = 0; i < count; i++)
		slot->writable_bytes += buffers[i].write ? buffers[i].size_bytes : 0;
	queue->added++;
	return PV_STATUS_OK;
}

bool pv_virtq_publish(struct pv_virtq *queue)
{
	if (queue->broken || queue->published == queue->added)
		return false;
	bool wanted = (queue->memory.packed ? pv_virtq_packed_publish : pv_virtq_split_publish)(queue);
	queue->published = queue->added;
	return wanted;
}

static void release(struct pv_virtq *queue, uint16_t head)
{
	struct pv_virtq_slot *slots = queue->memory.slots;
	uint16_t last = head;

	queue->free_count = (uint16_t)(queue->free_count + slots[head].count);
	if (!queue->memory.in_order) { /* else the slots stay a circle */
		for (uint16_t i = 1; i < slots[head].count; i++)
			last = slots[last].next;
		slots[last].next = queue->free_head;
		queue->free_head = head;
	}
	slots[head].count = 0;
}

/* Looks for chains that came back, and believes it if they can have done: PV_STATUS_FAILED if not. */
static int look(struct pv_virtq *queue)
{
	struct pv_virtq_return entry;

	if (!(queue->memory.packed ? pv_virtq_packed_returned : pv_virtq_split_returned)(queue, &entry))
		return 0;
	const struct pv_virtq_slot *slot = &queue->memory.slots[entry.id & pv_virtq_mask(queue)];
	/* How many came back with it: those before it, too, if the device keeps to their order (virtio 2.7.9, 2.8.9). */
	uint64_t chains = queue->memory.in_order ? slot->sequence - queue->taken + 1 : 1;

	if (entry.vague && entry.written_bytes > slot->writable_bytes)
		entry.written_bytes = 0;
	/* No such chain, or one that it was not shown; more than it was given; more bytes than fit. */
	if (entry.id >= queue->memory.size || !slot->count || slot->sequence >= queue->published ||
	    chains > entry.chains || entry.written_bytes > slot->writable_bytes) {
		queue->broken = true;
		return PV_STATUS_FAILED;
	}
	queue->returned = queue->taken + chains;
	queue->last_head = (uint16_t)entry.id;
	queue->last_written_bytes = entry.written_bytes;
	return 1;
}

int pv_virtq_get(struct pv_virtq *queue, struct pv_virtq_completion *completion)
{
	if (queue->broken)
		return PV_STATUS_FAILED;
	if (queue->taken == queue->returned) {
		int found = look(queue);

		if (found <= 0)
			return found;
	}
	bool last = queue->taken + 1 == queue->returned;
	uint16_t head = last ? queue->last_head : queue->oldest;
	const struct pv_virtq_slot *slot = &queue->memory.slots[head];
	completion->cookie = slot->cookie;
	/* One without an entry of its own was used wholly. */
	completion->written_bytes = last ? queue->last_written_bytes : (uint32_t)slot->writable_bytes;
	queue->taken++;
	queue->next_used = (uint16_t)(queue->next_used + slot->count);
	queue->oldest = (uint16_t)((head + slot->count) & pv_virtq_mask(queue));
	release(queue, head);
	return 1;
}

bool pv_virtq_arm(struct pv_virtq *queue)
{
	if (queue->taken != queue->returned)
		return true;
	return queue->memory.packed ? pv_virtq_packed_arm(queue) : pv_virtq_split_arm(queue);
}

void pv_virtq_disarm(struct pv_virtq *queue)
{
	if (queue->memory.packed)
		pv_virtq_packed_disarm(queue);
	else
		pv_virtq_split_disarm(queue);
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
