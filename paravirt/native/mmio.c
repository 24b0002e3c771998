// SPDX-License-Identifier: BSD-2-Clause
/*
 * The transport of virtio devices by registers: a virtio-mmio window, version 2 (virtio 4.2).
 * Translates between registers and the status machine (status.c); which exits come here is left to the
 * surroundings.
 *
 * Registers answer no status, so a step that is refused has no effect, and the driver reads that.
 */
#include "device.h"

#define VENDOR 0x52415650u /* "PVAR" */
/* A register pair that tells of shared memory regions: all ones, there are none (virtio 4.2.2). */
#define SHM_LENGTH_LOW 0xb0
#define SHM_BASE_HIGH 0xbc

/* The queue that QUEUE_SEL names, or NULL. */
static struct pv_queue *selected(struct pv_device *device)
{
	return queue_of(device, device->state.queue_selector);
}

static uint64_t *area_of(struct pv_queue_state *queue, uint32_t offset)
{
	switch (offset) {
	case PV_MMIO_QUEUE_DESC_LOW:
	case PV_MMIO_QUEUE_DESC_HIGH:
		return &queue->descriptors_gpa;
	case PV_MMIO_QUEUE_DRIVER_LOW:
	case PV_MMIO_QUEUE_DRIVER_HIGH:
		return &queue->driver_gpa;
	case PV_MMIO_QUEUE_DEVICE_LOW:
	case PV_MMIO_QUEUE_DEVICE_HIGH:
		return &queue->device_gpa;
	default:
		return NULL;
	}
}

static uint64_t with_half(uint64_t word, bool high, uint32_t half)
{
	return high ? (word & UINT32_MAX) | (uint64_t)half << 32 : (word & ~(uint64_t)UINT32_MAX) | half;
}

static uint32_t features_read(const struct pv_device *device)
{
	uint32_t block = device->state.device_block;

	return block < 4 ? (uint32_t)(device->offered[block / 2] >> 32 * (block % 2)) : 0;
}

static void features_write(struct pv_device *device, uint32_t value)
{
	uint32_t block = device->state.driver_block;

	if (block < 4)
		pv_device_accept(device, block / 2, with_half(device->state.accepted[block / 2], block % 2, value));
}

static uint32_t config_read(struct pv_device *device, uint32_t offset, uint32_t size_bytes)
{
	uint32_t value = 0;

	if (size_bytes != 1 && size_bytes != 2 && size_bytes != 4)
		return 0;
	pv_device_config_read(device, offset, &value, size_bytes);
	return value;
}

static void config_write(struct pv_device *device, uint32_t offset, uint32_t size_bytes, uint32_t value)
{
	if (size_bytes == 1 || size_bytes == 2 || size_bytes == 4)
		pv_device_config_write(device, offset, &value, size_bytes);
}

static uint32_t register_read(struct pv_device *device, uint32_t offset)
{
	const struct pv_queue *queue = selected(device);

	switch (offset) {
	case PV_MMIO_MAGIC:
		return PV_MMIO_MAGIC_VALUE;
	case PV_MMIO_VERSION:
		return 2;
	case PV_MMIO_DEVICE_ID:
		return device->type;
	case PV_MMIO_VENDOR_ID:
		return VENDOR;
	case PV_MMIO_DEVICE_FEATURES:
		return features_read(device);
	case PV_MMIO_QUEUE_SIZE_MAX:
		return queue ? queue->maximum : 0;
	case PV_MMIO_QUEUE_READY:
		return queue ? queue->state->enabled : 0;
	case PV_MMIO_INTERRUPT_STATUS:
		return __atomic_load_n(&device->state.interrupt_status, __ATOMIC_SEQ_CST);
	case PV_MMIO_STATUS:
		return status_of(device);
	case PV_MMIO_CONFIG_GENERATION:
		return __atomic_load_n(&device->state.generation, __ATOMIC_SEQ_CST);
	default:
		return offset >= SHM_LENGTH_LOW && offset <= SHM_BASE_HIGH ? UINT32_MAX : 0;
	}
}

