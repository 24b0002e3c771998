/* SPDX-License-Identifier: 0BSD
 *
 * Virtio over the register window of virtio-mmio (virtio 4.2).  The interrupt line is not used: the
 * driver looks at its rings.
 */
#include "paravirt/virtio.h"

static uint32_t get(const struct pv_virtio *device, uint32_t offset)
{
	uint32_t value;

	/* One plain load: hosts decode it, and need not know the compiler's cleverer ones. */
	__asm__ volatile("movl %1, %0" : "=r"(value) : "m"(*(uint32_t *)pv_at(device->window_gpa + offset)) : "memory");
	return value;
}

static void set(const struct pv_virtio *device, uint32_t offset, uint32_t value)
{
	__asm__ volatile("movl %1, %0" : "=m"(*(uint32_t *)pv_at(device->window_gpa + offset)) : "r"(value) : "memory");
}

static void set_gpa(const struct pv_virtio *device, uint32_t low_offset, uint64_t gpa)
{
	set(device, low_offset, (uint32_t)gpa);
	set(device, low_offset + 4, (uint32_t)(gpa >> 32));
}

static uint32_t mmio_status(struct pv_virtio *device)
{
	return get(device, PV_MMIO_STATUS);
}

static void mmio_set_status(struct pv_virtio *device, uint32_t status)
{
	set(device, PV_MMIO_STATUS, status);
}

static uint64_t mmio_features(struct pv_virtio *device)
{
	set(device, PV_MMIO_DEVICE_FEATURES_SEL, 1);
	uint64_t high = get(device, PV_MMIO_DEVICE_FEATURES);
	set(device, PV_MMIO_DEVICE_FEATURES_SEL, 0);
	return high << 32 | get(device, PV_MMIO_DEVICE_FEATURES);
}

static int64_t mmio_accept(struct pv_virtio *device, uint64_t features)
{
	set(device, PV_MMIO_DRIVER_FEATURES_SEL, 1);
	set(device, PV_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	set(device, PV_MMIO_DRIVER_FEATURES_SEL, 0);
	set(device, PV_MMIO_DRIVER_FEATURES, (uint32_t)features);
	return PV_STATUS_OK;
}

static int64_t mmio_config_read(struct pv_virtio *device, uint32_t offset, void *to, uint32_t size_bytes)
{
	uint8_t *bytes = to;

	/* Byte by byte: allowed for every field, and the generation guards the whole (virtio 4.2.2.2). */
	for (uint32_t i = 0; i < size_bytes; i++)
		__asm__ volatile("movb %1, %0"
				 : "=q"(bytes[i])
				 : "m"(*(uint8_t *)pv_at(device->window_gpa + PV_MMIO_CONFIG + offset + i))
				 : "memory");
	return PV_STATUS_OK;
}

/* A field is written as a whole (virtio 4.2.2.2): by one plain store of its size. */
static int64_t mmio_config_write(struct pv_virtio *device, uint32_t offset, const void *field, uint32_t size_bytes)
{
	void *at = pv_at(device->window_gpa + PV_MMIO_CONFIG + offset);

	if (size_bytes == sizeof(uint8_t))
		__asm__ volatile("movb %1, %0" : "=m"(*(uint8_t *)at) : "q"(*(const uint8_t *)field) : "memory");
	else if (size_bytes == sizeof(uint16_t))
		__asm__ volatile("movw %1, %0" : "=m"(*(uint16_t *)at) : "r"(*(const uint16_t *)field) : "memory");
	else if (size_bytes == sizeof(uint32_t))
		__asm__ volatile("movl %1, %0" : "=m"(*(uint32_t *)at) : "r"(*(const uint32_t *)field) : "memory");
	else
		return PV_STATUS_INVALID;
	return PV_STATUS_OK;
}

static uint32_t mmio_generation(struct pv_virtio *device)
{
	return get(device, PV_MMIO_CONFIG_GENERATION);
}

static uint32_t mmio_queue_size(struct pv_virtio *device, uint16_t queue)
{
	set(device, PV_MMIO_QUEUE_SEL, queue);
	return get(device, PV_MMIO_QUEUE_SIZE_MAX);
}

static int64_t mmio_queue_setup(struct pv_virtio *device, const struct pv_queue_setup *setup)
{
	set(device, PV_MMIO_QUEUE_SEL, setup->queue);
	if (get(device, PV_MMIO_QUEUE_READY))
		return PV_STATUS_BAD_STATE;
	set(device, PV_MMIO_QUEUE_SIZE, setup->size);
	set_gpa(device, PV_MMIO_QUEUE_DESC_LOW, setup->descriptors_gpa);
	set_gpa(device, PV_MMIO_QUEUE_DRIVER_LOW, setup->driver_gpa);
	set_gpa(device, PV_MMIO_QUEUE_DEVICE_LOW, setup->device_gpa);
	set(device, PV_MMIO_QUEUE_READY, 1);
	return get(device, PV_MMIO_QUEUE_READY) == 1 ? PV_STATUS_OK : PV_STATUS_FAILED;
}

static void mmio_notify(struct pv_virtio *device, uint16_t queue)
{
	set(device, PV_MMIO_QUEUE_NOTIFY, queue);
}

static const struct pv_virtio_transport mmio = {
	.status = mmio_status,
	.set_status = mmio_set_status,
	.features = mmio_features,
	.accept = mmio_accept,
	.config_read = mmio_config_read,
	.config_write = mmio_config_write,
	.generation = mmio_generation,
	.queue_size = mmio_queue_size,
	.queue_setup = mmio_queue_setup,
	.notify = mmio_notify,
};

int64_t pv_virtio_mmio(struct pv_virtio *device, uint64_t window_gpa)
{
	*device = (struct pv_virtio){ .transport = &mmio, .window_gpa = window_gpa, .channel = PV_NO_CHANNEL };
	if (get(device, PV_MMIO_MAGIC) != PV_MMIO_MAGIC_VALUE)
		return PV_STATUS_NOT_FOUND;
	device->type = get(device, PV_MMIO_DEVICE_ID);
	if (!device->type)
		return PV_STATUS_NOT_FOUND;
	return get(device, PV_MMIO_VERSION) == 2 ? PV_STATUS_OK : PV_STATUS_NOT_SUPPORTED;
}
