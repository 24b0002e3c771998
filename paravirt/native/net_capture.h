/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Frames as they pass, written to a file as blocks of pcapng (Ethernet, ns).  Whoever puts a frame in copies it and
 * never waits for the file; what does not fit in the buffer meanwhile is counted.  The blocks before the first
 * frame are the caller's to write.
 */
#ifndef PARAVIRT_NET_CAPTURE_H
#define PARAVIRT_NET_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct pv_net_capture;

/* Writes to fd, non-blocking, which stays the caller's, in a thread of its own. NULL: errno says why. */
struct pv_net_capture *pv_net_capture_create(int fd);
/*
 * Writes what there is, with the counts, and ends: 0, or the errno of the first write that failed. ETIMEDOUT: a pipe's
 * reader did not read.
 */
int pv_net_capture_destroy(struct pv_net_capture *capture);
/* The bytes of segments from `skip` on. Any thread. */
void pv_net_capture_put(struct pv_net_capture *capture, bool sent, const struct iovec *segments, uint32_t count,
			uint64_t skip, uint64_t frame_bytes);
/* Frames that are not in the file, or will not be. Any thread. */
uint64_t pv_net_capture_lost(const struct pv_net_capture *capture);

#endif
