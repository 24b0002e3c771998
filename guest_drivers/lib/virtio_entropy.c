/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio entropy devices (virtio 5.4).
 */
#include "paravirt/virtio_entropy.h"

int64_t pv_virtio_entropy_init(struct pv_virtio_entropy *entropy, struct pv_virtio *device)
{
	int64_t status = pv_virtio_agree(device, 0, PV_VIRTIO_RING_FEATURES);
	uint16_t size = pv_virtio_queue_size(device, 0, PV_VIRTIO_ENTROPY_QUEUE);

	entropy->device = device;
	if (status >= 0)
		status = pv_virtio_queue(device, &entropy->queue, 0, size, entropy->memory);
	return status < 0 ? status : pv_virtio_start(device);
}

void pv_virtio_entropy_deinit(struct pv_virtio_entropy *entropy)
{
	pv_virtio_reset(entropy->device);
}

int64_t pv_virtio_entropy_fill(struct pv_virtio_entropy *entropy, void *data, uint32_t size_bytes)
{
	struct pv_virtq_buffer buffer = { pv_gpa(data), size_bytes, true };
	struct pv_virtq_completion done;

	while (buffer.size_bytes) {
		int64_t status = pv_virtio_do(entropy->device, &entropy->queue, 0, &buffer, 1, &done);

		if (status < 0)
			return status;
		if (!done.written_bytes)
			return PV_STATUS_FAILED; /* the device wrote nothing: it would do so for ever */
		buffer.gpa += done.written_bytes;
		buffer.size_bytes -= done.written_bytes;
	}
	return PV_STATUS_OK;
}
