/* SPDX-License-Identifier: 0BSD */
/*
 * The driver side of a virtqueue, split or packed (virtio 2.7, 2.8): buffers are handed to a device in
 * chains, and come back with the number of bytes that the device wrote.
 *
 * Freestanding: needs paravirt_abi.h and a C11 compiler, no C library; allocates nothing, all memory is
 * the caller's.  Knows no device, no transport and no interrupts: how the three areas are made known
 * (pv_virtq_describe), how the doorbell is rung and how the driver waits are left to layers above.
 *
 * A queue's life:
 *
 *	struct pv_virtq queue;
 *	struct pv_virtq_buffer buffers[] = { { header_gpa, 16, false }, { data_gpa, 4096, true } };
 *	struct pv_virtq_completion done;
 *
 *	pv_virtq_init(&queue, &memory);			describe it to the device, set DRIVER_OK
 *	pv_virtq_add(&queue, buffers, 2, cookie);	as often as there is room
 *	if (pv_virtq_publish(&queue))			once per batch
 *		ring the doorbell;
 *	while (pv_virtq_get(&queue, &done) > 0)		done.cookie is what was given to pv_virtq_add()
 *		...;
 *
 * To wait for an interrupt without losing one:
 *
 *	for (;;) {
 *		while (pv_virtq_get(&queue, &done) > 0)
 *			...;
 *		if (!pv_virtq_arm(&queue))
 *			wait;
 *		pv_virtq_disarm(&queue);
 *	}
 *
 * Locking: none.  One queue is used by one context at a time; the caller sees to it.
 *
 * Trust: none.  What the driver must remember lies in slots[], which the device is never told of; every
 * entry of the used ring is checked against it.  A device that breaks the rules breaks its queue, which
 * then answers PV_STATUS_FAILED until it is set up anew; it does not break the driver.
 */
#ifndef PARAVIRT_VIRTQUEUE_H
#define PARAVIRT_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "paravirt_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Guest-physical address of an object of the driver's (the areas of the ring, indirect tables).  The
 * default suits guests that are mapped one to one, as guests of this ABI are entered; others define
 * their own before they compile virtqueue*.c.
 */
#ifndef PV_VIRTQ_GPA
#define PV_VIRTQ_GPA(pointer) ((uint64_t)(uintptr_t)(pointer))
#endif

/* Alignment in bytes of the ring's memory. */
#define PV_VIRTQ_RING_ALIGN 64

/* Offset of the used ring: behind descriptors and available ring, on a cache line of its own. */
#define PV_VIRTQ_USED_OFFSET(size) ((18 * (size_t)(size) + 6 + 63) & ~(size_t)63)

/* Bytes of memory for the ring of a queue of `size` descriptors, in either format; a constant if size is. */
#define PV_VIRTQ_RING_BYTES(size) (PV_VIRTQ_USED_OFFSET(size) + 6 + 8 * (size_t)(size))

/**
 * struct pv_virtq_buffer - one piece of a chain
 * @gpa: first byte, guest-physical; may lie anywhere in the guest's memory
 * @size_bytes: length, not zero
 * @write: true: the device writes it; such buffers come after all that it reads
 */
struct pv_virtq_buffer {
	uint64_t gpa;
	uint32_t size_bytes;
	bool write;
};

/**
 * struct pv_virtq_slot - what the driver remembers of a descriptor; private
 * @cookie: the caller's, if the descriptor heads a chain
 * @sequence: number of the chain, counted from the start of the queue
 * @writable_bytes: room in the chain for the device to write
 * @next: next descriptor of the chain, or of the free ones
 * @count: descriptors of the chain that this one heads, 0: heads none
 */
struct pv_virtq_slot {
	uint64_t cookie;
	uint64_t sequence;
	uint64_t writable_bytes;
	uint16_t next;
	uint16_t count;
};

/**
 * struct pv_virtq_memory - what a queue is made of; all of it the caller's, for as long as the queue lives
 * @size: descriptors: a power of two, at most PV_LIMIT_QUEUE_SIZE and the device's maximum
 * @event_idx: VIRTIO_F_EVENT_IDX was agreed
 * @packed: VIRTIO_F_RING_PACKED was agreed
 * @in_order: VIRTIO_F_IN_ORDER was agreed
 * @ring: PV_VIRTQ_RING_BYTES(size) bytes, PV_VIRTQ_RING_ALIGN aligned; shared with the device
 * @slots: `size` slots, not shared with the device
 * @indirect: NULL, or, if VIRTIO_F_INDIRECT_DESC was agreed, `size` tables of indirect_count descriptors
 *	each, 16-byte aligned; shared with the device.  A chain of two to indirect_count buffers then takes
 *	one descriptor of the ring instead of one per buffer.
 * @indirect_count: descriptors of each of these tables, at most `size`
 */
struct pv_virtq_memory {
	uint16_t size;
	bool event_idx;
	bool packed;
	bool in_order;
	void *ring;
	struct pv_virtq_slot *slots;
	struct pv_virtq_desc *indirect;
	uint16_t indirect_count;
};

