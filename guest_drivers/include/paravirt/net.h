/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio network cards.  A frame lies in a buffer of the caller's, its header before it, so that it
 * takes one descriptor; frames come back in any number of batches, and nothing is copied.
 *
 *	pv_net_init(&net, &device, PV_NET_F_CSUM);		what else is wanted, beside what it needs itself
 *	pv_net_pair_init(&net, &pair, 0, SIZE, memory);		pairs 0 … net.pairs - 1, as many as are to be used
 *	pv_net_start(&net);
 *	pv_net_give(&pair, buffer);				room for frames, as often as there are buffers
 *	for (;;) {
 *		while ((count = pv_net_receive(&pair, &frame)) > 0)
 *			...and give its buffers again;
 *		pv_net_send(&pair, buffer);			as often as there is room
 *		pv_net_submit(&pair);				once per batch
 *		while ((buffer = pv_net_sent(&pair)))
 *			...is the caller's again;
 *		pv_net_wait(&pair);				or look again at once
 *	}
 *
 * A pair is used by one context at a time; several pairs may be, by as many.
 */
#ifndef PARAVIRT_NET_H
#define PARAVIRT_NET_H

#include "paravirt/virtio.h"

#define PV_NET_BUFFER_BYTES 2048u
#define PV_NET_DATA_BYTES (PV_NET_BUFFER_BYTES - 4 - (uint32_t)sizeof(struct pv_net_header))
#define PV_NET_MERGED 40 /* buffers of a frame: enough for 64 KiB */
#define PV_NET_PIECES 8 /* of a frame to send */
#define PV_NET_CONTROL_SIZE 2 /* of the control queue: a request is a chain of two */

/* With the size of a queue, the memory of a pair; 64-byte aligned. */
#define PV_NET_QUEUE_BYTES(size) ((PV_VIRTIO_QUEUE_BYTES(size) + 63) & ~(size_t)63)
#define PV_NET_PAIR_BYTES(size) (2 * PV_NET_QUEUE_BYTES(size))

/* Shared with the device while it has it. */
struct pv_net_buffer {
	uint32_t size_bytes; /* of the frame in data */
	struct pv_net_header header; /* the caller's to fill in, too: zero but for what was agreed on */
	uint8_t data[PV_NET_DATA_BYTES];
};

/* A received frame: piece n, of sizes[n] bytes, lies in buffers[n]. */
struct pv_net_frame {
	uint32_t count;
	uint32_t size_bytes; /* of all pieces */
	struct pv_net_header header; /* a copy */
	struct pv_net_buffer *buffers[PV_NET_MERGED];
	const uint8_t *pieces[PV_NET_MERGED];
	uint32_t sizes[PV_NET_MERGED];
};

struct pv_net {
	struct pv_virtio *device;
	uint8_t mac[6];
	uint16_t mtu; /* 1500 if the device does not say */
	uint16_t pairs; /* that there can be */
	struct pv_virtq control;
	struct pv_net_control_header request; /* with the number of pairs and the answer: shared with the device */
	uint8_t request_pairs[2];
	uint8_t request_status;
	uint8_t control_memory[PV_VIRTIO_QUEUE_BYTES(PV_NET_CONTROL_SIZE)] __attribute__((aligned(64)));
};

struct pv_net_pair {
	struct pv_net *net;
	struct pv_virtq receive;
	struct pv_virtq send;
	uint16_t receive_index;
	uint16_t send_index;
	uint32_t looks; /* without sleep */
	uint32_t expected; /* buffers of the frame that is coming in; 0: none is */
	struct pv_net_frame partial;
};

/*
 * Takes the device into use: agrees on its address, MTU, status, merged buffers and several pairs where they are
 * offered, and on those of `wanted`. The device's waiter and channel are chosen before.
 */
int64_t pv_net_init(struct pv_net *net, struct pv_virtio *device, uint64_t wanted);
/* A pair with queues of at most `size` descriptors. The device's vcpu and channel at this time are the pair's. */
int64_t pv_net_pair_init(struct pv_net *net, struct pv_net_pair *pair, uint16_t index, uint16_t size, void *memory);
/* The device works from now on. */
int64_t pv_net_start(struct pv_net *net);
/* Takes the device out of use; all buffers are the caller's again, and frames in them are lost. */
void pv_net_deinit(struct pv_net *net);

/* Whether the cable is plugged in, as far as the device says. */
bool pv_net_is_up(struct pv_net *net);
/* How many of the pairs get frames, one at first. OK, NOT_SUPPORTED, or FAILED. */
int64_t pv_net_use_pairs(struct pv_net *net, uint16_t count);

/* Room for a frame, or for a part of one. OK, BAD_STATE: the queue is full, FAILED. */
int64_t pv_net_give(struct pv_net_pair *pair, struct pv_net_buffer *buffer);
/* A frame to send. OK, BAD_STATE: the queue is full, INVALID: its size, FAILED. */
int64_t pv_net_send(struct pv_net_pair *pair, struct pv_net_buffer *buffer);
/*
 * A frame too large for a buffer: the `size_bytes` that lie in buffer's data, which may be none, and behind them up to
 * PV_NET_PIECES pieces, one at least, which are the device's until pv_net_sent() gives the buffer back.
 */
int64_t pv_net_send_pieces(struct pv_net_pair *pair, struct pv_net_buffer *buffer, const struct pv_virtq_buffer *pieces,
			   uint32_t count);
/* Shows the device what was given and what is to be sent. */
void pv_net_submit(struct pv_net_pair *pair);
/* The next frame: 1; 0: there is none; FAILED: the device broke its queue. */
int64_t pv_net_receive(struct pv_net_pair *pair, struct pv_net_frame *frame);
/* A buffer that was sent, or NULL. */
struct pv_net_buffer *pv_net_sent(struct pv_net_pair *pair);
/*
 * Sleeps until there may be something to take, or the device's configuration changes; without a waiter or a
 * channel returns at once. False: the device has given up.
 */
bool pv_net_wait(struct pv_net_pair *pair);

/* The internet checksum (RFC 1071) of bytes whose sum so far is `sum`, as it is before it is stored. */
uint32_t pv_net_sum(const void *data, uint32_t size_bytes, uint32_t sum);
/* What is stored, in the order of the network. */
uint16_t pv_net_checksum(uint32_t sum);

#endif
