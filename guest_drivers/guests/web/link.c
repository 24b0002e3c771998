/* SPDX-License-Identifier: 0BSD
 *
 * Frames between virtio-net and lwIP.
 *
 * Received ones are not copied: each buffer of the driver's has a pbuf of its own, and when lwIP lets go of it the
 * buffer is given to the device again.  There are more than the queues take, by what TCP and IP may hold back, so that
 * acknowledgements always find room.  Frames to send are copied into one buffer if they fit, as those of an MTU of
 * 1500 do; others go as they lie, and their pbufs are held meanwhile.
 */
#include "link.h"

#include "lwip/etharp.h"
#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/tcp.h"
#include "netif/ethernet.h"
#include "paravirt/string.h"

#define QUEUE_SIZE 256
#define ROOMS 4096
#define PARCELS 1024 /* more than the queues take: what waits for room there */
#define FRAME_MOST 65535 /* what the length of a pbuf counts to */
#define OFFLOADS (PV_NET_F_CSUM | PV_NET_F_GUEST_CSUM | PV_NET_F_GUEST_TSO4)

_Static_assert(ROOMS >= LINK_PAIRS * QUEUE_SIZE + MEMP_NUM_TCP_PCB * TCP_OOSEQ_MAX_PBUFS + IP_REASS_MAX_PBUFS,
	       "what is held back leaves room for what comes");

struct room {
	struct pbuf_custom pbuf; /* first: lwIP gives back its address */
	struct pv_net_buffer buffer;
};

struct parcel {
	struct pv_net_buffer buffer;
	struct pbuf *held; /* if the frame goes as it lies */
	struct parcel *next;
};

struct lane {
	struct pv_net_pair pair;
	struct parcel *first, **end; /* for which the queue has no room yet */
	uint8_t memory[PV_NET_PAIR_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
};

struct netif link_netif;
struct link_counts link_counts;
static struct pv_virtio device;
static struct pv_net net;
static struct lane lanes[LINK_PAIRS];
static uint16_t lane_count;
static struct room rooms[ROOMS];
static struct room *spare_rooms[ROOMS];
static uint32_t spare_room_count;
static struct parcel parcels[PARCELS];
static struct parcel *spare_parcels[PARCELS];
static uint32_t spare_parcel_count;
static uint64_t wake_ns;

#define OF(type, member, pointer) ((type *)(void *)((uint8_t *)(pointer)-offsetof(type, member)))

static bool agreed(uint64_t feature)
{
	return device.features & feature;
}

bool link_completes(void)
{
	return agreed(PV_NET_F_CSUM);
}

bool link_merges(void)
{
	return agreed(PV_NET_F_GUEST_TSO4);
}

/* ---- to the network ---- */

static void reap(struct lane *lane)
{
	struct pv_net_buffer *sent;

	while ((sent = pv_net_sent(&lane->pair))) {
		struct parcel *parcel = OF(struct parcel, buffer, sent);

		if (parcel->held)
			pbuf_free(parcel->held);
		spare_parcels[spare_parcel_count++] = parcel;
	}
}

static int64_t add(struct lane *lane, struct parcel *parcel)
{
	struct pv_virtq_buffer pieces[PV_NET_PIECES];
	uint32_t count = 0;

	if (!parcel->held)
		return pv_net_send(&lane->pair, &parcel->buffer);
	for (struct pbuf *p = parcel->held; p; p = p->next)
		pieces[count++] = (struct pv_virtq_buffer){ pv_gpa(p->payload), p->len, false };
	return pv_net_send_pieces(&lane->pair, &parcel->buffer, pieces, count);
}

/* Whether something went. */
static bool flush(struct lane *lane)
{
	bool did = false;

	while (lane->first && add(lane, lane->first) == PV_STATUS_OK) {
		lane->first = lane->first->next;
		did = true;
	}
	if (!lane->first)
		lane->end = &lane->first;
	return did;
}

/* The lwIP way to leave a checksum out is to leave it zero; the device wants that of the pseudo-header there. */
static void ask_checksum(struct pv_net_header *header, struct pbuf *p)
{
	struct eth_hdr *ethernet = p->payload;
	struct ip_hdr *ip = (struct ip_hdr *)(void *)(ethernet + 1);

	if (!link_completes() || p->len < sizeof(*ethernet) + sizeof(*ip) || ethernet->type != PP_HTONS(ETHTYPE_IP) ||
	    IPH_PROTO(ip) != IP_PROTO_TCP || p->len < sizeof(*ethernet) + IPH_HL_BYTES(ip) + sizeof(struct tcp_hdr))
		return;
	struct tcp_hdr *tcp = (struct tcp_hdr *)(void *)((uint8_t *)ip + IPH_HL_BYTES(ip));
	uint32_t size_bytes = (uint32_t)lwip_ntohs(IPH_LEN(ip)) - IPH_HL_BYTES(ip);

	tcp->chksum = lwip_htons((u16_t)pv_net_sum(&ip->src, 8, IP_PROTO_TCP + size_bytes));
	header->flags = (uint8_t)PV_NET_HEADER_F_NEEDS_CHECKSUM;
	header->checksum_start = (uint16_t)((uint8_t *)tcp - (uint8_t *)p->payload);
	header->checksum_offset = offsetof(struct tcp_hdr, chksum);
}

/* False: it does not fit in a parcel. */
static bool pack(struct parcel *parcel, struct pbuf *p)
{
	memset(&parcel->buffer.header, 0, sizeof(parcel->buffer.header));
	ask_checksum(&parcel->buffer.header, p);
	parcel->held = NULL;
	parcel->next = NULL;
	if (p->tot_len <= sizeof(parcel->buffer.data)) {
		parcel->buffer.size_bytes = pbuf_copy_partial(p, parcel->buffer.data, p->tot_len, 0);
		return true;
	}
	parcel->buffer.size_bytes = 0;
	if (pbuf_clen(p) > PV_NET_PIECES) {
		parcel->held = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
	} else {
		pbuf_ref(p);
		parcel->held = p;
	}
	link_counts.in_pieces++;
	return parcel->held;
}

/* A connection's segments leave by one pair, which is then the one that its answers come by. */
static struct lane *lane_of(const struct pbuf *p)
{
	const uint8_t *frame = p->payload;
	const size_t ports = sizeof(struct eth_hdr) + IP_HLEN;

