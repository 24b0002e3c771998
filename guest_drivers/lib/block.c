/* SPDX-License-Identifier: 0BSD
 *
 * Driver of virtio block devices.
 */
#include "paravirt/block.h"
#include "paravirt/string.h"

#define WANTED                                                                                                     \
	(PV_VIRTIO_RING_FEATURES | PV_BLOCK_F_RO | PV_BLOCK_F_FLUSH | PV_BLOCK_F_CONFIG_WCE | PV_BLOCK_F_DISCARD | \
	 PV_BLOCK_F_WRITE_ZEROES)
#define BUFFERS 3 /* of a request: header, data, status */
#define NO_STATUS 0xff

/* Fields behind those that every device has are read only where a feature says that they are there. */
static uint32_t config_bytes(uint64_t features)
{
	if (features & (PV_BLOCK_F_DISCARD | PV_BLOCK_F_WRITE_ZEROES))
		return offsetof(struct pv_block_config, write_zeroes_may_unmap);
	if (features & PV_BLOCK_F_MQ)
		return offsetof(struct pv_block_config, max_discard_sectors);
	return sizeof(uint64_t);
}

static int64_t init_queue(struct pv_block *block, uint16_t size, void *memory)
{
	size = pv_virtio_queue_size(block->device, block->index, size);
	if (size < BUFFERS)
		return PV_STATUS_NOT_SUPPORTED;
	int64_t status = pv_virtio_queue(block->device, &block->queue, block->index, size, memory);
	if (status >= 0)
		block->depth = block->queue.memory.indirect ? size : size / BUFFERS;
	return status;
}

static void describe(struct pv_block *block, struct pv_virtio *device, const struct pv_block_config *config)
{
	uint64_t features = device->features;

	*block = (struct pv_block){
		.device = device,
		.capacity_sectors = config->capacity_sectors,
		.max_discard_sectors = features & PV_BLOCK_F_DISCARD ? config->max_discard_sectors : 0,
		.max_write_zeroes_sectors = features & PV_BLOCK_F_WRITE_ZEROES ? config->max_write_zeroes_sectors : 0,
		.read_only = features & PV_BLOCK_F_RO,
		.has_flush = features & PV_BLOCK_F_FLUSH,
	};
}

int64_t pv_block_init_queues(struct pv_block *blocks, uint16_t count, struct pv_virtio *device, uint16_t size,
			     void *memory)
{
	struct pv_block_config config;
	int64_t status = pv_virtio_agree(device, 0, WANTED | (count > 1 ? PV_BLOCK_F_MQ : 0));

	if (status < 0)
		return status;
	memset(&config, 0, sizeof(config));
	status = pv_virtio_config(device, &config, config_bytes(device->features));
	if (status < 0)
		return status;
	uint16_t most = device->features & PV_BLOCK_F_MQ ? config.queues : 1;
	count = count < most ? count : most;
	/* The first one last: a device that gives up tells whoever set up the last one, and that is its vCPU then. */
	for (uint16_t i = count; i-- > 0;) {
		describe(&blocks[i], device, &config);
		blocks[i].index = i;
		if (i) {
			blocks[i].own = *device;
			blocks[i].own.vcpu += i;
			blocks[i].device = &blocks[i].own;
		}
		status = init_queue(&blocks[i], size, (uint8_t *)memory + i * PV_BLOCK_QUEUE_STRIDE(size));
		if (status < 0)
			return status;
	}
	status = count ? pv_virtio_start(device) : PV_STATUS_NOT_SUPPORTED;
	return status < 0 ? status : count;
}

int64_t pv_block_init(struct pv_block *block, struct pv_virtio *device, uint16_t size, void *memory)
{
	int64_t queues = pv_block_init_queues(block, 1, device, size, memory);

	return queues < 0 ? queues : PV_STATUS_OK;
}

int64_t pv_block_refresh(struct pv_block *block)
{
	struct pv_block_config config = { 0 };
	int64_t status = pv_virtio_config(block->device, &config, sizeof(config.capacity_sectors));

	if (status >= 0)
		block->capacity_sectors = config.capacity_sectors;
	return status;
}

int64_t pv_block_get_writeback(struct pv_block *block)
{
	uint64_t features = block->device->features;
	struct pv_block_config config = { 0 };

	if (!(features & PV_BLOCK_F_CONFIG_WCE)) /* virtio 5.2.5.2 */
		return !!(features & PV_BLOCK_F_FLUSH);
	int64_t status = pv_virtio_config(block->device, &config, offsetof(struct pv_block_config, queues));
	return status < 0 ? status : !!config.writeback;
}

