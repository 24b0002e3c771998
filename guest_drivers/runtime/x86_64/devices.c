/* SPDX-License-Identifier: 0BSD
 *
 * Finding devices: by calls, and in the virtio-mmio windows that hosts name on the command line
 * (`virtio_mmio.device=512@0xfeb00e00:5`, as for Linux).  `virtio.refuse=0x400000000` there keeps drivers from
 * agreeing on these features, whatever the host offers; `virtio.wait=poll` has them look instead of sleep.
 */
#include "paravirt/block.h"
#include "paravirt/string.h"
#include "runtime.h"

#define PARAMETER "virtio_mmio.device="
#define REFUSE "virtio.refuse=0x"
#define POLL "virtio.wait=poll"
#define PROBE_SIZE 8

static void idle_forever(void)
{
	pv_idle(PV_DEADLINE_NEVER);
}

static const struct pv_virtio_waiter waiter = { pv_hold, idle_forever, pv_release };

static uint64_t hexadecimal(const char *digits)
{
	for (uint64_t number = 0;; digits++) {
		char c = *digits;

		if (c >= '0' && c <= '9')
			number = number << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			number = number << 4 | (uint64_t)(c - 'a' + 10);
		else
			return number;
	}
}

/* 0xHEX after the `@`; 0 if there is none. */
static uint64_t window_of(const char *parameter)
{
	while (*parameter && *parameter != ' ' && *parameter != '@')
		parameter++;
	return strncmp(parameter, "@0x", 3) ? 0 : hexadecimal(parameter + 3);
}

static uint64_t refused(void)
{
	const char *at = strstr(pv_guest.command_line, REFUSE);

	return at ? hexadecimal(at + strlen(REFUSE)) : 0;
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
		if (pv_virtio_mmio(&found[count], window_of(at)) < 0)
			continue;
		found[count].refused = refused();
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
	device->refused = refused();
	device->waiter = &waiter;
	device->vcpu = pv_this_cpu()->index;
	if (!strstr(pv_guest.command_line,
		    POLL)) /* else none: the last ones, far from FIRST_FREE, where programs begin */
		device->channel = PV_LIMIT_CHANNELS - 1 - device->index;
	return status;
}
