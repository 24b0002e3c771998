// SPDX-License-Identifier: BSD-2-Clause
/*
 * Notifications between a virtio device and its driver: doorbells that no eventfd took, interrupts,
 * changes of the configuration, and faults, which end them.
 *
 * Back ends' threads come here while a reset that waits for them may hold the device's lock: they take
 * none, and what they read (status, bindings) is read atomically.
 */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "eventfd.h"

#define INTERRUPT_USED 1u
#define INTERRUPT_CONFIG 2u

static bool running(const struct pv_device *device)
{
	return (status_of(device) & (DRIVER_OK | NEEDS_RESET)) == DRIVER_OK;
}

static void interrupt(struct pv_device *device, uint32_t cause, const uint32_t *vcpu, const uint32_t *channel)
{
	static const uint64_t one = 1;
	uint32_t to = __atomic_load_n(channel, __ATOMIC_SEQ_CST);

	if (device->mmio || device->interrupt_fd >= 0) {
		/* The bit before the line: the handler finds it. */
		__atomic_fetch_or(&device->state.interrupt_status, cause, __ATOMIC_SEQ_CST);
		if (device->interrupt_fd >= 0 && write(device->interrupt_fd, &one, sizeof(one)) < 0)
			return; /* the counter is at its maximum: the line is signalled as it is */
	} else if (to != PV_NO_CHANNEL) {
		pv_event_raise(device->machine, __atomic_load_n(vcpu, __ATOMIC_SEQ_CST), to);
	} else {
		return;
	}
	__atomic_fetch_add(&device->interrupts, 1, __ATOMIC_RELAXED);
}

static void config_interrupt(struct pv_device *device)
{
	interrupt(device, INTERRUPT_CONFIG, &device->state.config_vcpu, &device->state.config_channel);
}

void pv_device_interrupt(struct pv_device *device, uint32_t queue)
{
	struct pv_queue_state *s = &device->state.queues[queue];
	struct pv_queue *of = &device->queues[queue];

	if (of->call_fd >= 0) {
		pv_eventfd_signal(of->call_fd);
		__atomic_fetch_add(&device->interrupts, 1, __ATOMIC_RELAXED);
	} else {
		interrupt(device, INTERRUPT_USED, &s->vcpu, &s->channel);
	}
	if (of->way)
		of->way->ops->interrupted(of, __atomic_load_n(&s->vcpu, __ATOMIC_RELAXED),
					  __atomic_load_n(&s->channel, __ATOMIC_RELAXED));
}

void pv_device_fault(struct pv_device *device, const char *rule)
{
	uint32_t status = status_of(device);
	const char *none = NULL;

	/* Who sees NEEDS_RESET finds the rule; the first one stays. */
	if (running(device)) {
		__atomic_compare_exchange_n(&device->fault, &none, rule, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		__atomic_store_n(&device->last_fault, rule, __ATOMIC_SEQ_CST);
	}
	/* Only a driver that is running can break a rule; one report is enough. */
	do {
		if ((status & (DRIVER_OK | NEEDS_RESET)) != DRIVER_OK)
			return;
	} while (!__atomic_compare_exchange_n(&device->state.status, &status, status | NEEDS_RESET, false,
					      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	config_interrupt(device);
}

static void set_config_locked(struct pv_device *device, const void *config, uint32_t size_bytes)
{
	memcpy(device->config, config, size_bytes < device->config_bytes ? size_bytes : device->config_bytes);
	__atomic_fetch_add(&device->state.generation, 1, __ATOMIC_SEQ_CST);
	if (status_of(device) & DRIVER_OK) /* none before (virtio 2.3) */
		config_interrupt(device);
}

void pv_device_give_up(struct pv_device *device)
{
	uint32_t before = __atomic_fetch_or(&device->state.status, NEEDS_RESET, __ATOMIC_SEQ_CST);

	if ((before & (DRIVER_OK | NEEDS_RESET)) == DRIVER_OK)
		config_interrupt(device);
}

void pv_device_set_config(struct pv_device *device, const void *config, uint32_t size_bytes)
{
	pthread_mutex_lock(&device->lock);
	set_config_locked(device, config, size_bytes);
	pthread_mutex_unlock(&device->lock);
}

bool pv_device_try_set_config(struct pv_device *device, const void *config, uint32_t size_bytes)
{
	if (pthread_mutex_trylock(&device->lock))
		return false;
	set_config_locked(device, config, size_bytes);
	pthread_mutex_unlock(&device->lock);
	return true;
}

/*
 * A leaky bucket in one word: every doorbell moves doorbell_due_ns an interval on, and it may lead the
 * clock by a second.  False: this machine rings too often.
 */
static bool spend_doorbell(struct pv_machine *machine)
{
	const uint64_t second_ns = 1000000000;

	if (!machine->doorbell_budget)
		return true;
	uint64_t interval_ns = second_ns / machine->doorbell_budget;
	uint64_t now_ns = pv_clock_ns();
	uint64_t due_ns = __atomic_load_n(&machine->doorbell_due_ns, __ATOMIC_RELAXED);
	uint64_t next_ns;
	do {
		next_ns = (due_ns > now_ns ? due_ns : now_ns) + interval_ns;
		if (next_ns > now_ns + second_ns)
			return false;
	} while (!__atomic_compare_exchange_n(&machine->doorbell_due_ns, &due_ns, next_ns, false, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return true;
}

static int64_t notify_locked(struct pv_device *device, struct pv_queue *queue)
{
	static const uint64_t one = 1;

	if (!running(device) || !queue->state->enabled) /* DEV-8 */
		return PV_STATUS_BAD_STATE;
	if (!spend_doorbell(device->machine))
		return PV_STATUS_QUOTA;
	device->doorbells++;
	if (queue->doorbell_fd < 0) {
		if (device->ops.notify)
			device->ops.notify(device, queue->index);
	} else if (write(queue->doorbell_fd, &one, sizeof(one)) < 0) {
		return PV_STATUS_OK; /* the counter is at its maximum: rung as it is */
	}
	return PV_STATUS_OK;
}

int64_t pv_device_notify(struct pv_device *device, uint64_t index)
{
	struct pv_queue *queue = queue_of(device, index);

	if (!queue)
		return PV_STATUS_NOT_FOUND;
	pthread_mutex_lock(&device->lock);
	int64_t answer = notify_locked(device, queue);
	pthread_mutex_unlock(&device->lock);
	return answer;
}

int pv_device_pop(struct pv_device *device, uint32_t queue, struct pv_chain *chain)
{
	if (!running(device)) /* DEV-7: a fault in one queue stops them all */
		return 0;
	int popped = pv_queue_pop(&device->queues[queue], chain);
	if (popped < 0)
		pv_device_fault(device, device->queues[queue].fault);
	return popped;
}
