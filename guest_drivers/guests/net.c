/* SPDX-License-Identifier: 0BSD
 *
 * A small station on the network `lan`: it answers ARP and ICMP echo, sends UDP datagrams back from port 7, and ends
 * when one comes to port 9.  Its address is the word ip=A.B.C.D of the command line (10.0.2.15); pairs=N uses that
 * many pairs of queues, all served by the boot vCPU.  No fragments, no options, no IPv6.
 */
#include "paravirt/net.h"
#include "paravirt/notes.h"
#include "paravirt/vcpu.h"
#include "words.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_VCPU, 0),
	   PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("lan", PV_DEVICE_TYPE_NET, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

/* What the machine's status says. */
enum { DONE, WRONG_WORD, NO_NETWORK, FAILED };

#define QUEUE_SIZE 64
#define PAIRS 3
#define LOOKS 2000 /* before it sleeps */
#define ECHO_PORT 7
#define DISCARD_PORT 9

/* Offsets in a frame: Ethernet, then ARP, or IPv4 without options, then ICMP or UDP. */
enum {
	TO = 0,
	FROM = 6,
	TYPE = 12,
	ARP = 14,
	IP = 14,
	IP_PROTOCOL = IP + 9,
	IP_FROM = IP + 12,
	IP_TO = IP + 16,
	ABOVE = IP + 20,
	UDP_SUM = ABOVE + 6,
};

static struct pv_virtio device;
static struct pv_net net;
static struct pv_net_pair pairs[PAIRS];
static uint8_t memory[PAIRS][PV_NET_PAIR_BYTES(QUEUE_SIZE)] __attribute__((aligned(64)));
static struct pv_net_buffer rooms[PAIRS][QUEUE_SIZE];
static struct pv_net_buffer answers[PAIRS][QUEUE_SIZE];
static struct pv_net_buffer *unused[PAIRS * QUEUE_SIZE];
static uint32_t unused_count;
static uint8_t address[4] = { 10, 0, 2, 15 };
static uint64_t frames, answered;
static bool ended;

_Noreturn static void fail(int status, const char *what, int64_t detail)
{
	pv_print("net: %s (%s)\n", what, pv_status_name(detail));
	pv_exit(status);
}

static uint32_t get16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void store_sum(uint8_t *at, uint32_t sum)
{
	uint16_t stored = pv_net_checksum(sum);

	memcpy(at, &stored, sizeof(stored));
}

/* The frame goes back to where it came from. */
static void turn_round(uint8_t *frame)
{
	memcpy(frame + TO, frame + FROM, 6);
	memcpy(frame + FROM, net.mac, 6);
}

static bool answer_arp(uint8_t *f, uint32_t size_bytes)
{
	static const uint8_t request[] = { 0, 1, 8, 0, 6, 4, 0, 1 }; /* Ethernet, IPv4, who has */

	if (size_bytes < ARP + 28 || memcmp(f + ARP, request, sizeof(request)) || memcmp(f + ARP + 24, address, 4))
		return false;
	turn_round(f);
	f[ARP + 7] = 2; /* reply */
	memcpy(f + ARP + 18, f + ARP + 8, 10); /* theirs becomes the target */
	memcpy(f + ARP + 8, net.mac, 6);
	memcpy(f + ARP + 14, address, 4);
	return true;
}

/* Whole, ours, with no options: what is above begins at ABOVE and has that many bytes; 0: it is not. */
static uint32_t check_ip(const uint8_t *f, uint32_t size_bytes)
{
	if (size_bytes < ABOVE + 8 || f[IP] != 0x45 || memcmp(f + IP_TO, address, 4))
		return 0;
	uint32_t length = get16(f + IP + 2);
	bool fragment = get16(f + IP + 6) & 0x3fff;
	if (fragment || length < 28 || length > size_bytes - IP || pv_net_sum(f + IP, 20, 0) != 0xffff)
		return 0;
	return length - 20;
}

static bool answer_echo(uint8_t *f, uint32_t size_bytes)
{
	if (f[ABOVE] != 8) /* echo request */
		return false;
	f[ABOVE] = 0;
	put16(f + ABOVE + 2, 0);
	store_sum(f + ABOVE + 2, pv_net_sum(f + ABOVE, size_bytes, 0));
	return true;
}

/* The sum over the pseudo-header is ours to make; the device does the rest where it can. */
static void sum_udp(struct pv_net_buffer *buffer, uint32_t size_bytes)
{
	uint8_t *f = buffer->data;
	uint32_t sum = pv_net_sum(f + IP_FROM, 8, f[IP_PROTOCOL] + size_bytes);

	if (net.device->features & PV_NET_F_CSUM) {
		put16(f + UDP_SUM, sum);
		buffer->header.flags = (uint8_t)PV_NET_HEADER_F_NEEDS_CHECKSUM;
		buffer->header.checksum_start = ABOVE;
		buffer->header.checksum_offset = UDP_SUM - ABOVE;
		return;
	}
	put16(f + UDP_SUM, 0);
	sum = pv_net_sum(f + ABOVE, size_bytes, sum);
	store_sum(f + UDP_SUM, sum == 0xffff ? 0 : sum); /* zero would say that there is none */
}

static bool answer_udp(struct pv_net_buffer *buffer, uint32_t size_bytes)
{
	uint8_t *f = buffer->data, port[2];
	uint32_t length = get16(f + ABOVE + 4);

	if (length < 8 || length > size_bytes)
		return false;
	ended |= get16(f + ABOVE + 2) == DISCARD_PORT;
	if (get16(f + ABOVE + 2) != ECHO_PORT)
		return false;
	memcpy(port, f + ABOVE, 2);
	memcpy(f + ABOVE, f + ABOVE + 2, 2);
	memcpy(f + ABOVE + 2, port, 2);
	memcpy(f + IP_TO, f + IP_FROM, 4);
	memcpy(f + IP_FROM, address, 4);
	sum_udp(buffer, length);
	return true;
}

static bool answer_ip(struct pv_net_buffer *buffer)
{
	uint8_t *f = buffer->data;
	uint32_t above = check_ip(f, buffer->size_bytes);

	if (!above)
		return false;
	buffer->size_bytes = ABOVE + above; /* without what filled a short frame up */
	if (f[IP_PROTOCOL] == 17) {
		if (!answer_udp(buffer, above))
			return false;
	} else if (f[IP_PROTOCOL] != 1 || !answer_echo(f, above)) {
		return false;
	} else {
		memcpy(f + IP_TO, f + IP_FROM, 4);
		memcpy(f + IP_FROM, address, 4);
	}
	turn_round(f);
	f[IP + 8] = 64; /* hops */
	put16(f + IP + 10, 0);
	store_sum(f + IP + 10, pv_net_sum(f + IP, 20, 0));
	return true;
}

/* Turns the frame in buffer into its answer. */
static bool answer(struct pv_net_buffer *buffer)
{
	if (buffer->size_bytes < ARP)
		return false;
	switch (get16(buffer->data + TYPE)) {
	case 0x0806:
		return answer_arp(buffer->data, buffer->size_bytes);
	case 0x0800:
		return answer_ip(buffer);
	default:
		return false;
	}
}

/* A frame that is larger than a buffer has no answer here. */
static void serve(struct pv_net_pair *pair, const struct pv_net_frame *frame)
{
	struct pv_net_buffer *buffer = unused_count ? unused[--unused_count] : NULL;

	frames++;
	if (!buffer)
		return;
	memset(&buffer->header, 0, sizeof(buffer->header));
	buffer->size_bytes = 0;
	for (uint32_t i = 0; i < frame->count && frame->size_bytes <= sizeof(buffer->data); i++) {
		memcpy(buffer->data + buffer->size_bytes, frame->pieces[i], frame->sizes[i]);
		buffer->size_bytes += frame->sizes[i];
	}
	if (answer(buffer) && pv_net_send(pair, buffer) == PV_STATUS_OK)
		answered++;
	else
		unused[unused_count++] = buffer;
}

/* All that waits in a pair; whether there was anything. */
static bool work(struct pv_net_pair *pair)
{
	struct pv_net_frame frame;
	struct pv_net_buffer *sent;
	bool did = false;
	int64_t got;

	while ((sent = pv_net_sent(pair)))
		unused[unused_count++] = sent;
	while ((got = pv_net_receive(pair, &frame)) > 0) {
		serve(pair, &frame);
		for (uint32_t i = 0; i < frame.count; i++)
			pv_net_give(pair, frame.buffers[i]);
		did = true;
	}
	if (got < 0)
		fail(FAILED, "the network is gone", got);
	if (did)
		pv_net_submit(pair);
	return did;
}

static void read_address(void)
{
	const char *at = word("ip");

	for (int i = 0; at && i < 4; i++) {
		uint32_t part = 0, digits = 0;

		for (; *at >= '0' && *at <= '9' && digits < 4; digits++)
			part = part * 10 + (uint32_t)(*at++ - '0');
		if (!digits || part > 255 || (i < 3 && *at++ != '.')) {
			pv_print("net: ip must be like 10.0.2.15\n");
			pv_exit(WRONG_WORD);
		}
		address[i] = (uint8_t)part;
	}
}

static void init(uint16_t wanted)
{
	int64_t status = pv_device(&device, PV_DEVICE_TYPE_NET, "lan");

	if (status < 0) /* names are not known everywhere: the first network will do */
		status = pv_device(&device, PV_DEVICE_TYPE_NET, NULL);
	if (status >= 0)
		status = pv_net_init(&net, &device, PV_NET_F_CSUM | PV_NET_F_GUEST_CSUM);
	for (uint16_t i = 0; i < wanted && status >= 0; i++) {
		status = pv_net_pair_init(&net, &pairs[i], i, QUEUE_SIZE, memory[i]);
		for (uint32_t n = 0; n < QUEUE_SIZE; n++)
			unused[unused_count++] = &answers[i][n];
	}
	if (status >= 0)
		status = pv_net_start(&net);
	for (uint16_t i = 0; i < wanted && status >= 0; i++) {
		for (uint32_t n = 0; n < pairs[i].receive.memory.size; n++)
			pv_net_give(&pairs[i], &rooms[i][n]);
		pv_net_submit(&pairs[i]);
	}
	if (status >= 0)
		status = pv_net_use_pairs(&net, wanted);
	if (status < 0)
		fail(NO_NETWORK, "there is no network `lan` that works", status);
}

int pv_main(void)
{
	uint16_t count = (uint16_t)word_number("pairs", 1, PAIRS, WRONG_WORD);
	uint32_t looks = 0;

	read_address();
	init(count);
	pv_print("net: %u.%u.%u.%u is up\n", address[0], address[1], address[2], address[3]);
	while (!ended) {
		bool did = false;

		for (uint16_t i = 0; i < count; i++)
			did |= work(&pairs[i]);
		looks = did ? 0 : looks + 1;
		pv_relax();
		/* One pair is slept on; who has several looks at them all the time. */
		if (count == 1 && looks > LOOKS && !pv_net_wait(&pairs[0]))
			fail(FAILED, "the network gave up", PV_STATUS_FAILED);
	}
	pv_net_deinit(&net);
	pv_print("net: %lu frames, %lu answers\n", frames, answered);
	return DONE;
}
