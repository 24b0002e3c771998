/* SPDX-License-Identifier: BSD-2-Clause
 *
 * virtio-net between a device's queues and links of the host's: one thread per pair of queues.  Links are
 * opened, named and measured by the caller, who also says what the device offers.
 */
#ifndef PARAVIRT_NET_H
#define PARAVIRT_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host.h"
#include "limit.h"
#include "net_capture.h"

#define PV_NET_PAIRS 3 /* most of a device, whose queues are 8 at most */

/* Kinds of links. */
#define PV_NET_LINK_TAP 1 /* queues of a TAP device with headers of 12 bytes (IFF_VNET_HDR) */
#define PV_NET_LINK_FRAMES 2 /* a socket that keeps frames apart: datagram or seqpacket */
#define PV_NET_LINK_STREAM 3 /* a stream socket: before each frame its length, 4 bytes, big-endian */

struct pv_net_options {
	uint32_t link; /* one of PV_NET_LINK_ */
	uint32_t pairs;
	int fds[PV_NET_PAIRS]; /* one per pair, non-blocking; the caller's, open until pv_net_destroy */
	uint32_t frame_bytes; /* largest frame that is not a large segment */
	uint64_t poll_ns; /* longest look for work before a thread sleeps; 0: none */
	struct pv_limit_rates limit; /* of frames, for each direction */
	struct pv_net_capture *capture; /* NULL: none; the caller's, until pv_net_destroy */
	uint32_t queues_choose; /* no control queue: the pairs in use are those whose queues are enabled */
};

/* Every frame is counted once: as received (by the driver), as sent (by the driver), or as dropped. */
struct pv_net_statistics {
	uint64_t received_frames;
	uint64_t received_bytes; /* without headers of virtio's, as everywhere here */
	uint64_t sent_frames;
	uint64_t sent_bytes;
	uint64_t receive_dropped_size; /* does not fit in the driver's chains, or in any */
	uint64_t receive_dropped_down; /* the link is down by our own word */
	uint64_t receive_dropped_reset; /* taken from the link for a driver that is gone */
	uint64_t send_dropped_refused; /* the link took none of it: no interface up, a frame too short or too long */
	uint64_t send_dropped_down;
	uint64_t bursts; /* system calls that moved several frames */
	uint64_t interrupts; /* groups of frames that the driver was told of */
	uint64_t links_lost; /* the other end is gone */
	uint64_t capture_lost; /* frames that passed and are not in the capture */
	uint64_t polls; /* looks for work that found it */
	uint64_t poll_ns; /* time spent looking */
	uint64_t sleeps;
};

struct pv_net;

/*
 * Makes a network of a device, whose ops and opaque it sets, and starts its threads, which wait for DRIVER_OK.
 * NULL: error says why, in one line.
 */
struct pv_net *pv_net_create(struct pv_device *device, const struct pv_net_options *options, char *error,
			     size_t error_bytes);
/* Ends the threads. No op of the device may run or follow. */
void pv_net_destroy(struct pv_net *net);
/* Whether frames pass. The configuration space is the caller's to change. Any thread. */
void pv_net_set_up(struct pv_net *net, bool up);
void pv_net_get_statistics(const struct pv_net *net, struct pv_net_statistics *statistics);

/* ---- links: those that the kernel makes ---- */

/*
 * A queue of the TAP device of that name, in network namespaces that of the caller's: a descriptor, non-blocking,
 * or -errno.  One of several queues if `several`.
 */
int pv_net_tap_open(const char *name, bool several);
/* Whether a descriptor is a TAP device's queue with headers; it is made to have those of 12 bytes. */
bool pv_net_tap_adopt(int fd);

#endif
