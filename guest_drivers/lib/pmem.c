/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio persistent memory.
 */
#include "paravirt/pmem.h"
#include "paravirt/string.h"

#define SECTOR_BYTES 512u
#define PAGE_BYTES 4096u
#define LINE_BYTES 64u /* of a cache; where they are longer, some are asked for twice */
#define REGION_ALIGNMENT 0x200000u

static bool sane(const struct pv_pmem_config *config)
{
	return config->start_gpa % REGION_ALIGNMENT == 0 && config->size_bytes &&
	       config->size_bytes % PAGE_BYTES == 0 && config->size_bytes <= UINT64_MAX - config->start_gpa;
}

int64_t pv_pmem_init(struct pv_pmem *pmem, struct pv_virtio *device)
{
	struct pv_pmem_config config;
	int64_t status = pv_virtio_agree(device, 0, PV_VIRTIO_RING_FEATURES);

	pmem->device = device;
	pmem->in_flight = false;
	if (status >= 0)
		status = pv_virtio_config(device, &config, sizeof(config));
	if (status >= 0 && !sane(&config))
		status = PV_STATUS_INVALID;
	if (status < 0)
		return status;
	pmem->data = pv_at(config.start_gpa);
	pmem->size_bytes = config.size_bytes;
	pmem->read_only = device->flags & PV_DEVICE_FLAG_READ_ONLY;
	uint16_t size = pv_virtio_queue_size(device, 0, PV_PMEM_QUEUE);
	if (size < 2)
		return PV_STATUS_NOT_SUPPORTED;
	status = pv_virtio_queue(device, &pmem->queue, 0, size, pmem->memory);
	return status < 0 ? status : pv_virtio_start(device);
}

void pv_pmem_deinit(struct pv_pmem *pmem)
{
	pv_virtio_reset(pmem->device);
	pmem->in_flight = false;
}

int64_t pv_pmem_submit(struct pv_pmem *pmem)
{
	const struct pv_virtq_buffer buffers[] = {
		{ pv_gpa(&pmem->request), sizeof(pmem->request), false },
		{ pv_gpa(&pmem->response), sizeof(pmem->response), true },
	};

	if (pmem->in_flight)
		return PV_STATUS_BAD_STATE;
	pmem->request.type = PV_PMEM_TYPE_FLUSH;
	pmem->response.result = PV_PMEM_RESULT_FAILED;
	/* Stores to the region come before the ring's: the publication is a release. */
	int64_t status = pv_virtq_add(&pmem->queue, buffers, 2, 0);
	if (status < 0)
		return status;
	pmem->in_flight = true;
	pv_virtio_publish(pmem->device, &pmem->queue, 0);
	return PV_STATUS_OK;
}

static int64_t result_of(const struct pv_pmem *pmem, const struct pv_virtq_completion *done)
{
	bool answered = done->written_bytes >= sizeof(pmem->response);

	return answered && __atomic_load_n(&pmem->response.result, __ATOMIC_RELAXED) == PV_PMEM_RESULT_OK
		       ? PV_STATUS_OK
		       : PV_STATUS_IO;
}

int64_t pv_pmem_get(struct pv_pmem *pmem)
{
	struct pv_virtq_completion done;

	if (!pmem->in_flight)
		return PV_STATUS_BAD_STATE;
	int taken = pv_virtq_get(&pmem->queue, &done);
	if (!taken)
		return PV_STATUS_NOT_FOUND;
	pmem->in_flight = false;
	return taken < 0 ? PV_STATUS_FAILED : result_of(pmem, &done);
}

int64_t pv_pmem_wait(struct pv_pmem *pmem)
{
	struct pv_virtq_completion done;

	if (!pmem->in_flight)
		return PV_STATUS_BAD_STATE;
	int64_t status = pv_virtio_wait(pmem->device, &pmem->queue, &done);
	pmem->in_flight = false;
	return status < 0 ? status : result_of(pmem, &done);
}

int64_t pv_pmem_flush(struct pv_pmem *pmem)
{
	int64_t status = pv_pmem_submit(pmem);

	return status < 0 ? status : pv_pmem_wait(pmem);
}

static bool in_range(const struct pv_pmem *pmem, uint64_t sector, uint32_t size_bytes)
{
	uint64_t sectors = pmem->size_bytes / SECTOR_BYTES, wanted = size_bytes / SECTOR_BYTES;

	return size_bytes % SECTOR_BYTES == 0 && wanted && sector <= sectors && wanted <= sectors - sector;
}

int64_t pv_pmem_read(const struct pv_pmem *pmem, uint64_t sector, void *data, uint32_t size_bytes)
{
	if (!in_range(pmem, sector, size_bytes))
		return PV_STATUS_INVALID;
	memcpy(data, pmem->data + sector * SECTOR_BYTES, size_bytes);
	return PV_STATUS_OK;
}

void pv_pmem_prefetch(const struct pv_pmem *pmem, uint64_t sector, uint32_t size_bytes)
{
	if (!in_range(pmem, sector, size_bytes))
		return;
	/* Into the second level: few lines at a time can be on their way to the first. */
	for (uint32_t at = 0; at < size_bytes; at += LINE_BYTES)
		__builtin_prefetch(pmem->data + sector * SECTOR_BYTES + at, 0, 2);
}

int64_t pv_pmem_write(struct pv_pmem *pmem, uint64_t sector, const void *data, uint32_t size_bytes)
{
	if (pmem->read_only || !in_range(pmem, sector, size_bytes))
		return PV_STATUS_INVALID;
	memcpy(pmem->data + sector * SECTOR_BYTES, data, size_bytes);
	return PV_STATUS_OK;
}