int64_t pv_block_set_writeback(struct pv_block *block, bool writeback)
{
	const uint8_t wanted = writeback;

	if (!(block->device->features & PV_BLOCK_F_CONFIG_WCE))
		return PV_STATUS_NOT_SUPPORTED;
	int64_t status = pv_virtio_config_write(block->device, offsetof(struct pv_block_config, writeback), &wanted,
						sizeof(wanted));
	/* Over virtio-mmio a write says nothing. */
	if (status >= 0)
		status = pv_block_get_writeback(block);
	if (status < 0)
		return status;
	return status == wanted ? PV_STATUS_OK : PV_STATUS_FAILED;
}

void pv_block_deinit(struct pv_block *block)
{
	pv_virtio_reset(block->device);
	block->in_flight = 0;
}

static bool in_range(const struct pv_block *block, const struct pv_block_request *request)
{
	uint64_t sectors = request->size_bytes / PV_SECTOR_BYTES;

	return request->size_bytes % PV_SECTOR_BYTES == 0 && sectors && request->sector <= block->capacity_sectors &&
	       sectors <= block->capacity_sectors - request->sector;
}

/* The middle buffer of the request, if it has one (size 0: none), and whether the disk can do it. */
static int64_t data_buffer(const struct pv_block *block, struct pv_block_request *request,
			   struct pv_virtq_buffer *buffer)
{
	uint32_t most = 0;

	*buffer = (struct pv_virtq_buffer){ pv_gpa(request->data), request->size_bytes, false };
	switch (request->type) {
	case PV_BLOCK_REQUEST_READ:
		buffer->write = true;
		return in_range(block, request) ? PV_STATUS_OK : PV_STATUS_INVALID;
	case PV_BLOCK_REQUEST_WRITE:
		return in_range(block, request) && !block->read_only ? PV_STATUS_OK : PV_STATUS_INVALID;
	case PV_BLOCK_REQUEST_FLUSH:
		buffer->size_bytes = 0;
		return block->has_flush ? PV_STATUS_OK : PV_STATUS_NOT_SUPPORTED;
	case PV_BLOCK_REQUEST_GET_ID:
		buffer->write = true;
		return request->size_bytes == PV_BLOCK_ID_BYTES ? PV_STATUS_OK : PV_STATUS_INVALID;
	case PV_BLOCK_REQUEST_DISCARD:
		most = block->max_discard_sectors;
		break;
	case PV_BLOCK_REQUEST_WRITE_ZEROES:
		most = block->max_write_zeroes_sectors;
		break;
	}
	if (!most)
		return PV_STATUS_NOT_SUPPORTED;
	uint32_t sectors = request->size_bytes / PV_SECTOR_BYTES;
	request->range = (struct pv_block_range){ .sector = request->sector, .sectors = sectors };
	*buffer = (struct pv_virtq_buffer){ pv_gpa(&request->range), sizeof(request->range), false };
	return in_range(block, request) && sectors <= most && !block->read_only ? PV_STATUS_OK : PV_STATUS_INVALID;
}

int64_t pv_block_add(struct pv_block *block, struct pv_block_request *request)
{
	struct pv_virtq_buffer buffers[BUFFERS] = { { pv_gpa(&request->header), sizeof(request->header), false } };
	struct pv_virtq_buffer status_byte = { pv_gpa(&request->status), 1, true };
	uint32_t count = 2;
	int64_t status = data_buffer(block, request, &buffers[1]);

	if (status < 0)
		return status;
	if (buffers[1].size_bytes)
		count = 3;
	buffers[count - 1] = status_byte;
	bool placed = request->type == PV_BLOCK_REQUEST_READ || request->type == PV_BLOCK_REQUEST_WRITE;
	request->header = (struct pv_block_header){ .type = request->type, .sector = placed ? request->sector : 0 };
	request->status = NO_STATUS;
	request->result = PV_STATUS_FAILED;
	status = pv_virtq_add(&block->queue, buffers, count, pv_gpa(request));
	if (status >= 0)
		block->in_flight++;
	return status;
}

void pv_block_submit(struct pv_block *block)
{
	pv_virtio_publish(block->device, &block->queue, block->index);
}

