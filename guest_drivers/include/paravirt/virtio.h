/* SPDX-License-Identifier: 0BSD
 *
 * A virtio device as a driver sees it, whatever carries it: by calls (service device) or by the
 * register window of virtio-mmio.  Finding devices and agreeing on features happens here, rings are
 * virtqueue.h's, requests are the device drivers'.
 */
#ifndef PARAVIRT_VIRTIO_H
#define PARAVIRT_VIRTIO_H

#include "paravirt/call.h"
#include "paravirt/virtqueue.h"

#define PV_NO_CHANNEL 0xffffffffu

struct pv_virtio;

/* How a transport does what every device needs. Statuses are the ABI's. */
struct pv_virtio_transport {
	uint32_t (*status)(struct pv_virtio *device);
	void (*set_status)(struct pv_virtio *device, uint32_t status);
	uint64_t (*features)(struct pv_virtio *device); /* bits 0 to 63 */
	int64_t (*accept)(struct pv_virtio *device, uint64_t features);
	int64_t (*config_read)(struct pv_virtio *device, uint32_t offset, void *to, uint32_t size_bytes);
	int64_t (*config_write)(struct pv_virtio *device, uint32_t offset, const void *field, uint32_t size_bytes);
	uint32_t (*generation)(struct pv_virtio *device);
	uint32_t (*queue_size)(struct pv_virtio *device, uint16_t queue);
	int64_t (*queue_setup)(struct pv_virtio *device, const struct pv_queue_setup *setup);
	int64_t (*bind_config)(struct pv_virtio *device); /* to the device's channel; NULL: no events */
	void (*notify)(struct pv_virtio *device, uint16_t queue);
};

/* How a driver waits for its device: event.h's pattern, which works if the device has a channel. */
struct pv_virtio_waiter {
	void (*hold)(void);
	void (*wait)(void); /* may return early */
	void (*release)(void);
};

struct pv_virtio {
	const struct pv_virtio_transport *transport;
	const struct pv_virtio_waiter *waiter; /* NULL, or no channel: the driver polls */
	uint32_t type; /* one of PV_DEVICE_TYPE_ */
	uint32_t index; /* by calls: the device's number */
	uint64_t window_gpa; /* virtio-mmio */
	uint64_t refused; /* features not to agree on although they are offered: the driver's choice, none at first */
	uint64_t features; /* agreed */
	uint32_t vcpu; /* whose channel is raised by used buffers and by a device that gave up */
	uint32_t channel; /* that channel; PV_NO_CHANNEL: none */
	uint16_t doorbell; /* by calls: port */
	uint32_t flags; /* PV_DEVICE_FLAG_; 0 where the transport has none */
	char name[33]; /* logical name, empty where the transport has none */
};

/* What pv_virtio_queue can do with rings: of it, drivers want what their device offers. */
#define PV_VIRTIO_RING_FEATURES \
	(PV_VIRTIO_F_INDIRECT_DESC | PV_VIRTIO_F_EVENT_IDX | PV_VIRTIO_F_RING_PACKED | PV_VIRTIO_F_IN_ORDER)

/* Descriptors of an indirect table, and with them the memory of a queue; 64-byte aligned. */
#define PV_VIRTIO_INDIRECT 4
#define PV_VIRTIO_TABLES_OFFSET(size) ((PV_VIRTQ_RING_BYTES(size) + 63) & ~(size_t)63)
#define PV_VIRTIO_SLOTS_OFFSET(size) \
	(PV_VIRTIO_TABLES_OFFSET(size) + (size_t)(size)*PV_VIRTIO_INDIRECT * sizeof(struct pv_virtq_desc))
#define PV_VIRTIO_QUEUE_BYTES(size) (PV_VIRTIO_SLOTS_OFFSET(size) + (size_t)(size) * sizeof(struct pv_virtq_slot))

/* The first device of a type with a logical name, over calls; OK or NOT_FOUND. A NULL name: any. */
int64_t pv_virtio_find(struct pv_virtio *device, uint32_t type, const char *name, uint16_t doorbell_port);
/* The device behind a virtio-mmio window; NOT_FOUND if there is none, NOT_SUPPORTED if it is older than virtio 1. */
int64_t pv_virtio_mmio(struct pv_virtio *device, uint64_t window_gpa);

/*
 * Resets the device and agrees on VERSION_1, on what is needed and on what of wanted is offered and not refused.
 * NOT_SUPPORTED if the device does not agree.
 */
int64_t pv_virtio_agree(struct pv_virtio *device, uint64_t needed, uint64_t wanted);
/* Reads the configuration space so that all of it is of one generation. */
int64_t pv_virtio_config(struct pv_virtio *device, void *to, uint32_t size_bytes);
/* The largest power of two that is at most `size` and that the device takes for its queue; 0: no such queue. */
uint16_t pv_virtio_queue_size(struct pv_virtio *device, uint16_t index, uint16_t size);
/*
 * Sets up a queue of `size` descriptors in PV_VIRTIO_QUEUE_BYTES(size) of memory.  Used buffers raise the
 * device's channel, and so does the device if it gives up.
 */
int64_t pv_virtio_queue(struct pv_virtio *device, struct pv_virtq *queue, uint16_t index, uint16_t size, void *memory);
/* The driver is ready. BAD_STATE if the device gave up meanwhile. */
int64_t pv_virtio_start(struct pv_virtio *device);
/* Takes the device back: afterwards it touches no memory. */
void pv_virtio_reset(struct pv_virtio *device);
/* Given up (NEEDS_RESET) or reset by somebody: no chain will come back. Asks the device, which may cost an exit. */
bool pv_virtio_gone(struct pv_virtio *device);

/* Writes a field of one, two or four bytes, at an offset that is a multiple of its size. */
int64_t pv_virtio_config_write(struct pv_virtio *device, uint32_t offset, const void *field, uint32_t size_bytes);

/* Shows the device what was added, and rings if it wants that. */
void pv_virtio_publish(struct pv_virtio *device, struct pv_virtq *queue, uint16_t index);
/*
 * Takes a chain that came back, and waits for one if there is none: first by looking, which is cheaper
 * than a wake-up, then by the waiter.  OK, or FAILED: the device broke the queue or gave up.
 */
int64_t pv_virtio_wait(struct pv_virtio *device, struct pv_virtq *queue, struct pv_virtq_completion *completion);
/* A chain from its adding to its return, while no others are in flight: as pv_virtq_add, or FAILED. */
int64_t pv_virtio_do(struct pv_virtio *device, struct pv_virtq *queue, uint16_t index,
		     const struct pv_virtq_buffer *buffers, uint32_t count, struct pv_virtq_completion *done);
/*
 * For drivers that look at several queues: sleeps until a chain may have come back on one of them or the configuration
 * may have changed; without a waiter or a channel returns at once.  False: the device has given up.
 */
bool pv_virtio_sleep(struct pv_virtio *device, struct pv_virtq *const *queues, uint32_t count);
/* Whether it does: with a waiter, and a channel that wakes it. */
static inline bool pv_virtio_sleeps(const struct pv_virtio *device)
{
	return device->waiter && device->channel != PV_NO_CHANNEL;
}
/*
 * How often a driver looks before it sleeps: about 50 us, less than a wake-up costs.  One that never sleeps asks so
 * rarely whether its device is gone, which costs an exit.
 */
static inline uint32_t pv_virtio_looks(const struct pv_virtio *device)
{
	return pv_virtio_sleeps(device) ? 2000 : 100000;
}

#endif
