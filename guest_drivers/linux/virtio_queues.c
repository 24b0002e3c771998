// SPDX-License-Identifier: 0BSD
/*
 * Queues of virtio over calls: each has a channel of its own on one of the CPUs, in turn, and rings the doorbell.
 */
#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "virtio.h"

struct queue {
	struct list_head link;
	struct virtqueue *vq;
	u32 vcpu;
	int channel; /* of it; negative: nobody wants to hear of the queue */
};

static LIST_HEAD(queues); /* that raise channels, of all devices */
static struct cpumask hearing; /* the CPUs whose channels they may be */
/*
 * Of both, and of where each queue is heard.  Whoever has it may hold CPUs where they are (cpus_read_lock), or be
 * moving one of them, so under it nobody asks for either: devices come and go, and drivers make and delete queues,
 * outside.
 */
static DEFINE_MUTEX(queues_lock);

/* The n-th CPU that hears, in turn, by its vCPU. */
static u32 vcpu_for(u32 n)
{
	unsigned int cpu;

	n %= max(cpumask_weight(&hearing), 1U);
	for_each_cpu(cpu, &hearing) if (!n--) return cpu_data(cpu).apicid;
	return 0;
}

static bool notify(struct virtqueue *vq)
{
	paravirt_ring(to_pv_virtio(vq->vdev)->index << 16 | vq->index);
	return true;
}

static void used(void *data)
{
	vring_interrupt(0, data);
}

/* Tells the host where the queue is and which channel it raises. */
static int set_up(struct pv_virtio *device, struct virtqueue *vq, const struct queue *queue)
{
	struct pv_queue_setup *setup = device->buffer;
	struct pv_answer answer;

	mutex_lock(&device->lock);
	*setup = (struct pv_queue_setup){
		.queue = vq->index,
		.size = virtqueue_get_vring_size(vq),
		.vcpu = queue->vcpu,
		.channel = queue->channel,
		.descriptors_gpa = virtqueue_get_desc_addr(vq),
		.driver_gpa = virtqueue_get_avail_addr(vq),
		.device_gpa = virtqueue_get_used_addr(vq),
	};
	answer = pv_call2(PV_CALL_DEVICE_QUEUE_SETUP, device->index, paravirt_gpa(setup));
	mutex_unlock(&device->lock);
	return paravirt_error(answer.status);
}

/* Gives it a channel, if somebody wants to hear of it, and tells the host. */
static int open_queue(struct pv_virtio *device, struct queue *queue, bool heard)
{
	int error;

	mutex_lock(&queues_lock);
	queue->vcpu = vcpu_for(device->index + queue->vq->index);
	queue->channel = heard ? paravirt_event_bind(queue->vcpu, PARAVIRT_ANY_CHANNEL, used, queue->vq) : -1;
	error = heard && queue->channel < 0 ? queue->channel : set_up(device, queue->vq, queue);
	if (error && queue->channel >= 0)
		paravirt_event_unbind(queue->vcpu, queue->channel);
	if (!error)
		list_add_tail(&queue->link, &queues);
	mutex_unlock(&queues_lock);
	return error;
}

static void close_queue(struct queue *queue)
{
	mutex_lock(&queues_lock);
	list_del(&queue->link);
	if (queue->channel >= 0)
		paravirt_event_unbind(queue->vcpu, queue->channel);
	mutex_unlock(&queues_lock);
}

static struct virtqueue *make_queue(struct pv_virtio *device, u32 index, vq_callback_t *callback, const char *name,
				    bool context)
{
	struct pv_answer size = pv_call2(PV_CALL_DEVICE_QUEUE_SIZE, device->index, index);
	struct virtqueue *vq;
	struct queue *queue;
	int error;

	if (size.status < 0 || !size.value)
		return ERR_PTR(-ENOENT);
	queue = kzalloc(sizeof(*queue), GFP_KERNEL);
	if (!queue)
		return ERR_PTR(-ENOMEM);
	vq = vring_create_virtqueue(index, size.value, SMP_CACHE_BYTES, &device->virtio, true, true, context, notify,
				    callback, name);
	if (!vq) {
		kfree(queue);
		return ERR_PTR(-ENOMEM);
	}
	vq->priv = queue;
	queue->vq = vq;
	error = open_queue(device, queue, callback);
	if (error) {
		vring_del_virtqueue(vq);
		kfree(queue);
		return ERR_PTR(error);
	}
	return vq;
}

