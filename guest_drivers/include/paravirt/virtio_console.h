/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio consoles with one port.  For text before this is set up there is console.h.
 */
#ifndef PARAVIRT_VIRTIO_CONSOLE_H
#define PARAVIRT_VIRTIO_CONSOLE_H

#include "paravirt/virtio.h"

#define PV_VIRTIO_CONSOLE_QUEUE 8
#define PV_VIRTIO_CONSOLE_INPUT_BYTES 256

struct pv_virtio_console {
	struct pv_virtio *device;
	struct pv_virtq receive;
	struct pv_virtq transmit;
	uint32_t waiting_at; /* input taken from the device and not read yet */
	uint32_t waiting_bytes;
	char input[PV_VIRTIO_CONSOLE_INPUT_BYTES];
	uint8_t receive_memory[PV_VIRTIO_QUEUE_BYTES(PV_VIRTIO_CONSOLE_QUEUE)] __attribute__((aligned(64)));
	uint8_t transmit_memory[PV_VIRTIO_QUEUE_BYTES(PV_VIRTIO_CONSOLE_QUEUE)] __attribute__((aligned(64)));
};

/* Takes the device into use. The struct stays where it is: the device knows parts of it. */
int64_t pv_virtio_console_init(struct pv_virtio_console *console, struct pv_virtio *device);
void pv_virtio_console_deinit(struct pv_virtio_console *console);
/* Writes all and waits until the device has it. OK or FAILED. */
int64_t pv_virtio_console_write(struct pv_virtio_console *console, const void *data, uint32_t size_bytes);
/* Takes waiting input without waiting for more: the number of bytes, or a negative status. */
int64_t pv_virtio_console_read(struct pv_virtio_console *console, void *data, uint32_t room_bytes);

#endif
