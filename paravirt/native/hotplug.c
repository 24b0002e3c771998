// SPDX-License-Identifier: BSD-2-Clause
/*
 * Devices that arrive and leave while vCPUs run (DEV-22, DEV-23).
 *
 * Calls look devices up without a lock, so what they find stays where it is until the machine ends: a device that
 * is gone is a husk without a back end, and its index is not used again.
 */
#include "device.h"

static void tell(struct pv_machine *machine)
{
	if (__atomic_load_n(&machine->state.accepted[PV_SERVICE_DEVICE], __ATOMIC_SEQ_CST) & PV_DEVICE_FEATURE_HOTPLUG)
		pv_event_raise(machine, 0, PV_CHANNEL_DEVICE);
}

void pv_device_arrive(struct pv_device *device)
{
	struct pv_machine *machine = device->machine;

	machine->devices[device->index] = device;
	__atomic_store_n(&machine->device_count, device->index + 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&machine->running, __ATOMIC_SEQ_CST))
		tell(machine);
}

void pv_device_retire(struct pv_device *device)
{
	device->ops = (struct pv_device_ops){ 0 };
	for (uint32_t i = 0; i < PV_MAX_QUEUES; i++)
		device->queues[i].doorbell_fd = -1;
	__atomic_store_n(&device->gone, 1, __ATOMIC_SEQ_CST);
}

void pv_device_leave(struct pv_device *device)
{
	pthread_mutex_lock(&device->lock);
	__atomic_store_n(&device->leaving, 1, __ATOMIC_SEQ_CST);
	if (status_of(device))
		pv_device_give_up(device);
	else if (!pv_device_gone(device))
		pv_device_retire(device);
	pthread_mutex_unlock(&device->lock);
	tell(device->machine);
}

bool pv_device_gone(const struct pv_device *device)
{
	return __atomic_load_n(&device->gone, __ATOMIC_SEQ_CST);
}
