/* SPDX-License-Identifier: 0BSD
 *
 * A server on the network `lan`, with lwIP's TCP/IP over our driver: a web page on port 80, and for tests echo (7, also
 * UDP), discard (9) and source (19).  Words of the command line: ip=A.B.C.D[/BITS] (10.0.2.15/24) or ip=dhcp,
 * gateway=A.B.C.D (10.0.2.2), pairs=N of queues.  It ends when a datagram comes to UDP port 9.
 */
#include "../words.h"
#include "link.h"
#include "lwip/dhcp.h"
#include "lwip/init.h"
#include "lwip/timeouts.h"
#include "lwip/udp.h"
#include "paravirt/notes.h"
#include "paravirt/vcpu.h"
#include "services.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_EVENT, 0), PV_NEED(PV_SERVICE_TIME, 0),
	   PV_NEED(PV_SERVICE_VCPU, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("lan", PV_DEVICE_TYPE_NET, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

/* What the machine's status says. */
enum { DONE, WRONG_WORD, NO_NETWORK, FAILED };

#define LOOKS 2000 /* before it sleeps */
#define TIMER_LOOKS 64 /* turns between two looks at lwIP's timers, which are of 250 ms */
#define NS_PER_MS 1000000

static bool ended;

_Noreturn static void fail(int status, const char *what, int64_t detail)
{
	pv_print("web: %s (%s)\n", what, pv_status_name(detail));
	pv_exit(status);
}

_Noreturn static void refuse(const char *what)
{
	pv_print("web: %s\n", what);
	pv_exit(WRONG_WORD);
}

/* ---- datagrams ---- */

static void on_echo(void *argument, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port)
{
	(void)argument;
	udp_sendto(pcb, p, from, port);
	pbuf_free(p);
}

static void on_end(void *argument, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port)
{
	(void)argument, (void)pcb, (void)from, (void)port;
	ended = true;
	pbuf_free(p);
}

static bool udp_listen(u16_t port, udp_recv_fn receive)
{
	struct udp_pcb *pcb = udp_new();

	if (!pcb || udp_bind(pcb, IP_ADDR_ANY, port) != ERR_OK)
		return false;
	udp_recv(pcb, receive, NULL);
	return true;
}

/* ---- the address ---- */

/* Where it ends; NULL: it is none. */
static const char *read_address(const char *at, ip4_addr_t *address)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		uint32_t part = 0, digits = 0;

		for (; *at >= '0' && *at <= '9' && digits < 4; digits++)
			part = part * 10 + (uint32_t)(*at++ - '0');
		if (!digits || part > 255 || (i < 3 && *at++ != '.'))
			return NULL;
		value = value << 8 | part;
	}
	address->addr = lwip_htonl(value);
	return at;
}

static void choose_address(void)
{
	const char *ip = word("ip"), *gateway = word("gateway"), *at;
	ip4_addr_t address, mask, router;
	uint32_t bits = 24;

	if (ip && !strncmp(ip, "dhcp", 4)) {
		if (dhcp_start(&link_netif) != ERR_OK)
			fail(FAILED, "DHCP cannot start", PV_STATUS_FAILED);
		return;
	}
	at = read_address(ip ? ip : "10.0.2.15", &address);
	if (at && *at == '/')
		for (bits = 0, at++; *at >= '0' && *at <= '9' && bits <= 32; at++)
			bits = bits * 10 + (uint32_t)(*at - '0');
	if (!at || (*at && *at != ' ') || !bits || bits > 32)
		refuse("ip must be like 10.0.2.15, 10.0.2.15/24, or dhcp");
	if (!read_address(gateway ? gateway : "10.0.2.2", &router))
		refuse("gateway must be like 10.0.2.2");
	mask.addr = lwip_htonl(~0u << (32 - bits));
	netif_set_addr(&link_netif, &address, &mask, &router);
}

static void on_address(struct netif *netif)
{
	char address[IP4ADDR_STRLEN_MAX];

	if (!netif_is_up(netif) || ip4_addr_isany(netif_ip4_addr(netif)))
		return;
	ip4addr_ntoa_r(netif_ip4_addr(netif), address, sizeof(address));
	pv_print("web: %s is up\n", address);
}

/* ---- the program ---- */

static void serve(void)
{
	const struct service *services[] = { &echo_service, &discard_service, &source_service, &page_service };

	for (size_t i = 0; i < sizeof(services) / sizeof(*services); i++)
		if (!stream_listen(services[i]))
			fail(FAILED, "a service cannot start", PV_STATUS_FAILED);
	if (!udp_listen(ECHO_PORT, on_echo) || !udp_listen(DISCARD_PORT, on_end))
		fail(FAILED, "a service cannot start", PV_STATUS_FAILED);
}

static void loop(void)
{
	for (uint32_t looks = 0, turns = 0; !ended; turns++) {
		if (turns % TIMER_LOOKS == 0)
			sys_check_timeouts();
		int64_t did = link_turn();

		if (did < 0)
			fail(FAILED, "the network is gone", did);
		looks = did ? 0 : looks + 1;
		if (looks <= LOOKS) {
			pv_relax();
			continue;
		}
		sys_check_timeouts();
		if (link_turn() == 0 && !link_sleep(pv_now_ns() + sys_timeouts_sleeptime() * (uint64_t)NS_PER_MS))
			fail(FAILED, "the network gave up", PV_STATUS_FAILED);
	}
}

int pv_main(void)
{
	uint16_t pairs = (uint16_t)word_number("pairs", 1, LINK_PAIRS, WRONG_WORD);

	lwip_init();
	int64_t status = link_init(pairs);
	if (status < 0)
		fail(NO_NETWORK, "there is no network `lan` that works", status);
	serve();
	netif_set_default(&link_netif);
	netif_set_status_callback(&link_netif, on_address);
	netif_set_up(&link_netif);
	choose_address();
	loop();
	link_turn();
	link_deinit();
	pv_print("web: %lu connections, %lu reset; %lu frames in, %lu merged; %lu out, %lu uncopied; %lu dropped\n",
		 stream_counts.connections, stream_counts.resets, link_counts.received_frames,
		 link_counts.merged_frames, link_counts.sent_frames, link_counts.in_pieces, link_counts.dropped_frames);
	return DONE;
}