/* The device was reset before: it does not touch the queues any more. */
void pv_virtio_delete_queues(struct virtio_device *virtio)
{
	struct virtqueue *vq, *next;

	list_for_each_entry_safe(vq, next, &virtio->vqs, list) {
		struct queue *queue = vq->priv;

		close_queue(queue);
		vring_del_virtqueue(vq);
		kfree(queue);
	}
}

int pv_virtio_find_queues(struct virtio_device *virtio, unsigned int count, struct virtqueue *queues[],
			  vq_callback_t *callbacks[], const char *const names[], const bool *contexts,
			  struct irq_affinity *affinity)
{
	struct pv_virtio *device = to_pv_virtio(virtio);
	unsigned int i, index = 0;

	for (i = 0; i < count; i++) {
		queues[i] = NULL;
		if (!names[i])
			continue; /* one that the device does not have, and that is not counted */
		queues[i] = make_queue(device, index++, callbacks[i], names[i], contexts && contexts[i]);
		if (IS_ERR(queues[i])) {
			int error = PTR_ERR(queues[i]);

			pv_virtio_delete_queues(virtio);
			return error;
		}
	}
	return 0;
}

void pv_virtio_synchronize(struct virtio_device *virtio)
{
	u32 i;

	for (i = 0; i < paravirt.vcpus; i++)
		paravirt_event_synchronize(i);
}

/* Raises another vCPU's channel from now on; what was told the old way is looked at once (DEV-16). */
static int move(struct queue *queue, u32 vcpu)
{
	struct virtqueue *vq = queue->vq;
	int channel = paravirt_event_bind(vcpu, PARAVIRT_ANY_CHANNEL, used, vq);

	if (channel < 0)
		return channel;
	if (pv_call4(PV_CALL_DEVICE_BIND, to_pv_virtio(vq->vdev)->index, vq->index, vcpu, channel).status < 0) {
		paravirt_event_unbind(vcpu, channel);
		return 0; /* the device has left, and tells of nothing any more (DEV-23) */
	}
	paravirt_event_unbind(queue->vcpu, queue->channel);
	queue->vcpu = vcpu;
	queue->channel = channel;
	pv_call2(PV_CALL_EVENT_SEND, vcpu, channel);
	return 0;
}

/* The channel goes where the queue is worked on. */
int pv_virtio_set_affinity(struct virtqueue *vq, const struct cpumask *cpus)
{
	struct queue *queue = vq->priv;
	unsigned int cpu;
	int error = 0;

	mutex_lock(&queues_lock);
	cpu = cpus ? cpumask_first_and(cpus, &hearing) : nr_cpu_ids;
	if (queue->channel >= 0 && cpu < nr_cpu_ids && cpu_data(cpu).apicid != queue->vcpu)
		error = move(queue, cpu_data(cpu).apicid);
	mutex_unlock(&queues_lock);
	return error;
}

int pv_virtio_cpu_comes(unsigned int cpu)
{
	mutex_lock(&queues_lock);
	cpumask_set_cpu(cpu, &hearing);
	mutex_unlock(&queues_lock);
	return 0;
}

int pv_virtio_cpu_leaves(unsigned int cpu)
{
	struct queue *queue;
	int error = 0;

	mutex_lock(&queues_lock);
	cpumask_clear_cpu(cpu, &hearing);
	list_for_each_entry(queue, &queues, link)
		if (!error && queue->channel >= 0 && queue->vcpu == cpu_data(cpu).apicid)
			error = move(queue, vcpu_for(queue->vq->index));
	if (error)
		cpumask_set_cpu(cpu, &hearing); /* and stays, since nobody else could hear that queue */
	mutex_unlock(&queues_lock);
	return error;
}

const struct cpumask *pv_virtio_get_affinity(struct virtio_device *virtio, int index)
{
	struct virtqueue *vq;

	list_for_each_entry(vq, &virtio->vqs, list)
		if (vq->index == index) {
			const struct queue *queue = vq->priv;
			unsigned int cpu;

			for_each_possible_cpu(cpu)
				if (cpu_data(cpu).apicid == queue->vcpu)
					return cpumask_of(cpu);
		}
	return NULL;
}
