/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio consoles with one port (virtio 5.3): queue 0 receives, queue 1 transmits.
 */
#include "paravirt/virtio_console.h"
#include "paravirt/string.h"

#define RECEIVE 0
#define TRANSMIT 1

/* One buffer at a time: the next input arrives when this one was read. */
static int64_t offer_input(struct pv_virtio_console *console)
{
	struct pv_virtq_buffer buffer = { pv_gpa(console->input), sizeof(console->input), true };
	int64_t status = pv_virtq_add(&console->receive, &buffer, 1, 0);

	console->waiting_bytes = 0;
	if (status >= 0)
		pv_virtio_publish(console->device, &console->receive, RECEIVE);
	return status;
}

int64_t pv_virtio_console_init(struct pv_virtio_console *console, struct pv_virtio *device)
{
	int64_t status = pv_virtio_agree(device, 0, PV_VIRTIO_RING_FEATURES);
	uint16_t receive = pv_virtio_queue_size(device, RECEIVE, PV_VIRTIO_CONSOLE_QUEUE);
	uint16_t transmit = pv_virtio_queue_size(device, TRANSMIT, PV_VIRTIO_CONSOLE_QUEUE);

	if (status < 0)
		return status;
	console->device = device;
	status = pv_virtio_queue(device, &console->receive, RECEIVE, receive, console->receive_memory);
	if (status >= 0)
		status = pv_virtio_queue(device, &console->transmit, TRANSMIT, transmit, console->transmit_memory);
	if (status >= 0)
		status = pv_virtio_start(device);
	return status < 0 ? status : offer_input(console);
}

void pv_virtio_console_deinit(struct pv_virtio_console *console)
{
	pv_virtio_reset(console->device);
}

int64_t pv_virtio_console_write(struct pv_virtio_console *console, const void *data, uint32_t size_bytes)
{
	struct pv_virtq_buffer buffer = { pv_gpa(data), size_bytes, false };
	struct pv_virtq_completion done;

	if (!size_bytes)
		return PV_STATUS_OK;
	return pv_virtio_do(console->device, &console->transmit, TRANSMIT, &buffer, 1, &done);
}

int64_t pv_virtio_console_read(struct pv_virtio_console *console, void *data, uint32_t room_bytes)
{
	struct pv_virtq_completion done;

	if (!console->waiting_bytes) {
		int taken = pv_virtq_get(&console->receive, &done);

		if (taken <= 0)
			return taken;
		console->waiting_at = 0;
		console->waiting_bytes = done.written_bytes; /* at most the room given: pv_virtq_get checks */
	}
	uint32_t part = console->waiting_bytes < room_bytes ? console->waiting_bytes : room_bytes;
	memcpy(data, console->input + console->waiting_at, part);
	console->waiting_at += part;
	console->waiting_bytes -= part;
	int64_t status = console->waiting_bytes ? PV_STATUS_OK : offer_input(console);
	return status < 0 ? status : part;
}
