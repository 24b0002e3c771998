/* SPDX-License-Identifier: 0BSD
 *
 * Finding devices: by calls, and in the virtio-mmio windows that hosts name on the command line
 * (`virtio_mmio.device=512@0xfeb00e00:5`, as for Linux).
 */
#include "paravirt/block.h"
#include "paravirt/string.h"
#include "runtime.h"

#define PARAMETER "virtio_mmio.device="
#define PROBE_SIZE 8

static void idle_forever(void)
{
	pv_idle(PV_DEADLINE_NEVER);
}

static const struct pv_virtio_waiter waiter = { pv_hold, idle_forever, pv_release };

/* 0xHEX after the `@`; 0 if there is none. */
static uint64_t window_of(const char *parameter)
{
	uint64_t gpa = 0;

	while (*parameter && *parameter != ' ' && *parameter != '@')
		parameter++;
	if (strncmp(parameter, "@0x", 3))
		return 0;
	for (parameter += 3;; parameter++) {
		char c = *parameter;

		if (c >= '0' && c <= '9')
			gpa = gpa << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			gpa = gpa << 4 | (uint64_t)(c - 'a' + 10);
		else
			return gpa;
	}
}

/* Names do not travel over virtio-mmio; a disk can be asked for its serial number. */
static void ask_name(struct pv_virtio *device)
{
	static uint8_t memory[PV_VIRTIO_QUEUE_BYTES(PROBE_SIZE)] __attribute__((aligned(64)));
	char id[PV_BLOCK_ID_BYTES + 1];
	struct pv_block block;

	if (device->type != PV_DEVICE_TYPE_BLOCK || pv_block_init(&block, device, PROBE_SIZE, memory) < 0)
		return;
	if (pv_block_get_id(&block, id) == PV_STATUS_OK)
		memcpy(device->name, id, sizeof(id));
	pv_block_deinit(&block);
}

/* All windows are looked at once, before any is in use: asking resets the device. */
static int64_t find_window(struct pv_virtio *device, uint32_t type, const char *name)
{
	static struct pv_virtio found[PV_LIMIT_DEVICES];
	static uint32_t count;
	static bool looked;
	const char *at = pv_guest.command_line;

	while (!looked && count < PV_LIMIT_DEVICES && (at = strstr(at, PARAMETER))) {
		at += strlen(PARAMETER);
		if (pv_virtio_mmio(&found[count], window_of(at)) >= 0)
			ask_name(&found[count++]);
	}
	looked = true;
	for (uint32_t i = 0; i < count; i++)
		if (found[i].type == type && (!name || !strcmp(found[i].name, name))) {
			*device = found[i];
			return PV_STATUS_OK;
		}
	return PV_STATUS_NOT_FOUND;
}

int64_t pv_device(struct pv_virtio *device, uint32_t type, const char *name)
{
	int64_t status = PV_STATUS_NOT_FOUND;

	if (pv_guest.paravirt)
		status = pv_virtio_find(device, type, name, (uint16_t)pv_guest.boot.abi->doorbell);
	if (status < 0)
		return find_window(device, type, name);
	device->waiter = &waiter;
	device->vcpu = pv_this_cpu()->index;
	device->channel = PV_LIMIT_CHANNELS - 1 - device->index; /* far from what programs count up from FIRST_FREE */
	return status;
}
