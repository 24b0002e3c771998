// SPDX-License-Identifier: BSD-2-Clause
/*
 * A virtio entropy device that needs no thread: chains are filled from the host's random number generator
 * in the vCPU's thread that rings the doorbell.  For vendors; our own host has one beside its vCPUs.
 */
#include <sys/random.h>

#include "host.h"

#define QUEUE_SIZE 64
#define PIECE_BYTES 256 /* which getrandom gives whole */
#define MOST_BYTES 65536 /* of a chain: a driver's wish for more is no reason to hold its vCPU */

static uint32_t fill(const struct pv_chain *chain)
{
	uint64_t wanted = chain->writable_bytes < MOST_BYTES ? chain->writable_bytes : MOST_BYTES;
	uint64_t done = 0;

	while (done < wanted) {
		uint8_t bytes[PIECE_BYTES];
		uint64_t piece = wanted - done < sizeof(bytes) ? wanted - done : sizeof(bytes);

		if (getrandom(bytes, piece, 0) != (ssize_t)piece)
			break;
		done += pv_chain_write(chain, done, bytes, piece);
	}
	return (uint32_t)done;
}

static bool ending(const struct pv_machine *machine)
{
	return __atomic_load_n(&machine->ending, __ATOMIC_RELAXED);
}

static void notify(struct pv_device *device, uint32_t index)
{
	struct pv_queue *queue = &device->queues[index];
	struct pv_chain chain;
	int popped;

	/* Another vCPU may add chains as fast as they are filled: it does so on this one's time, until the end. */
	do {
		pv_queue_disarm(queue);
		while ((popped = pv_device_pop(device, index, &chain)) > 0) {
			pv_queue_stage(queue, chain.head, fill(&chain));
			if (ending(device->machine))
				break;
		}
	} while (popped == 0 && !ending(device->machine) && pv_queue_arm(queue));
	if (popped >= 0 && pv_queue_wants_interrupt(queue))
		pv_device_interrupt(device, index);
}

/* With the device's lock, as notify: nothing is under way. */
static void queue_changed(struct pv_device *device, uint32_t queue, bool enabled)
{
	(void)device, (void)queue, (void)enabled;
}

struct pv_device *pv_entropy_create(struct pv_machine *machine, const char *name)
{
	const struct pv_device_config config = {
		.type = PV_DEVICE_TYPE_ENTROPY,
		.name = name,
		.features = PV_VIRTIO_F_IN_ORDER,
		.queue_count = 1,
		.queue_sizes = { QUEUE_SIZE },
		.ops = { .notify = notify, .queue_changed = queue_changed },
	};

	return pv_device_create(machine, &config);
}

bool pv_entropy_offer(struct pv_machine *machine, const struct pv_image *image)
{
	bool made = !image->plain || pv_entropy_create(machine, "entropy");

	for (uint32_t i = 0; i < image->device_count; i++)
		if (image->devices[i].type == PV_DEVICE_TYPE_ENTROPY)
			made = made && pv_entropy_create(machine, image->devices[i].name);
	return made;
}
