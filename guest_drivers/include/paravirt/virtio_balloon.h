/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio balloon devices: the host of a balloon (balloon.h).  Where there is service memory with the
 * feature BALLOON, pv_balloon_by_calls costs less.  It tells no statistics.
 */
#ifndef PARAVIRT_VIRTIO_BALLOON_H
#define PARAVIRT_VIRTIO_BALLOON_H

#include "paravirt/balloon.h"
#include "paravirt/virtio.h"

#define PV_VIRTIO_BALLOON_QUEUE 4

struct pv_virtio_balloon {
	struct pv_balloon_host host; /* for pv_balloon_init */
	struct pv_virtio *device;
	struct pv_virtq queues[2]; /* pages in, pages out */
	uint32_t actual_pages;
	uint32_t pages[PV_BALLOON_LEAF_PAGES]; /* of the list under way */
	uint8_t memory[2][PV_VIRTIO_QUEUE_BYTES(PV_VIRTIO_BALLOON_QUEUE)] __attribute__((aligned(64)));
};

/* Takes the device into use. The struct stays where it is: the device knows parts of it. */
int64_t pv_virtio_balloon_init(struct pv_virtio_balloon *balloon, struct pv_virtio *device);
/* Takes the device back, which forgets what is in the balloon: deflate first. */
void pv_virtio_balloon_deinit(struct pv_virtio_balloon *balloon);
/* Bytes that the host wants. The device's channel is raised when that changes. */
uint64_t pv_virtio_balloon_target(struct pv_virtio_balloon *balloon);

#endif
