// SPDX-License-Identifier: BSD-2-Clause
/*
 * The transport of virtio devices by calls: service device, and the doorbell.  Translates between
 * registers and the status machine (status.c); a device on virtio-mmio does not exist here.
 */
#include <string.h>

#include "device.h"
#include "handlers.h"
#include "record.h"

static struct pv_device *find(const struct pv_machine *machine, uint64_t index)
{
	if (index >= __atomic_load_n(&machine->device_count, __ATOMIC_SEQ_CST))
		return NULL;
	struct pv_device *device = machine->devices[index];
	return device && !device->mmio && !pv_device_gone(device) ? device : NULL;
}

PV_HANDLER(device_list)
{
	const struct pv_machine *machine = vcpu->machine;

	for (uint32_t i = 0; i < PV_MAX_DEVICES; i++) {
		const struct pv_device *device = find(machine, i);

		if (!device || __atomic_load_n(&device->leaving, __ATOMIC_SEQ_CST)) /* DEV-23 */
			continue;
		struct pv_device_info info = {
			.device = i,
			.type = device->type,
			.queues = (uint16_t)device->queue_count,
			.config_bytes = (uint16_t)device->config_bytes,
			.flags = device->read_only ? PV_DEVICE_FLAG_READ_ONLY : 0,
		};
		memcpy(info.name, device->name, sizeof(info.name));
		if (args[1] - *value < sizeof(info))
			break;
		if (!pv_memory_write(&machine->memory, args[0] + *value, &info, sizeof(info)))
			return PV_STATUS_BAD_ADDRESS;
		*value += sizeof(info);
	}
	return PV_STATUS_OK;
}

PV_HANDLER(device_features)
{
	const struct pv_device *device = find(vcpu->machine, args[0]);

	if (!device)
		return PV_STATUS_NOT_FOUND;
	if (args[1] > 1)
		return PV_STATUS_INVALID;
	*value = device->offered[args[1]];
	return PV_STATUS_OK;
}

PV_HANDLER(device_accept)
{
	struct pv_device *device = find(vcpu->machine, args[0]);

	(void)value;
	return device ? pv_device_accept(device, args[1], args[2]) : PV_STATUS_NOT_FOUND;
}

PV_HANDLER(device_status)
{
	const struct pv_device *device = find(vcpu->machine, args[0]);

	if (!device)
		return PV_STATUS_NOT_FOUND;
	*value = status_of(device);
	return PV_STATUS_OK;
}

PV_HANDLER(device_set_status)
{
	struct pv_device *device = find(vcpu->machine, args[0]);

	return device ? pv_device_set_status(device, args[1], value) : PV_STATUS_NOT_FOUND;
}

PV_HANDLER(device_config_read)
{
	struct pv_device *device = find(vcpu->machine, args[0]);
	uint8_t data[PV_LIMIT_CONFIG_BYTES];
	uint64_t size_bytes = args[3];

	if (!device)
		return PV_STATUS_NOT_FOUND;
	int64_t answer = pv_device_config_read(device, args[1], data, size_bytes);
	if (answer != PV_STATUS_OK)
		return answer;
	if (!pv_memory_write(&vcpu->machine->memory, args[2], data, size_bytes) && size_bytes)
		return PV_STATUS_BAD_ADDRESS;
	*value = size_bytes;
	return PV_STATUS_OK;
}

PV_HANDLER(device_config_write)
{
	struct pv_device *device = find(vcpu->machine, args[0]);
	uint8_t data[PV_LIMIT_CONFIG_BYTES];
	uint64_t size_bytes = args[3];

	if (!device)
		return PV_STATUS_NOT_FOUND;
	if (size_bytes && !pv_memory_read(&vcpu->machine->memory, args[2], data, size_bytes))
		return PV_STATUS_BAD_ADDRESS;
	int64_t answer = pv_device_config_write(device, args[1], data, size_bytes);
	if (answer == PV_STATUS_OK)
		*value = size_bytes;
	return answer;
}

PV_HANDLER(device_generation)
{
	const struct pv_device *device = find(vcpu->machine, args[0]);

	if (!device)
		return PV_STATUS_NOT_FOUND;
	*value = __atomic_load_n(&device->state.generation, __ATOMIC_SEQ_CST);
	return PV_STATUS_OK;
}

PV_HANDLER(device_queue_size)
{
	struct pv_device *device = find(vcpu->machine, args[0]);

	if (!device)
		return PV_STATUS_NOT_FOUND;
	const struct pv_queue *queue = queue_of(device, args[1]);
	*value = queue ? queue->maximum : 0;
	return PV_STATUS_OK;
}

PV_HANDLER(device_queue_setup)
{
	struct pv_device *device = find(vcpu->machine, args[0]);
	struct pv_queue_setup setup;

	(void)value;
	if (!device)
		return PV_STATUS_NOT_FOUND;
	if (!pv_memory_read(&vcpu->machine->memory, args[1], &setup, sizeof(setup)))
		return PV_STATUS_BAD_ADDRESS;
	return pv_device_queue_setup(device, &setup);
}

PV_HANDLER(device_queue_reset)
{
	struct pv_device *device = find(vcpu->machine, args[0]);

	(void)value;
	return device ? pv_device_queue_reset(device, args[1]) : PV_STATUS_NOT_FOUND;
}

PV_HANDLER(device_bind)
{
	struct pv_device *device = find(vcpu->machine, args[0]);

	(void)value;
	return device ? pv_device_bind(device, args[1], args[2], args[3]) : PV_STATUS_NOT_FOUND;
}

PV_HANDLER(device_notify)
{
	struct pv_device *device = find(vcpu->machine, args[0]);

	(void)value;
	return device ? pv_device_notify(device, args[1]) : PV_STATUS_NOT_FOUND;
}

void pv_doorbell(struct pv_machine *machine, uint32_t value)
{
	struct pv_device *device = find(machine, value >> 16);
	int64_t status = PV_STATUS_NOT_FOUND;

	if (value >> 16 == PV_RING_DOORBELL)
		status = pv_callring_doorbell(machine, value & 0xffff);
	else if (value >> 16 == PV_EVENT_DOORBELL)
		status = pv_event_doorbell(machine, value & 0xffff);
	else if (device)
		status = pv_device_notify(device, value & 0xffff);
	/* DEV-8: nobody to tell of it */
	if (status == PV_STATUS_NOT_FOUND || status == PV_STATUS_BAD_STATE)
		pv_record_moment(machine, PV_RECORDED_DOORBELL, UINT32_MAX, value);
}
