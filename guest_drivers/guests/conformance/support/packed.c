/* SPDX-License-Identifier: 0BSD
 *
 * A packed ring that is written by hand.
 */
#include "packed.h"
#include "paravirt/string.h"

#define PATIENCE_NS (2 * CF_SECOND)
#define BOTH (PV_DESC_F_PACKED_AVAIL | PV_DESC_F_PACKED_USED)

struct cf_packed cf_packed __attribute__((aligned(4096)));

static bool wrap(uint16_t place)
{
	return place / CF_QUEUE_SIZE % 2 == 0;
}

struct pv_queue_setup cf_packed_setup(void)
{
	return (struct pv_queue_setup){
		.size = CF_QUEUE_SIZE,
		.channel = PV_NO_CHANNEL,
		.descriptors_gpa = pv_gpa(cf_packed.descriptors),
		.driver_gpa = pv_gpa(&cf_packed.driver_event),
		.device_gpa = pv_gpa(&cf_packed.device_event),
	};
}

bool cf_packed_up(struct pv_virtio *device, uint64_t features)
{
	struct pv_queue_setup setup = cf_packed_setup();

	cf_down(device); /* it may still be writing to the ring */
	memset(&cf_packed, 0, sizeof(cf_packed));
	return cf_up(device, features | PV_VIRTIO_F_RING_PACKED, &setup) && device->features & PV_VIRTIO_F_RING_PACKED;
}

void cf_packed_chain(const struct pv_virtio *device, struct pv_virtq_packed_desc *at, uint16_t id)
{
	struct pv_virtq_desc split[3];

	cf_good_chain(device, split);
	for (uint32_t i = 0; i < 3; i++)
		at[i] = (struct pv_virtq_packed_desc){ split[i].gpa, split[i].size_bytes, id, split[i].flags };
}

uint16_t cf_packed_available(uint16_t place)
{
	return (uint16_t)(wrap(place) ? PV_DESC_F_PACKED_AVAIL : PV_DESC_F_PACKED_USED);
}

void cf_packed_publish(struct pv_virtio *device, uint16_t place, uint16_t count)
{
	for (uint16_t i = count; i-- > 0;) {
		uint16_t *flags = &cf_packed.descriptors[(place + i) % CF_QUEUE_SIZE].flags;

		CF_STORE(*flags, (uint16_t)((*flags & ~BOTH) | cf_packed_available((uint16_t)(place + i))));
	}
	device->transport->notify(device, 0);
}

bool cf_packed_is_used(uint16_t place)
{
	uint16_t flags = CF_LOAD(cf_packed.descriptors[place % CF_QUEUE_SIZE].flags);

	return (flags & BOTH) == (wrap(place) ? BOTH : 0);
}

bool cf_packed_used(uint16_t place)
{
	uint64_t end_ns = cf_now_ns() + PATIENCE_NS;

	while (!cf_packed_is_used(place))
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}
