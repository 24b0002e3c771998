// SPDX-License-Identifier: BSD-2-Clause
/*
 * Frames from the link to the driver.  The kernel puts a frame right where the driver wants it; what is left
 * to do is to say in how many chains it lies (NET-4: a frame that does not fit is no frame).
 *
 * Without room nothing is taken from the link, so that it is the link that is full, and not we who drop.
 */
#include <stddef.h>
#include <string.h>

#include "net_pair.h"

/* Room for any frame that may come, so that the driver's chains are not all taken for each of them. */
static uint64_t wanted(const struct pv_net_pair *pair)
{
	return PV_NET_HEADER_BYTES + pv_net_frame_most(pair);
}

static bool merges(const struct pv_net_pair *pair)
{
	return pv_net_features(pair) & PV_NET_F_MRG_RXBUF;
}

static void append(struct pv_net_room *room, const struct pv_chain *chain)
{
	room->chains[room->chain_count++] =
		(struct pv_net_room_chain){ chain->head, chain->writable, chain->writable_bytes };
	memcpy(&room->segments[room->segment_count], &chain->segments[chain->readable],
	       chain->writable * sizeof(room->segments[0]));
	room->segment_count += chain->writable;
	room->bytes += chain->writable_bytes;
}

/* Takes chains ahead as far as they are needed; false: there is none. */
static bool make_room(struct pv_net_pair *pair)
{
	struct pv_net_room *room = &pair->room;
	uint32_t most = merges(pair) ? PV_NET_ROOM_CHAINS : 1;

	/* A chain has at most PV_MAX_QUEUE_SIZE segments: there is room for one more. */
	while (room->chain_count < most && room->bytes < wanted(pair) && room->segment_count <= PV_MAX_QUEUE_SIZE) {
		if (pv_device_pop(pv_net_device(pair), pair->receive_queue, &pair->chain) != 1)
			break;
		if (pair->chain.writable_bytes < PV_NET_HEADER_BYTES) {
			pv_device_fault(pv_net_device(pair), "NET-2");
			return false;
		}
		append(room, &pair->chain);
	}
	return room->chain_count > 0;
}

/* Gives back the first `count` chains, which hold that many bytes together. */
static void give_back(struct pv_net_pair *pair, uint32_t count, uint64_t bytes)
{
	struct pv_queue *queue = &pv_net_device(pair)->queues[pair->receive_queue];
	struct pv_net_room *room = &pair->room;
	uint32_t segments = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct pv_net_room_chain *chain = &room->chains[i];
		uint64_t written = chain->bytes < bytes ? chain->bytes : bytes;

		pv_queue_stage(queue, chain->head, (uint32_t)written);
		bytes -= written;
		segments += chain->segments;
		room->bytes -= chain->bytes;
	}
	pv_queue_publish(queue); /* all of a frame at once: drivers take no part of one */
	room->chain_count -= count;
	room->segment_count -= segments;
	memmove(room->chains, &room->chains[count], room->chain_count * sizeof(room->chains[0]));
	memmove(room->segments, &room->segments[segments], room->segment_count * sizeof(room->segments[0]));
}

/* The bytes of the room from an offset on, into what they lie in as far as there are any. */
static void look(const struct pv_net_room *room, uint64_t offset, uint8_t *to, uint32_t size_bytes)
{
	for (uint32_t i = 0; i < room->segment_count && size_bytes > 0; i++) {
		const struct iovec *segment = &room->segments[i];

		for (; offset < segment->iov_len && size_bytes > 0; offset++, size_bytes--)
			*to++ = ((const uint8_t *)segment->iov_base)[offset];
		offset -= segment->iov_len;
	}
}

/* Longer than the payload that the driver was told of, and no large segment (virtio 5.1.4.1). */
static bool too_long(const struct pv_net_pair *pair, uint64_t frame_bytes)
{
	uint64_t most = pair->net->options.frame_bytes;
	uint8_t segmentation = 0, type[2] = { 0 };

	if (frame_bytes + PV_NET_TAG_BYTES <= most || !(pv_net_features(pair) & PV_NET_F_MTU))
		return false;
	look(&pair->room, offsetof(struct pv_net_header, segmentation), &segmentation, 1);
	look(&pair->room, PV_NET_HEADER_BYTES + PV_NET_TYPE_OFFSET, type, sizeof(type));
	bool tagged = (type[0] << 8 | type[1]) == PV_NET_TYPE_VLAN;
	return segmentation == PV_NET_SEGMENTATION_NONE && (frame_bytes > most || !tagged);
}

/* A frame lies at the start of the room: the driver is to have it. */
static void deliver(struct pv_net_pair *pair, uint64_t frame_bytes)
{
	struct pv_net_room *room = &pair->room;
	uint64_t bytes = PV_NET_HEADER_BYTES + frame_bytes, held = 0;
	static const uint8_t no_flags;
	uint16_t count = 0;

	/* The kernel says that a checksum is valid to whom it may not concern (virtio 5.1.6.4.1). */
	if (pair->link.kind == PV_NET_LINK_TAP && !(pv_net_features(pair) & PV_NET_F_GUEST_CSUM))
		pv_net_scatter(room->segments, room->segment_count, offsetof(struct pv_net_header, flags), &no_flags,
			       sizeof(no_flags));
	while (held < bytes)
		held += room->chains[count++].bytes;
	pv_net_scatter(room->segments, room->segment_count, offsetof(struct pv_net_header, chains), &count,
		       sizeof(count));
	pv_net_passed(pair->net, false, room->segments, room->segment_count, PV_NET_HEADER_BYTES, frame_bytes);
	pv_backend_count(&pair->statistics.received_frames, 1);
	pv_backend_count(&pair->statistics.received_bytes, frame_bytes);
	give_back(pair, count, bytes);
}

/* The next frame of the link's; false: there is none. */
static bool take(struct pv_net_pair *pair)
{
	struct iovec segments[PV_NET_ROOM_SEGMENTS + 1];
	struct pv_net_room *room = &pair->room;
	uint8_t beyond; /* written to where a frame does not fit */

	memcpy(segments, room->segments, room->segment_count * sizeof(segments[0]));
	segments[room->segment_count] = (struct iovec){ &beyond, sizeof(beyond) };
	uint64_t frame_bytes = pv_net_link_receive(&pair->link, segments, room->segment_count + 1);
	if (!frame_bytes)
		return false;
	if (pv_net_is_down(pair->net))
		pv_backend_count(&pair->statistics.receive_dropped_down, 1);
	else if (PV_NET_HEADER_BYTES + frame_bytes > room->bytes || too_long(pair, frame_bytes))
		pv_backend_count(&pair->statistics.receive_dropped_size, 1);
	else
		deliver(pair, frame_bytes);
	return true;
}

bool pv_net_receive(struct pv_net_pair *pair)
{
	uint32_t taken = 0;

	pair->receive_due_ns = 0;
	while (taken < PV_NET_BATCH && pv_net_link_is_usable(&pair->link) && make_room(pair)) {
		pair->receive_due_ns = pv_net_due(pair->net, &pair->net->receive_limit);
		if (pair->receive_due_ns || !take(pair))
			break;
		taken++;
	}
	if (taken)
		pv_net_tell(pair, pair->receive_queue);
	return taken > 0;
}
