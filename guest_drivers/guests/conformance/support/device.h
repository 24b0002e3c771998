/* SPDX-License-Identifier: 0BSD
 *
 * A virtio device whose queue a case holds in its own hands, over whichever transport there is.
 */
#ifndef CONFORMANCE_DEVICE_H
#define CONFORMANCE_DEVICE_H

#include "conformance.h"
#include "paravirt/virtio.h"

#define CF_QUEUE_SIZE 8
#define CF_DATA_BYTES 512u
#define CF_NEXT ((uint16_t)PV_DESC_F_NEXT)
#define CF_WRITE ((uint16_t)PV_DESC_F_WRITE)
#define CF_INDIRECT ((uint16_t)PV_DESC_F_INDIRECT)

/* Queue 0 of the device under test, as the device sees it. */
struct cf_ring {
	struct pv_virtq_desc descriptors[CF_QUEUE_SIZE];
	struct pv_virtq_avail avail;
	uint16_t heads[CF_QUEUE_SIZE];
	uint16_t used_event;
	struct pv_virtq_used used __attribute__((aligned(4)));
	struct pv_virtq_used_elem entries[CF_QUEUE_SIZE];
	uint16_t avail_event;
};
extern struct cf_ring cf_ring;
extern struct pv_virtq_desc cf_table[16]; /* an indirect table */
extern struct pv_block_header cf_header;
extern uint8_t cf_data[CF_DATA_BYTES], cf_status;

/* The device of a type; by calls that with this name, too (NULL: any). False if there is none. */
bool cf_device(struct pv_virtio *device, uint32_t type, const char *name);
/* That behind the window of this number, as the command line lists them. */
bool cf_window(struct pv_virtio *device, uint32_t number);

/* Every device in turn, by calls and behind windows; false: there are no more. */
bool cf_each_device(struct pv_virtio *device, uint32_t number);

/* The record for the ring, with no event. */
struct pv_queue_setup cf_queue_setup(void);
/* Resets the device, agrees on `features` as far as offered, sets the empty ring up and starts. */
bool cf_up(struct pv_virtio *device, uint64_t features, const struct pv_queue_setup *setup);
/* In three descriptors a request that the device carries out: block reads a sector, entropy fills. */
void cf_good_chain(const struct pv_virtio *device, struct pv_virtq_desc *at);
/* Shows the device as many heads, and tells it. */
void cf_publish(struct pv_virtio *device, uint16_t index);
/* Whether as many came back within two seconds. */
bool cf_used(uint16_t index);
/* Whether the device takes a good request and carries it out, after a reset. */
bool cf_works(struct pv_virtio *device, uint64_t features);
/* Whether it gives up (NEEDS_RESET) within two seconds. */
bool cf_gives_up(struct pv_virtio *device);
void cf_down(struct pv_virtio *device);

/* Calls of service device on it, and what they answer. */
static inline int64_t cf_set_status(const struct pv_virtio *device, uint64_t status)
{
	return pv_call2(PV_CALL_DEVICE_SET_STATUS, device->index, status).status;
}

static inline int64_t cf_status_of(const struct pv_virtio *device)
{
	return (int64_t)pv_call1(PV_CALL_DEVICE_STATUS, device->index).value;
}

static inline int64_t cf_accept_bits(const struct pv_virtio *device, uint64_t block, uint64_t bits)
{
	return pv_call3(PV_CALL_DEVICE_ACCEPT, device->index, block, bits).status;
}

static inline int64_t cf_setup_queue(const struct pv_virtio *device, const struct pv_queue_setup *setup)
{
	return pv_call2(PV_CALL_DEVICE_QUEUE_SETUP, device->index, pv_gpa(setup)).status;
}

static inline int64_t cf_notify(const struct pv_virtio *device, uint64_t queue)
{
	return pv_call2(PV_CALL_DEVICE_NOTIFY, device->index, queue).status;
}

static inline int64_t cf_bind(const struct pv_virtio *device, uint64_t queue, uint64_t vcpu, uint64_t channel)
{
	return pv_call4(PV_CALL_DEVICE_BIND, device->index, queue, vcpu, channel).status;
}

#define CF_AGREED (PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER | PV_VIRTIO_STATUS_FEATURES_OK)

/* From a reset to FEATURES_OK with VERSION_1 alone. */
static inline void cf_agree(const struct pv_virtio *device)
{
	cf_set_status(device, 0);
	cf_set_status(device, PV_VIRTIO_STATUS_ACKNOWLEDGE);
	cf_set_status(device, PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER);
	cf_accept_bits(device, 0, PV_VIRTIO_F_VERSION_1);
	cf_set_status(device, CF_AGREED);
}

/* The device that chapters about calls use: a disk, or entropy; with its record. False if there is none. */
bool cf_called_device(struct pv_virtio *device, struct pv_device_info *info);

#endif
