// SPDX-License-Identifier: BSD-2-Clause
/*
 * Frames from the driver to the link.  The header is copied and the copy is checked, since the kernel acts on it
 * (NET-1, NET-3); the frame itself goes from guest memory to the link as it is.
 */
#include <string.h>

#include "net_pair.h"

/* Frames that the driver gets back at once, while others are sent. */
#define PUBLISHED 16u

/* What each kind of large segment takes to be agreed on; 0: there is no such. */
static uint64_t feature_of(uint8_t segmentation)
{
	switch (segmentation) {
	case PV_NET_SEGMENTATION_TCP4:
		return PV_NET_F_HOST_TSO4;
	case PV_NET_SEGMENTATION_TCP6:
		return PV_NET_F_HOST_TSO6;
	default:
		return 0;
	}
}

/* Flags that are not the driver's to set say nothing (virtio 5.1.6.2.2). */
static bool agreed(struct pv_net_header *header, uint64_t features)
{
	header->flags &= PV_NET_HEADER_F_NEEDS_CHECKSUM;
	header->chains = 0;
	if (header->flags && !(features & PV_NET_F_CSUM))
		return false;
	return header->segmentation == PV_NET_SEGMENTATION_NONE || features & feature_of(header->segmentation);
}

/* What the link is given: our copy of the header, and what follows the driver's, wherever that ends. */
static void lay_out(struct pv_net_pair *pair)
{
	const struct pv_chain *chain = &pair->chain;
	const struct iovec *segment = chain->segments;
	uint64_t header = PV_NET_HEADER_BYTES;
	uint32_t left = chain->readable;

	while (left && header >= segment->iov_len) {
		header -= segment->iov_len;
		segment++;
		left--;
	}
	pair->segments[0] = (struct iovec){ &pair->header, sizeof(pair->header) };
	memcpy(&pair->segments[1], segment, left * sizeof(*segment));
	if (left) {
		pair->segments[1].iov_base = (uint8_t *)pair->segments[1].iov_base + header;
		pair->segments[1].iov_len -= header;
	}
	pair->head = chain->head;
	pair->segment_count = 1 + left;
	pair->frame_bytes = chain->readable_bytes - PV_NET_HEADER_BYTES;
	/* A hint that may be wrong (virtio 5.1.6.2.2); the kernel refuses one beyond the frame. */
	if (pair->header.header_bytes > pair->frame_bytes)
		pair->header.header_bytes = (uint16_t)pair->frame_bytes;
}

/* The next frame of the driver's; false: there is none. */
static bool take(struct pv_net_pair *pair)
{
	struct pv_device *device = pv_net_device(pair);

	if (pv_device_pop(device, pair->send_queue, &pair->chain) != 1)
		return false;
	if (pv_chain_read(&pair->chain, 0, &pair->header, sizeof(pair->header)) != sizeof(pair->header)) {
		pv_device_fault(device, "NET-1");
		return false;
	}
	if (!agreed(&pair->header, pv_net_features(pair))) {
		pv_device_fault(device, "NET-3");
		return false;
	}
	lay_out(pair);
	return true;
}

/* What became of the frame that was taken. */
static int put(struct pv_net_pair *pair)
{
	if (pv_net_is_down(pair->net)) {
		pv_backend_count(&pair->statistics.send_dropped_down, 1);
		return PV_NET_REFUSED;
	}
	int result = pv_net_link_send(&pair->link, pair->segments, pair->segment_count, pair->frame_bytes);
	if (result == PV_NET_SENT)
		pv_net_passed(pair->net, true, pair->segments + 1, pair->segment_count - 1, 0, pair->frame_bytes);
	return result;
}

bool pv_net_send(struct pv_net_pair *pair)
{
	struct pv_queue *queue = &pv_net_device(pair)->queues[pair->send_queue];
	uint32_t done = 0;

	pair->blocked = false;
	while (done < PV_NET_BATCH) {
		pair->send_due_ns = pv_net_due(pair->net, &pair->net->send_limit);
		if (pair->send_due_ns || !(pair->held || take(pair)))
			break;
		pair->held = pair->blocked = put(pair) == PV_NET_BLOCKED;
		if (pair->blocked)
			break;
		pv_queue_stage(queue, pair->head, 0);
		if (++done % PUBLISHED == 0)
			pv_queue_publish(queue);
	}
	if (!pv_net_link_flush(&pair->link) && !pair->link.lost)
		pair->blocked = true;
	if (done)
		pv_net_tell(pair, pair->send_queue);
	return done > 0;
}
