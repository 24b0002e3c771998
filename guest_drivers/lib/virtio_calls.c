/* SPDX-License-Identifier: 0BSD
 *
 * Virtio over calls: each step of a device's life is a call of service device, new buffers are told
 * by a write to the doorbell port.
 */
#include "paravirt/string.h"
#include "paravirt/virtio.h"

/* A read that fails says nothing is there. */
static uint64_t value_or_zero(struct pv_answer answer)
{
	return answer.status < 0 ? 0 : answer.value;
}

static uint32_t calls_status(struct pv_virtio *device)
{
	return (uint32_t)value_or_zero(pv_call1(PV_CALL_DEVICE_STATUS, device->index));
}

static void calls_set_status(struct pv_virtio *device, uint32_t status)
{
	pv_call2(PV_CALL_DEVICE_SET_STATUS, device->index, status);
}

static uint64_t calls_features(struct pv_virtio *device)
{
	return value_or_zero(pv_call2(PV_CALL_DEVICE_FEATURES, device->index, 0));
}

static int64_t calls_accept(struct pv_virtio *device, uint64_t features)
{
	return pv_call3(PV_CALL_DEVICE_ACCEPT, device->index, 0, features).status;
}

static int64_t calls_config_read(struct pv_virtio *device, uint32_t offset, void *to, uint32_t size_bytes)
{
	return pv_call4(PV_CALL_DEVICE_CONFIG_READ, device->index, offset, pv_gpa(to), size_bytes).status;
}

static int64_t calls_config_write(struct pv_virtio *device, uint32_t offset, const void *field, uint32_t size_bytes)
{
	return pv_call4(PV_CALL_DEVICE_CONFIG_WRITE, device->index, offset, pv_gpa(field), size_bytes).status;
}

static uint32_t calls_generation(struct pv_virtio *device)
{
	return (uint32_t)value_or_zero(pv_call1(PV_CALL_DEVICE_GENERATION, device->index));
}

static uint32_t calls_queue_size(struct pv_virtio *device, uint16_t queue)
{
	return (uint32_t)value_or_zero(pv_call2(PV_CALL_DEVICE_QUEUE_SIZE, device->index, queue));
}

static int64_t calls_queue_setup(struct pv_virtio *device, const struct pv_queue_setup *setup)
{
	return pv_call2(PV_CALL_DEVICE_QUEUE_SETUP, device->index, pv_gpa(setup)).status;
}

static int64_t calls_bind_config(struct pv_virtio *device)
{
	return pv_call4(PV_CALL_DEVICE_BIND, device->index, PV_BINDING_CONFIG, device->vcpu, device->channel).status;
}

static void calls_notify(struct pv_virtio *device, uint16_t queue)
{
	pv_out32(device->doorbell, device->index << 16 | queue); /* DEV-8 */
}

static const struct pv_virtio_transport calls = {
	.status = calls_status,
	.set_status = calls_set_status,
	.features = calls_features,
	.accept = calls_accept,
	.config_read = calls_config_read,
	.config_write = calls_config_write,
	.generation = calls_generation,
	.queue_size = calls_queue_size,
	.queue_setup = calls_queue_setup,
	.bind_config = calls_bind_config,
	.notify = calls_notify,
};

int64_t pv_virtio_find(struct pv_virtio *device, uint32_t type, const char *name, uint16_t doorbell_port)
{
	struct pv_device_info list[PV_LIMIT_DEVICES] = { 0 };
	struct pv_answer answer = pv_call2(PV_CALL_DEVICE_LIST, pv_gpa(list), sizeof(list));

	if (answer.status < 0)
		return answer.status;
	for (uint32_t i = 0; i < answer.value / sizeof(list[0]) && i < PV_LIMIT_DEVICES; i++) {
		const struct pv_device_info *info = &list[i];

		if (info->type != type || (name && strncmp(info->name, name, sizeof(info->name))))
			continue;
		*device = (struct pv_virtio){
			.transport = &calls,
			.type = type,
			.index = info->device,
			.channel = PV_NO_CHANNEL,
			.doorbell = doorbell_port,
			.flags = info->flags,
		};
		memcpy(device->name, info->name, sizeof(info->name));
		return PV_STATUS_OK;
	}
	return PV_STATUS_NOT_FOUND;
}
