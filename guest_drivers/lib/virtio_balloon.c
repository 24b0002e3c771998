/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio balloon devices (virtio 5.5).
 */
#include "paravirt/virtio_balloon.h"

/* A list of numbers of pages, and back when the device has done with it. */
static int64_t send(struct pv_virtio_balloon *balloon, bool in, uint32_t count)
{
	uint16_t index = in ? 0 : 1;
	struct pv_virtq_buffer buffer = { pv_gpa(balloon->pages), count * (uint32_t)sizeof(uint32_t), false };
	struct pv_virtq_completion done;
	int64_t status = pv_virtio_do(balloon->device, &balloon->queues[index], index, &buffer, 1, &done);

	if (status < 0)
		return status;
	balloon->actual_pages += in ? count : -count;
	return pv_virtio_config_write(balloon->device, offsetof(struct pv_balloon_config, actual_pages),
				      &balloon->actual_pages, sizeof(balloon->actual_pages));
}

static int64_t move(struct pv_balloon_host *host, bool in, const struct pv_memory_range *ranges, uint32_t count)
{
	struct pv_virtio_balloon *balloon = (struct pv_virtio_balloon *)host; /* its first member */
	int64_t status = PV_STATUS_OK;
	uint32_t pages = 0;

	for (uint32_t i = 0; i < count && status == PV_STATUS_OK; i++)
		for (uint64_t at = 0; at < ranges[i].size_bytes && status == PV_STATUS_OK;
		     at += PV_BALLOON_PAGE_BYTES) {
			balloon->pages[pages++] = (uint32_t)((ranges[i].gpa + at) / PV_BALLOON_PAGE_BYTES);
			if (pages == PV_BALLOON_LEAF_PAGES) {
				status = send(balloon, in, pages);
				pages = 0;
			}
		}
	return status == PV_STATUS_OK && pages ? send(balloon, in, pages) : status;
}

int64_t pv_virtio_balloon_init(struct pv_virtio_balloon *balloon, struct pv_virtio *device)
{
	int64_t status = pv_virtio_agree(device, 0, PV_VIRTIO_RING_FEATURES | PV_BALLOON_F_MUST_TELL_HOST);

	balloon->host.move = move;
	balloon->device = device;
	balloon->actual_pages = 0;
	for (uint16_t i = 0; i < 2 && status >= 0; i++) {
		uint16_t size = pv_virtio_queue_size(device, i, PV_VIRTIO_BALLOON_QUEUE);

		status = pv_virtio_queue(device, &balloon->queues[i], i, size, balloon->memory[i]);
	}
	return status < 0 ? status : pv_virtio_start(device);
}

void pv_virtio_balloon_deinit(struct pv_virtio_balloon *balloon)
{
	pv_virtio_reset(balloon->device);
}

uint64_t pv_virtio_balloon_target(struct pv_virtio_balloon *balloon)
{
	struct pv_balloon_config config = { 0 };

	/* A device that does not tell wants nothing. */
	pv_virtio_config(balloon->device, &config, sizeof(config));
	return (uint64_t)config.wanted_pages * PV_BALLOON_PAGE_BYTES;
}
