/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Frames of a TAP device in bursts: as many as there are with one system call (io_uring), by way of slots of
 * ours.  A copy costs the processor less than a frame in two pieces, or in memory that it has to look up, costs
 * the kernel.  What does not lie in a slot is left to net_link.c.
 */
#ifndef PARAVIRT_NET_BURST_H
#define PARAVIRT_NET_BURST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct pv_net_burst;
struct pv_net_link;

/* NULL: the kernel refuses. */
struct pv_net_burst *pv_net_burst_create(int fd);
void pv_net_burst_destroy(struct pv_net_burst *burst);

/* Whether all frames of at most that size, without header, lie in a slot and can be told from larger ones. */
bool pv_net_burst_fits(uint64_t frame_bytes);

/* As their namesakes of net_link.h, which they serve: a frame that fits is SENT when it has a slot. */
int pv_net_burst_send(struct pv_net_link *link, const struct iovec *segments, uint32_t count, uint64_t frame_bytes);
bool pv_net_burst_flush(struct pv_net_link *link);
uint64_t pv_net_burst_receive(struct pv_net_link *link, const struct iovec *room, uint32_t count);

/* Drops what was read and nobody has received; how many frames. */
uint32_t pv_net_burst_forget(struct pv_net_burst *burst);

#endif
