/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio entropy devices.  Where there is service entropy, entropy.h is simpler.
 */
#ifndef PARAVIRT_VIRTIO_ENTROPY_H
#define PARAVIRT_VIRTIO_ENTROPY_H

#include "paravirt/virtio.h"

#define PV_VIRTIO_ENTROPY_QUEUE 4

struct pv_virtio_entropy {
	struct pv_virtio *device;
	struct pv_virtq queue;
	uint8_t memory[PV_VIRTIO_QUEUE_BYTES(PV_VIRTIO_ENTROPY_QUEUE)] __attribute__((aligned(64)));
};

/* Takes the device into use. The struct stays where it is: the device knows parts of it. */
int64_t pv_virtio_entropy_init(struct pv_virtio_entropy *entropy, struct pv_virtio *device);
void pv_virtio_entropy_deinit(struct pv_virtio_entropy *entropy);
/* Fills all of data. OK or FAILED. */
int64_t pv_virtio_entropy_fill(struct pv_virtio_entropy *entropy, void *data, uint32_t size_bytes);

#endif
