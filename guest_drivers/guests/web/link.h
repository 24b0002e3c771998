/* SPDX-License-Identifier: 0BSD
 *
 * The network `lan` as a network interface of lwIP's.
 */
#ifndef WEB_LINK_H
#define WEB_LINK_H

#include "lwip/netif.h"
#include "paravirt/net.h"

#define LINK_PAIRS 3

struct link_counts {
	uint64_t received_frames, received_bytes;
	uint64_t sent_frames, sent_bytes;
	uint64_t merged_frames; /* received, in several buffers */
	uint64_t in_pieces; /* sent from where they lie, without a copy */
	uint64_t dropped_frames; /* received or sent: too large, or there was no room */
};

extern struct netif link_netif;
extern struct link_counts link_counts;

/* Takes the device into use with that many pairs of queues, and adds the interface, which has no address yet. */
int64_t link_init(uint16_t pairs);
void link_deinit(void);
/* Takes in what came and sends what waits; whether there was anything. FAILED: the device has given up. */
int64_t link_turn(void);
/* Sleeps until there may be something to do, or until that time. False: the device has given up. */
bool link_sleep(uint64_t deadline_ns);
/* Whether the device completes the checksums of what is sent, and hands over large segments. */
bool link_completes(void);
bool link_merges(void);

#endif