static int64_t result_of(const struct pv_block_request *request, uint32_t written_bytes)
{
	bool reads = request->type == PV_BLOCK_REQUEST_READ;

	switch (__atomic_load_n(&request->status, __ATOMIC_RELAXED)) {
	case PV_BLOCK_STATUS_OK:
		/* BLK-5: a read that says it wrote less has left old bytes in the buffer */
		return reads && written_bytes != request->size_bytes + 1 ? PV_STATUS_IO : PV_STATUS_OK;
	case PV_BLOCK_STATUS_UNSUPPORTED:
		return PV_STATUS_NOT_SUPPORTED;
	default:
		return PV_STATUS_IO;
	}
}

static struct pv_block_request *finish(struct pv_block *block, const struct pv_virtq_completion *completion)
{
	struct pv_block_request *request = pv_at(completion->cookie);

	block->in_flight--;
	request->result = result_of(request, completion->written_bytes);
	return request;
}

int64_t pv_block_get(struct pv_block *block, struct pv_block_request **request)
{
	struct pv_virtq_completion completion;
	int taken = pv_virtq_get(&block->queue, &completion);

	if (taken <= 0)
		return taken ? PV_STATUS_FAILED : PV_STATUS_NOT_FOUND;
	*request = finish(block, &completion);
	return PV_STATUS_OK;
}

int64_t pv_block_wait(struct pv_block *block, struct pv_block_request **request)
{
	struct pv_virtq_completion completion;

	if (!block->in_flight)
		return PV_STATUS_BAD_STATE;
	int64_t status = pv_virtio_wait(block->device, &block->queue, &completion);
	if (status >= 0)
		*request = finish(block, &completion);
	return status;
}

int64_t pv_block_do(struct pv_block *block, struct pv_block_request *request)
{
	struct pv_block_request *done;
	int64_t status = block->in_flight ? PV_STATUS_BAD_STATE : pv_block_add(block, request);

	if (status < 0)
		return status;
	pv_block_submit(block);
	status = pv_block_wait(block, &done);
	if (status >= 0)
		return done->result;
	pv_block_deinit(block); /* the caller's memory must not be written later */
	return status;
}

int64_t pv_block_read(struct pv_block *block, uint64_t sector, void *data, uint32_t size_bytes)
{
	struct pv_block_request request = {
		.type = PV_BLOCK_REQUEST_READ,
		.size_bytes = size_bytes,
		.sector = sector,
		.data = data,
	};

	return pv_block_do(block, &request);
}

int64_t pv_block_write(struct pv_block *block, uint64_t sector, const void *data, uint32_t size_bytes)
{
	struct pv_block_request request = {
		.type = PV_BLOCK_REQUEST_WRITE,
		.size_bytes = size_bytes,
		.sector = sector,
		.data = (void *)(uintptr_t)data, /* the device reads only */
	};

	return pv_block_do(block, &request);
}

int64_t pv_block_flush(struct pv_block *block)
{
	struct pv_block_request request = { .type = PV_BLOCK_REQUEST_FLUSH };

	return block->has_flush ? pv_block_do(block, &request) : PV_STATUS_OK;
}

/* In parts that the disk takes, and whose bytes can be counted in 32 bits. */
static int64_t in_parts(struct pv_block *block, uint32_t type, uint32_t most, uint64_t sector, uint64_t sectors)
{
	most = most < UINT32_MAX / PV_SECTOR_BYTES ? most : UINT32_MAX / PV_SECTOR_BYTES;
	if (!most)
		return PV_STATUS_NOT_SUPPORTED;
	while (sectors) {
		uint32_t part = sectors < most ? (uint32_t)sectors : most;
		struct pv_block_request request = {
			.type = type,
			.size_bytes = part * PV_SECTOR_BYTES,
			.sector = sector,
		};
		int64_t status = pv_block_do(block, &request);

		if (status < 0)
			return status;
		sector += part;
		sectors -= part;
	}
	return PV_STATUS_OK;
}

int64_t pv_block_discard(struct pv_block *block, uint64_t sector, uint64_t sectors)
{
	return in_parts(block, PV_BLOCK_REQUEST_DISCARD, block->max_discard_sectors, sector, sectors);
}

int64_t pv_block_write_zeroes(struct pv_block *block, uint64_t sector, uint64_t sectors)
{
	return in_parts(block, PV_BLOCK_REQUEST_WRITE_ZEROES, block->max_write_zeroes_sectors, sector, sectors);
}

int64_t pv_block_get_id(struct pv_block *block, char id[PV_BLOCK_ID_BYTES + 1])
{
	struct pv_block_request request = {
		.type = PV_BLOCK_REQUEST_GET_ID,
		.size_bytes = PV_BLOCK_ID_BYTES,
		.data = id,
	};

	memset(id, 0, PV_BLOCK_ID_BYTES + 1);
	return pv_block_do(block, &request);
}
