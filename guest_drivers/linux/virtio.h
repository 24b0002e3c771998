/* SPDX-License-Identifier: 0BSD
 *
 * Virtio over calls, between its files: a device of the host's as Linux's virtio sees it.
 */
#ifndef PARAVIRT_LINUX_VIRTIO_H
#define PARAVIRT_LINUX_VIRTIO_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>

#include "paravirt.h"

struct pv_virtio {
	struct virtio_device virtio;
	struct list_head link;
	u32 index; /* the first argument of its calls */
	u32 type;
	u16 queues;
	char name[sizeof_field(struct pv_device_info, name) + 1];
	bool seen; /* in the list that is being walked */
	struct mutex lock; /* of the buffer, which calls read and write */
	void *buffer;
	int config_channel; /* on config_vcpu; negative: none */
	u32 config_vcpu;
};

static inline struct pv_virtio *to_pv_virtio(struct virtio_device *virtio)
{
	return container_of(virtio, struct pv_virtio, virtio);
}

/* Queues: virtio_queues.c. */
int pv_virtio_find_queues(struct virtio_device *virtio, unsigned int count, struct virtqueue *queues[],
			  vq_callback_t *callbacks[], const char *const names[], const bool *contexts,
			  struct irq_affinity *affinity);
void pv_virtio_delete_queues(struct virtio_device *virtio);
void pv_virtio_synchronize(struct virtio_device *virtio);
int pv_virtio_set_affinity(struct virtqueue *queue, const struct cpumask *cpus);
/* Queues are heard by those CPUs that came and did not leave; those of one that leaves go to others, for good. */
int pv_virtio_cpu_comes(unsigned int cpu);
int pv_virtio_cpu_leaves(unsigned int cpu);
const struct cpumask *pv_virtio_get_affinity(struct virtio_device *virtio, int index);

#endif