	if (lane_count == 1 || p->len < ports + 4)
		return &lanes[0];
	return &lanes[(frame[ports] + frame[ports + 1] + frame[ports + 2] + frame[ports + 3]) % lane_count];
}

/* What finds no room is lost as on a wire: it is TCP's to send again, at a time that is TCP's to choose. */
static err_t send(struct netif *netif, struct pbuf *p)
{
	struct lane *lane = lane_of(p);

	(void)netif;
	if (!spare_parcel_count)
		reap(lane);
	struct parcel *parcel = spare_parcel_count ? spare_parcels[--spare_parcel_count] : NULL;

	if (!parcel || !pack(parcel, p)) {
		if (parcel)
			spare_parcels[spare_parcel_count++] = parcel;
		link_counts.dropped_frames++;
		return ERR_OK;
	}
	link_counts.sent_frames++;
	link_counts.sent_bytes += p->tot_len;
	*lane->end = parcel;
	lane->end = &parcel->next;
	return ERR_OK;
}

/* ---- from the network ---- */

static void spare(struct pbuf *p)
{
	spare_rooms[spare_room_count++] = OF(struct room, pbuf, p);
}

static void give_rooms(struct lane *lane)
{
	while (spare_room_count && pv_net_give(&lane->pair, &spare_rooms[spare_room_count - 1]->buffer) == PV_STATUS_OK)
		spare_room_count--;
}

/* lwIP looks at the checksums of what the device has not vouched for. */
static void take(const struct pv_net_frame *frame)
{
	const u16_t vouched_for = NETIF_CHECKSUM_CHECK_TCP | NETIF_CHECKSUM_CHECK_UDP;
	bool vouches = frame->header.flags & (PV_NET_HEADER_F_NEEDS_CHECKSUM | PV_NET_HEADER_F_VALID);
	struct pbuf *whole = NULL;

	for (uint32_t i = 0; i < frame->count; i++) {
		struct room *room = OF(struct room, buffer, frame->buffers[i]);

		if (frame->size_bytes > FRAME_MOST) {
			spare(&room->pbuf.pbuf);
			continue;
		}
		struct pbuf *p = pbuf_alloced_custom(PBUF_RAW, (u16_t)frame->sizes[i], PBUF_REF, &room->pbuf,
						     (void *)(uintptr_t)frame->pieces[i], (u16_t)frame->sizes[i]);
		if (whole)
			pbuf_cat(whole, p);
		else
			whole = p;
	}
	if (!whole) {
		link_counts.dropped_frames++;
		return;
	}
	link_counts.received_frames++;
	link_counts.received_bytes += frame->size_bytes;
	link_counts.merged_frames += frame->count > 1;
	NETIF_SET_CHECKSUM_CTRL(&link_netif, vouches ? (u16_t)(link_netif.chksum_flags & ~vouched_for)
						     : (u16_t)(link_netif.chksum_flags | vouched_for));
	if (link_netif.input(whole, &link_netif) != ERR_OK)
		pbuf_free(whole);
}

int64_t link_turn(void)
{
	struct pv_net_frame frame;
	bool did = false;
	int64_t got;

	for (uint16_t i = 0; i < lane_count; i++) {
		while ((got = pv_net_receive(&lanes[i].pair, &frame)) > 0) {
			take(&frame);
			did = true;
		}
		if (got < 0)
			return got;
	}
	for (uint16_t i = 0; i < lane_count; i++) {
		reap(&lanes[i]);
		give_rooms(&lanes[i]);
		did |= flush(&lanes[i]);
		pv_net_submit(&lanes[i].pair);
	}
	return did;
}

/* ---- waiting ---- */

static void idle_until(void)
{
	pv_idle(wake_ns);
}

static const struct pv_virtio_waiter waiter = { pv_hold, idle_until, pv_release };

bool link_sleep(uint64_t deadline_ns)
{
	struct pv_virtq *queues[2 * LINK_PAIRS];
	uint32_t count = 0;

	for (uint16_t i = 0; i < lane_count; i++) {
		queues[count++] = &lanes[i].pair.receive;
		if (lanes[i].first) /* otherwise nobody waits for what was sent */
			queues[count++] = &lanes[i].pair.send;
	}
	wake_ns = deadline_ns;
	return pv_virtio_sleep(&device, queues, count);
}

/* ---- beginning and end ---- */

static err_t add_netif(struct netif *netif)
{
	netif->name[0] = 'v';
	netif->name[1] = 'n';
	netif->hostname = "web";
	netif->output = etharp_output;
	netif->linkoutput = send;
	netif->mtu = net.mtu;
	netif->hwaddr_len = sizeof(net.mac);
	memcpy(netif->hwaddr, net.mac, sizeof(net.mac));
	netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
	if (link_completes()) /* of TCP alone: a datagram may become fragments, which the device cannot complete */
		NETIF_SET_CHECKSUM_CTRL(netif, NETIF_CHECKSUM_ENABLE_ALL & ~NETIF_CHECKSUM_GEN_TCP);
	return ERR_OK;
}

static int64_t init_lane(struct lane *lane, uint16_t index)
{
	lane->end = &lane->first;
	return pv_net_pair_init(&net, &lane->pair, index, QUEUE_SIZE, lane->memory);
}

int64_t link_init(uint16_t pairs)
{
	int64_t status = pv_device(&device, PV_DEVICE_TYPE_NET, "lan");

	if (status < 0) /* names are not known everywhere: the first network will do */
		status = pv_device(&device, PV_DEVICE_TYPE_NET, NULL);
	if (status < 0)
		return status;
	if (device.waiter)
		device.waiter = &waiter;
	status = pv_net_init(&net, &device, OFFLOADS);
	if (status >= 0 && link_merges() && !agreed(PV_NET_F_MRG_RXBUF)) {
		device.refused |= PV_NET_F_GUEST_TSO4; /* a large segment takes several buffers */
		status = pv_net_init(&net, &device, OFFLOADS);
	}
	for (lane_count = 0; lane_count < pairs && status >= 0; lane_count++)
		status = init_lane(&lanes[lane_count], lane_count);
	if (status >= 0)
		status = pv_net_start(&net);
	if (status >= 0)
		status = pv_net_use_pairs(&net, pairs);
	if (status < 0)
		return status;
	for (uint32_t i = 0; i < ROOMS; i++) {
		rooms[i].pbuf.custom_free_function = spare;
		spare(&rooms[i].pbuf.pbuf);
	}
	for (uint32_t i = 0; i < PARCELS; i++)
		spare_parcels[spare_parcel_count++] = &parcels[i];
	return netif_add_noaddr(&link_netif, NULL, add_netif, ethernet_input) ? PV_STATUS_OK : PV_STATUS_FAILED;
}

void link_deinit(void)
{
	pv_net_deinit(&net);
}
