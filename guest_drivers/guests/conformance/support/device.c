/* SPDX-License-Identifier: 0BSD
 *
 * Finding a device, and a ring that is written by hand.
 */
#include "device.h"
#include "paravirt/string.h"

#define PARAMETER "virtio_mmio.device="
#define PATIENCE_NS (2 * CF_SECOND)

struct cf_ring cf_ring __attribute__((aligned(4096)));
struct pv_virtq_desc cf_table[16] __attribute__((aligned(16)));
struct pv_block_header cf_header;
uint8_t cf_data[CF_DATA_BYTES], cf_status;

/* The hexadecimal number after the next `@0x`; 0 if there is none. */
static uint64_t address_in(const char *parameter)
{
	const char *at = strstr(parameter, "@0x");
	uint64_t gpa = 0;

	for (at = at ? at + 3 : ""; *at; at++) {
		if (*at >= '0' && *at <= '9')
			gpa = gpa << 4 | (uint64_t)(*at - '0');
		else if (*at >= 'a' && *at <= 'f')
			gpa = gpa << 4 | (uint64_t)(*at - 'a' + 10);
		else
			break;
	}
	return gpa;
}

bool cf_window(struct pv_virtio *device, uint32_t number)
{
	const char *at = cf_boot.command_line ? cf_boot.command_line : "";

	while ((at = strstr(at, PARAMETER))) {
		at += sizeof(PARAMETER) - 1;
		if (!number--)
			return pv_virtio_mmio(device, address_in(at)) >= 0;
	}
	return false;
}

bool cf_device(struct pv_virtio *device, uint32_t type, const char *name)
{
	if (cf_offered(PV_SERVICE_DEVICE) &&
	    pv_virtio_find(device, type, name, (uint16_t)cf_boot.abi->doorbell) == PV_STATUS_OK)
		return true;
	for (uint32_t number = 0; number < PV_LIMIT_DEVICES; number++)
		if (cf_window(device, number) && device->type == type)
			return true;
	return false;
}

bool cf_each_device(struct pv_virtio *device, uint32_t number)
{
	static struct pv_device_info list[PV_LIMIT_DEVICES];
	uint64_t count = 0;

	if (cf_offered(PV_SERVICE_DEVICE)) {
		struct pv_answer answer = pv_call2(PV_CALL_DEVICE_LIST, pv_gpa(list), sizeof(list));

		if (answer.status >= 0) /* CALL-10: the value means nothing otherwise */
			count = answer.value / sizeof(list[0]);
		if (count > PV_LIMIT_DEVICES)
			count = PV_LIMIT_DEVICES;
	}
	if (number >= count)
		return cf_window(device, number - (uint32_t)count);
	char name[sizeof(list[0].name) + 1] = { 0 };
	memcpy(name, list[number].name, sizeof(list[0].name));
	return pv_virtio_find(device, list[number].type, name, (uint16_t)cf_boot.abi->doorbell) == PV_STATUS_OK;
}

struct pv_queue_setup cf_queue_setup(void)
{
	return (struct pv_queue_setup){
		.size = CF_QUEUE_SIZE,
		.channel = PV_NO_CHANNEL,
		.descriptors_gpa = pv_gpa(cf_ring.descriptors),
		.driver_gpa = pv_gpa(&cf_ring.avail),
		.device_gpa = pv_gpa(&cf_ring.used),
	};
}

bool cf_up(struct pv_virtio *device, uint64_t features, const struct pv_queue_setup *setup)
{
	cf_down(device); /* it may still be writing to the ring */
	memset(&cf_ring, 0, sizeof(cf_ring));
	memset(cf_data, 0xee, sizeof(cf_data));
	cf_status = 0xff;
	return pv_virtio_agree(device, 0, features) >= 0 && device->transport->queue_setup(device, setup) >= 0 &&
	       pv_virtio_start(device) >= 0;
}

void cf_good_chain(const struct pv_virtio *device, struct pv_virtq_desc *at)
{
	if (device->type == PV_DEVICE_TYPE_BLOCK) {
		cf_header = (struct pv_block_header){ .type = PV_BLOCK_REQUEST_READ };
		at[0] = (struct pv_virtq_desc){ pv_gpa(&cf_header), sizeof(cf_header), CF_NEXT, 1 };
		at[1] = (struct pv_virtq_desc){ pv_gpa(cf_data), sizeof(cf_data), CF_NEXT | CF_WRITE, 2 };
		at[2] = (struct pv_virtq_desc){ pv_gpa(&cf_status), 1, CF_WRITE, 0 };
	} else {
		at[0] = (struct pv_virtq_desc){ pv_gpa(cf_data), 100, CF_NEXT | CF_WRITE, 1 };
		at[1] = (struct pv_virtq_desc){ pv_gpa(cf_data) + 100, 100, CF_NEXT | CF_WRITE, 2 };
		at[2] = (struct pv_virtq_desc){ pv_gpa(cf_data) + 200, 100, CF_WRITE, 0 };
	}
}

void cf_publish(struct pv_virtio *device, uint16_t index)
{
	CF_STORE(cf_ring.avail.index, index);
	device->transport->notify(device, 0);
}

bool cf_used(uint16_t index)
{
	uint64_t end_ns = cf_now_ns() + PATIENCE_NS;

	while (CF_LOAD(cf_ring.used.index) != index)
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}

bool cf_works(struct pv_virtio *device, uint64_t features)
{
	struct pv_queue_setup setup = cf_queue_setup();

	if (!cf_up(device, features, &setup))
		return false;
	cf_good_chain(device, cf_ring.descriptors);
	cf_publish(device, 1);
	if (!cf_used(1) || cf_ring.entries[0].id)
		return false;
	uint32_t written = cf_ring.entries[0].written_bytes;
	if (device->type == PV_DEVICE_TYPE_BLOCK)
		return written == CF_DATA_BYTES + 1 && cf_status == PV_BLOCK_STATUS_OK;
	return written > 0 && written <= 300;
}

bool cf_gives_up(struct pv_virtio *device)
{
	uint64_t end_ns = cf_now_ns() + PATIENCE_NS;

	while (!(device->transport->status(device) & PV_VIRTIO_STATUS_NEEDS_RESET))
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}

void cf_down(struct pv_virtio *device)
{
	device->transport->set_status(device, 0);
}

bool cf_called_device(struct pv_virtio *device, struct pv_device_info *info)
{
	static struct pv_device_info list[PV_LIMIT_DEVICES];
	const uint16_t doorbell = (uint16_t)cf_boot.abi->doorbell;

	if (!cf_offered(PV_SERVICE_DEVICE) || (pv_virtio_find(device, PV_DEVICE_TYPE_BLOCK, "scratch", doorbell) < 0 &&
					       pv_virtio_find(device, PV_DEVICE_TYPE_ENTROPY, NULL, doorbell) < 0))
		return false;
	uint64_t count = pv_call2(PV_CALL_DEVICE_LIST, pv_gpa(list), sizeof(list)).value / sizeof(list[0]);
	for (uint64_t i = 0; i < count; i++)
		if (list[i].device == device->index)
			*info = list[i];
	return true;
}
