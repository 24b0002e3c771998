/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A pair of queues, one to receive and one to send, with the queue of a link that they belong to; what the
 * files of virtio-net know of each other.
 */
#ifndef PARAVIRT_NET_PAIR_H
#define PARAVIRT_NET_PAIR_H

#include "backend.h"
#include "net_link.h"

#define PV_NET_ROOM_CHAINS 64u /* taken ahead, for a frame that lies in several */
#define PV_NET_ROOM_SEGMENTS (2u * PV_MAX_QUEUE_SIZE)
#define PV_NET_TAG_BYTES 4u /* of a VLAN, for which options.frame_bytes has room */
#define PV_NET_TYPE_OFFSET 12u /* of a frame's type, 16 bits, big-endian */
#define PV_NET_TYPE_VLAN 0x8100
#define PV_NET_BATCH 64u /* frames in a turn and direction, and requests: a turn ends, whatever the driver does */

/* A chain to receive: its segments follow those of the chain before it. */
struct pv_net_room_chain {
	uint16_t head;
	uint16_t segments;
	uint64_t bytes;
};

/* Chains that were taken from the queue and wait for frames, in their order. */
struct pv_net_room {
	uint32_t chain_count;
	uint32_t segment_count;
	uint64_t bytes;
	struct pv_net_room_chain chains[PV_NET_ROOM_CHAINS];
	struct iovec segments[PV_NET_ROOM_SEGMENTS];
};

struct pv_net_pair {
	struct pv_net *net;
	struct pv_net_link link;
	uint16_t receive_queue;
	uint16_t send_queue;
	struct pv_net_room room;
	struct pv_net_header header; /* of the frame to send: the copy that was checked */
	struct pv_chain chain; /* taken last, from either */
	uint16_t head; /* of the frame to send */
	bool held; /* the link did not take the frame to send */
	bool blocked; /* the link is to be writable before anything else is sent */
	uint64_t receive_due_ns; /* the limit allows no frame before; 0: it allows one */
	uint64_t send_due_ns;
	uint32_t segment_count; /* of the frame to send */
	uint64_t frame_bytes;
	struct iovec segments[PV_MAX_QUEUE_SIZE + 1];
	struct pv_net_statistics statistics; /* but for what is the thread's; what is sent the link counts */
};

struct pv_net {
	struct pv_backend backend; /* first */
	struct pv_net_options options;
	uint32_t down; /* by the host's word */
	uint32_t pair_count; /* whose threads were started */
	struct pv_device_ops backend_ops;
	bool limited;
	struct pv_limit receive_limit; /* of all pairs */
	struct pv_limit send_limit;
	struct pv_net_pair pairs[PV_NET_PAIRS];
};

/* Each does a batch; whether it did anything. */
bool pv_net_receive(struct pv_net_pair *pair);
bool pv_net_send(struct pv_net_pair *pair);
/* Serves the control queue, a batch of it; whether there was anything. */
bool pv_net_control(struct pv_net *net, uint32_t queue);

/* What the TAP device hands over and takes, by the features that were agreed on; 0 or -errno. */
int pv_net_tap_set_features(int fd, uint64_t features);
/* Whether a queue of several gets frames. */
int pv_net_tap_attach(int fd, bool attached);

static inline struct pv_device *pv_net_device(const struct pv_net_pair *pair)
{
	return pair->net->backend.device;
}

static inline uint64_t pv_net_features(const struct pv_net_pair *pair)
{
	return pv_net_device(pair)->state.accepted[0];
}

/* The largest frame that may come, headers of virtio's not among its bytes. */
static inline uint64_t pv_net_frame_most(const struct pv_net_pair *pair)
{
	bool large = pv_net_features(pair) & (PV_NET_F_GUEST_TSO4 | PV_NET_F_GUEST_TSO6);

	return large ? PV_NET_FRAME_MOST : pair->net->options.frame_bytes;
}

/* 0: the limit allows a frame now; else the time from which on it does. */
static inline uint64_t pv_net_due(const struct pv_net *net, const struct pv_limit *limit)
{
	return net->limited ? pv_limit_due(limit, pv_clock_ns()) : 0;
}

/* A frame has passed; its bytes in segments begin after `skip`. */
static inline void pv_net_passed(struct pv_net *net, bool sent, const struct iovec *segments, uint32_t count,
				 uint64_t skip, uint64_t frame_bytes)
{
	if (net->limited)
		pv_limit_charge(sent ? &net->send_limit : &net->receive_limit, pv_clock_ns(), frame_bytes);
	if (net->options.capture)
		pv_net_capture_put(net->options.capture, sent, segments, count, skip, frame_bytes);
}

static inline bool pv_net_is_down(const struct pv_net *net)
{
	return __atomic_load_n(&net->down, __ATOMIC_RELAXED);
}

static inline void pv_net_tell(struct pv_net_pair *pair, uint32_t queue)
{
	struct pv_device *device = pv_net_device(pair);

	if (pv_queue_wants_interrupt(&device->queues[queue])) {
		pv_backend_count(&pair->statistics.interrupts, 1);
		pv_device_interrupt(device, queue);
	}
}

#endif
