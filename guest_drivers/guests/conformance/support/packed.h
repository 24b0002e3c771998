/* SPDX-License-Identifier: 0BSD
 *
 * The ring of device.h as a packed one, in the same hands.  Places count up; a place's wrap counter is 1 in
 * even rounds.
 */
#ifndef CONFORMANCE_PACKED_H
#define CONFORMANCE_PACKED_H

#include "device.h"

struct cf_packed {
	struct pv_virtq_packed_desc descriptors[CF_QUEUE_SIZE];
	uint32_t driver_event, device_event;
};
extern struct cf_packed cf_packed;

struct pv_queue_setup cf_packed_setup(void);
/* Resets the device and starts it with the empty ring; false if it does not agree on RING_PACKED and `features`. */
bool cf_packed_up(struct pv_virtio *device, uint64_t features);
/* cf_good_chain as three packed descriptors of buffer `id`, without flags of availability. */
void cf_packed_chain(const struct pv_virtio *device, struct pv_virtq_packed_desc *at, uint16_t id);
/* Flags that make a descriptor at a place available. */
uint16_t cf_packed_available(uint16_t place);
/* Makes `count` descriptors from a place on available, the first one last, and tells the device. */
void cf_packed_publish(struct pv_virtio *device, uint16_t place, uint16_t count);
/* Whether the descriptor at a place was used within two seconds. */
bool cf_packed_used(uint16_t place);
/* The same at once. */
bool cf_packed_is_used(uint16_t place);

#endif