/**
 * struct pv_virtq_completion - a chain that came back
 * @cookie: as given to pv_virtq_add()
 * @written_bytes: bytes that the device says it wrote, from the start of the writable buffers; at most
 *	their sum.  What lies beyond is as it was.
 */
struct pv_virtq_completion {
	uint64_t cookie;
	uint32_t written_bytes;
};

/**
 * struct pv_virtq - a virtqueue; private but for memory.size
 * @memory: as given
 * @descriptors: descriptor area
 * @avail: driver area (available ring; packed: what we want to be told of)
 * @used: device area (used ring; packed: what the device wants to be told of)
 * @added: chains added since the start
 * @published: of these, chains that the device can see
 * @returned: of these, chains that came back
 * @taken: of these, chains that were taken from the queue
 * @free_head: first free slot
 * @free_count: how many are free
 * @oldest: in order: first slot of the oldest chain
 * @last_head: first slot of the last chain that came back
 * @last_written_bytes: what was written to that
 * @next_avail: packed: where the next descriptor goes
 * @shown: packed: the same when the device was last shown some
 * @next_used: packed: where the next chain comes back
 * @first: packed: what will make the descriptor at @shown available
 * @broken: the device broke a rule
 */
struct pv_virtq {
	struct pv_virtq_memory memory;
	struct pv_virtq_desc *descriptors;
	struct pv_virtq_avail *avail;
	struct pv_virtq_used *used;
	uint64_t added;
	uint64_t published;
	uint64_t returned;
	uint64_t taken;
	uint64_t first;
	uint32_t last_written_bytes;
	uint16_t free_head;
	uint16_t free_count;
	uint16_t oldest;
	uint16_t last_head;
	uint16_t next_avail;
	uint16_t shown;
	uint16_t next_used;
	bool broken;
};

/**
 * pv_virtq_init() - makes an empty queue
 * @queue: the queue
 * @memory: what it is made of; copied
 *
 * Clears the ring.  The device must not have it: call this before the device is told of the queue, or
 * after it was reset.  Interrupts are armed afterwards.  There is nothing to undo; before the memory is
 * used for other things, reset the device and take what it still had by pv_virtq_reclaim().
 *
 * Return: PV_STATUS_OK, PV_STATUS_INVALID (size), PV_STATUS_UNALIGNED.
 */
int pv_virtq_init(struct pv_virtq *queue, const struct pv_virtq_memory *memory);

/**
 * pv_virtq_describe() - says where the queue lies
 * @queue: the queue
 * @setup: size and the three areas are filled in, the rest is left alone
 */
void pv_virtq_describe(const struct pv_virtq *queue, struct pv_queue_setup *setup);

/**
 * pv_virtq_add() - adds a chain; the device does not see it before pv_virtq_publish()
 * @queue: the queue
 * @buffers: the chain, those to be read first; copied
 * @count: how many, at most the size of the queue
 * @cookie: given back with the completion; not looked at, not shown to the device
 *
 * The buffers are the device's until their chain comes back.
 *
 * Return: PV_STATUS_OK, PV_STATUS_BAD_STATE (no room now: take completions first), PV_STATUS_INVALID
 * (no chain can be like that), PV_STATUS_FAILED (broken queue).
 */
int pv_virtq_add(struct pv_virtq *queue, const struct pv_virtq_buffer *buffers, uint32_t count, uint64_t cookie);

/**
 * pv_virtq_publish() - shows the device all that was added
 * @queue: the queue
 *
 * Return: true if the device wants the doorbell.  A false is final: the device looks by itself.
 */
bool pv_virtq_publish(struct pv_virtq *queue);

/**
 * pv_virtq_get() - takes a chain that came back
 * @queue: the queue
 * @completion: filled in if one did
 *
 * Chains come back in any order, with VIRTIO_F_IN_ORDER in that in which they were added.
 *
 * Return: 1 taken, 0 none waiting, PV_STATUS_FAILED (broken queue).
 */
int pv_virtq_get(struct pv_virtq *queue, struct pv_virtq_completion *completion);

/**
 * pv_virtq_arm() - asks for an interrupt when the next chain comes back
 * @queue: the queue
 *
 * Return: true if chains came back before the device could know: there may be no interrupt for them, so
 * take them before you wait.
 */
bool pv_virtq_arm(struct pv_virtq *queue);

/**
 * pv_virtq_disarm() - asks for no interrupts, while the driver looks by itself
 * @queue: the queue
 *
 * A hint: an interrupt may come all the same.
 */
void pv_virtq_disarm(struct pv_virtq *queue);

/**
 * pv_virtq_reclaim() - takes back a chain that the device will not return
 * @queue: the queue, of a device that was reset; broken or not
 * @cookie: of the chain
 *
 * Return: true if there was one; call until false, then pv_virtq_init() for new use.
 */
bool pv_virtq_reclaim(struct pv_virtq *queue, uint64_t *cookie);

#ifdef __cplusplus
}
#endif

#endif