static void queue_ready(struct pv_device *device, struct pv_queue *queue, uint32_t value)
{
	const struct pv_queue_state *s = queue->state;
	struct pv_queue_setup setup = {
		.queue = queue->index,
		.size = s->size,
		.channel = PV_NO_CHANNEL,
		.descriptors_gpa = s->descriptors_gpa,
		.driver_gpa = s->driver_gpa,
		.device_gpa = s->device_gpa,
	};

	if (value == 1)
		pv_device_queue_setup(device, &setup);
	else if (value == 0 && !device->active) /* of an active device: by reset only (virtio 4.2.2.2) */
		pv_queue_disable(queue);
}

/* Size and areas wait in the queue's state; while it is enabled they are the ring's and stay. */
static void queue_write(struct pv_device *device, uint32_t offset, uint32_t value)
{
	struct pv_queue *queue = selected(device);
	uint64_t *area;

	if (!queue)
		return;
	if (offset == PV_MMIO_QUEUE_READY) {
		queue_ready(device, queue, value);
	} else if (queue->state->enabled) {
		return;
	} else if (offset == PV_MMIO_QUEUE_SIZE) {
		queue->state->size = value <= PV_MAX_QUEUE_SIZE ? (uint16_t)value : 0; /* 0 cannot be enabled */
	} else if ((area = area_of(queue->state, offset)) != NULL) {
		*area = with_half(*area, offset & 4, value);
	}
}

static void register_write(struct pv_device *device, uint32_t offset, uint32_t value)
{
	struct pv_device_state *s = &device->state;
	uint64_t after;

	switch (offset) {
	case PV_MMIO_DEVICE_FEATURES_SEL:
		s->device_block = value;
		break;
	case PV_MMIO_DRIVER_FEATURES_SEL:
		s->driver_block = value;
		break;
	case PV_MMIO_DRIVER_FEATURES:
		features_write(device, value);
		break;
	case PV_MMIO_QUEUE_SEL:
		s->queue_selector = value;
		break;
	case PV_MMIO_QUEUE_NOTIFY:
		pv_device_notify(device, value);
		break;
	case PV_MMIO_INTERRUPT_ACK:
		__atomic_fetch_and(&s->interrupt_status, ~value, __ATOMIC_SEQ_CST);
		break;
	case PV_MMIO_STATUS:
		pv_device_set_status(device, value, &after);
		break;
	case PV_MMIO_QUEUE_RESET: /* over when the write is: it reads as zero (virtio 4.2.2.1) */
		if (value == 1)
			pv_device_queue_reset(device, s->queue_selector);
		break;
	default:
		queue_write(device, offset, value);
	}
}

struct pv_device *pv_mmio_window(const struct pv_machine *machine, uint64_t gpa, uint32_t *offset)
{
	for (uint32_t i = 0; i < machine->device_count; i++) {
		struct pv_device *device = machine->devices[i];

		if (device->mmio && gpa - device->mmio_gpa < PV_MMIO_WINDOW_BYTES) {
			*offset = (uint32_t)(gpa - device->mmio_gpa);
			return device;
		}
	}
	return NULL;
}

uint64_t pv_mmio_read(struct pv_device *device, uint32_t offset, uint32_t size_bytes)
{
	uint64_t value = 0;

	pthread_mutex_lock(&device->lock);
	if (offset >= PV_MMIO_CONFIG)
		value = config_read(device, offset - PV_MMIO_CONFIG, size_bytes);
	else if (size_bytes == 4)
		value = register_read(device, offset);
	pthread_mutex_unlock(&device->lock);
	return value;
}

void pv_mmio_write(struct pv_device *device, uint32_t offset, uint32_t size_bytes, uint64_t value)
{
	pthread_mutex_lock(&device->lock);
	if (offset >= PV_MMIO_CONFIG)
		config_write(device, offset - PV_MMIO_CONFIG, size_bytes, (uint32_t)value);
	else if (size_bytes == 4)
		register_write(device, offset, (uint32_t)value);
	pthread_mutex_unlock(&device->lock);
}
