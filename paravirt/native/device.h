/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What status.c and notify.c know of a device together.
 */
#ifndef PARAVIRT_DEVICE_H
#define PARAVIRT_DEVICE_H

#include "host.h"

#define ACKNOWLEDGE ((uint32_t)PV_VIRTIO_STATUS_ACKNOWLEDGE)
#define DRIVER ((uint32_t)PV_VIRTIO_STATUS_DRIVER)
#define DRIVER_OK ((uint32_t)PV_VIRTIO_STATUS_DRIVER_OK)
#define FEATURES_OK ((uint32_t)PV_VIRTIO_STATUS_FEATURES_OK)
#define NEEDS_RESET ((uint32_t)PV_VIRTIO_STATUS_NEEDS_RESET)
#define FAILED ((uint32_t)PV_VIRTIO_STATUS_FAILED)

static inline uint32_t status_of(const struct pv_device *device)
{
	return __atomic_load_n(&device->state.status, __ATOMIC_ACQUIRE);
}

/* Sets NEEDS_RESET and tells the driver, once. Takes no lock. */
void pv_device_give_up(struct pv_device *device);
/* A device that leaves was reset: no back end from now on. Locked. */
void pv_device_retire(struct pv_device *device);

static inline struct pv_queue *queue_of(struct pv_device *device, uint64_t index)
{
	if (index >= device->queue_count || !device->queues[index].maximum)
		return NULL;
	return &device->queues[index];
}

#endif
