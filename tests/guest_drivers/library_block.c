/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The block driver on a transport that is a few functions: a disk in memory that answers when the doorbell
 * rings, honestly or not.
 */
#include "library_device.h"
#include "paravirt/block.h"

#define SECTORS 16

enum mood { HONEST, FAILS, SHORT_READ, UNSUPPORTED, SILENT, BROKEN_ID, GIVES_UP, DEAF };

static struct {
	uint8_t data[SECTORS * PV_SECTOR_BYTES];
	uint32_t doorbells, flushes;
	enum mood mood;
} disk;

static int64_t config_write(struct pv_virtio *virtio, uint32_t offset, const void *field, uint32_t size_bytes)
{
	(void)virtio;
	CHECK(offset == offsetof(struct pv_block_config, writeback) && size_bytes == 1);
	if (disk.mood != DEAF)
		memcpy(device.config + offset, field, size_bytes);
	return PV_STATUS_OK;
}

/* Carries a request out; the bytes written before the status. */
static uint32_t serve(const struct pv_block_header *header, uint8_t *data, uint32_t size_bytes)
{
	const struct pv_block_range *range = (const struct pv_block_range *)(void *)data;

	switch (header->type) {
	case PV_BLOCK_REQUEST_READ:
		memcpy(data, disk.data + header->sector * PV_SECTOR_BYTES, size_bytes);
		return size_bytes;
	case PV_BLOCK_REQUEST_WRITE:
		memcpy(disk.data + header->sector * PV_SECTOR_BYTES, data, size_bytes);
		return 0;
	case PV_BLOCK_REQUEST_FLUSH:
		disk.flushes++;
		return 0;
	case PV_BLOCK_REQUEST_GET_ID:
		memcpy(data, "twenty bytes, no NUL", size_bytes);
		return size_bytes;
	default:
		CHECK(header->type == PV_BLOCK_REQUEST_WRITE_ZEROES || header->type == PV_BLOCK_REQUEST_DISCARD);
		CHECK(size_bytes == sizeof(*range) && !header->sector && !range->flags);
		memset(disk.data + range->sector * PV_SECTOR_BYTES, 0, range->sectors * PV_SECTOR_BYTES);
		return 0;
	}
}

static void answer(const struct pv_virtq_desc *header, const struct pv_virtq_desc *table, uint32_t head)
{
	const struct pv_virtq_desc *second = &table[header->next], *last = second;
	uint32_t size_bytes = 0;
	if (second->flags & PV_DESC_F_NEXT) {
		size_bytes = second->size_bytes;
		last = &table[second->next];
	}
	uint32_t written = disk.mood == HONEST ? serve(pv_at(header->gpa), pv_at(second->gpa), size_bytes) : 0;
	uint8_t codes[] = { [HONEST] = PV_BLOCK_STATUS_OK,
			    [FAILS] = PV_BLOCK_STATUS_IO_ERROR,
			    [UNSUPPORTED] = PV_BLOCK_STATUS_UNSUPPORTED };
	if (disk.mood != SILENT)
		*(uint8_t *)pv_at(last->gpa) = disk.mood < sizeof(codes) ? codes[disk.mood] : 0;
	device_give(0, disk.mood == BROKEN_ID ? head + 1 : head, written + 1);
}

static void notify(struct pv_virtio *virtio, uint16_t queue)
{
	const struct pv_virtq_desc *first, *table;
	uint16_t head;

	(void)virtio;
	CHECK(!queue);
	disk.doorbells++;
	if (disk.mood == GIVES_UP)
		device.status |= PV_VIRTIO_STATUS_NEEDS_RESET;
	else if (disk.mood != DEAF)
		while ((first = device_take(0, &head, &table)))
			answer(first, table, head);
}

static struct pv_virtio virtio;
static struct pv_block block;
static uint8_t memory[PV_VIRTIO_QUEUE_BYTES(SIZE)] __attribute__((aligned(64)));
static uint8_t buffer[SECTORS * PV_SECTOR_BYTES];

static int64_t start(uint64_t features)
{
	const struct pv_block_config config = {
		.capacity_sectors = SECTORS,
		.max_discard_sectors = 3,
		.max_write_zeroes_sectors = 3,
	};

	memset(&disk, 0, sizeof(disk));
	transport.notify = notify;
	transport.config_write = config_write;
	virtio = device_new(features, &config, sizeof(config));
	return pv_block_init(&block, &virtio, 200, memory);
}

static void check_requests(uint64_t features)
{
	char id[PV_BLOCK_ID_BYTES + 1];
	uint64_t seed = 7;

	CHECK(start(features) == PV_STATUS_OK);
	CHECK(block.depth == (features & PV_VIRTIO_F_INDIRECT_DESC ? SIZE : SIZE / 3));
	for (int i = 0; i < 500; i++) {
		uint32_t sector = random_below(&seed, SECTORS), count = 1 + random_below(&seed, SECTORS - sector);

		for (uint32_t j = 0; j < count * PV_SECTOR_BYTES; j++)
			buffer[j] = (uint8_t)random_next(&seed);
		CHECK(pv_block_write(&block, sector, buffer, count * PV_SECTOR_BYTES) == PV_STATUS_OK);
		CHECK(!memcmp(disk.data + sector * PV_SECTOR_BYTES, buffer, count * PV_SECTOR_BYTES));
		memset(buffer, 0, sizeof(buffer));
		CHECK(pv_block_read(&block, sector, buffer, count * PV_SECTOR_BYTES) == PV_STATUS_OK);
		CHECK(!memcmp(disk.data + sector * PV_SECTOR_BYTES, buffer, count * PV_SECTOR_BYTES));
	}
	CHECK(pv_block_get_id(&block, id) == PV_STATUS_OK && !strcmp(id, "twenty bytes, no NUL"));
	bool has_flush = features & PV_BLOCK_F_FLUSH, has_zeroes = features & PV_BLOCK_F_WRITE_ZEROES;
	CHECK(pv_block_flush(&block) == PV_STATUS_OK && disk.flushes == has_flush);
	disk.doorbells = 0;
	/* in parts of at most three sectors */
	CHECK(pv_block_write_zeroes(&block, 2, 11) == (has_zeroes ? PV_STATUS_OK : PV_STATUS_NOT_SUPPORTED));
	CHECK(disk.doorbells == (has_zeroes ? 4 : 0));
	for (uint32_t i = 2 * PV_SECTOR_BYTES; has_zeroes && i < 13 * PV_SECTOR_BYTES; i++)
		CHECK(!disk.data[i]);
}

static void check_refusals(void)
{
	struct pv_block_request request = { .type = PV_BLOCK_REQUEST_READ, .size_bytes = 512, .data = buffer }, *done;

	CHECK(start(0) == PV_STATUS_NOT_SUPPORTED); /* not virtio 1 */
	CHECK(start(PV_VIRTIO_F_VERSION_1 | PV_BLOCK_F_RO) == PV_STATUS_OK);
	CHECK(pv_block_write(&block, 0, buffer, 512) == PV_STATUS_INVALID);
	CHECK(pv_block_read(&block, SECTORS, buffer, 512) == PV_STATUS_INVALID);
	CHECK(pv_block_read(&block, SECTORS - 1, buffer, 1024) == PV_STATUS_INVALID);
	CHECK(pv_block_read(&block, ~0ull, buffer, 512) == PV_STATUS_INVALID);
	CHECK(pv_block_read(&block, 0, buffer, 0) == PV_STATUS_INVALID);
	CHECK(pv_block_read(&block, 0, buffer, 513) == PV_STATUS_INVALID);
	CHECK(pv_block_discard(&block, 0, 1) == PV_STATUS_NOT_SUPPORTED);
	CHECK(!disk.doorbells && pv_block_wait(&block, &done) == PV_STATUS_BAD_STATE);
	CHECK(pv_block_get(&block, &done) == PV_STATUS_NOT_FOUND);
	static struct pv_block_request many[SIZE];
	for (uint32_t i = 0; i < block.depth; i++) {
		many[i] = request;
		CHECK(pv_block_add(&block, &many[i]) == PV_STATUS_OK);
	}
	CHECK(pv_block_add(&block, &request) == PV_STATUS_BAD_STATE);
	CHECK(pv_block_read(&block, 0, buffer, 512) == PV_STATUS_BAD_STATE); /* others are in flight */
	pv_block_submit(&block);
	CHECK(disk.doorbells == 1);
	for (uint32_t i = 0; i < block.depth; i++)
		CHECK(pv_block_wait(&block, &done) == PV_STATUS_OK && done->result == PV_STATUS_OK);
}

static void check_moods(void)
{
	static const struct {
		enum mood mood;
		int64_t result;
	} cases[] = {
		{ FAILS, PV_STATUS_IO },  { SHORT_READ, PV_STATUS_IO },	   { UNSUPPORTED, PV_STATUS_NOT_SUPPORTED },
		{ SILENT, PV_STATUS_IO }, { BROKEN_ID, PV_STATUS_FAILED }, { GIVES_UP, PV_STATUS_FAILED },
	};

	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK(start(PV_VIRTIO_F_VERSION_1 | PV_VIRTIO_F_INDIRECT_DESC) == PV_STATUS_OK);
		disk.mood = cases[i].mood;
		device.resets = 0;
		CHECK(pv_block_read(&block, 0, buffer, 512) == cases[i].result);
		/* a device that may still write to the caller's memory is taken back */
		CHECK(device.resets == (cases[i].result == PV_STATUS_FAILED) && !block.in_flight);
	}
}

static void check_writeback(void)
{
	const uint64_t base = PV_VIRTIO_F_VERSION_1, wce = PV_BLOCK_F_FLUSH | PV_BLOCK_F_CONFIG_WCE;

	/* who cannot choose has a cache if there is something to flush (virtio 5.2.5.2) */
	CHECK(start(base) == PV_STATUS_OK && pv_block_get_writeback(&block) == 0);
	CHECK(start(base | PV_BLOCK_F_FLUSH) == PV_STATUS_OK && pv_block_get_writeback(&block) == 1);
	CHECK(pv_block_set_writeback(&block, false) == PV_STATUS_NOT_SUPPORTED);
	CHECK(start(base | wce) == PV_STATUS_OK && pv_block_get_writeback(&block) == 0);
	CHECK(pv_block_set_writeback(&block, true) == PV_STATUS_OK &&
	      device.config[offsetof(struct pv_block_config, writeback)] == 1);
	CHECK(pv_block_get_writeback(&block) == 1);
	disk.mood = DEAF; /* takes the write and stays as it was */
	CHECK(pv_block_set_writeback(&block, false) == PV_STATUS_FAILED);
}

/* A waiter whose device gives up at the worst moment: its event was handled by an upcall before the hold. */
static int holds, sleeps;

static void hold(void)
{
	holds++;
	device.status |= PV_VIRTIO_STATUS_NEEDS_RESET;
}

static void wait_for_ever(void)
{
	sleeps++;
	device.status = 0; /* so that the test ends: nobody would have woken us */
}

static void release_events(void)
{
	holds--;
}

static void check_lost(void)
{
	static const struct pv_virtio_waiter waiter = { hold, wait_for_ever, release_events };
	const uint64_t features = PV_VIRTIO_F_VERSION_1 | PV_VIRTIO_F_INDIRECT_DESC;

	CHECK(start(features) == PV_STATUS_OK);
	virtio.waiter = &waiter;
	virtio.channel = 20;
	disk.mood = DEAF;
	CHECK(pv_block_read(&block, 0, buffer, 512) == PV_STATUS_FAILED);
	CHECK(!sleeps && !holds);

	/* taken out of use: a request fails, it does not wait for a disk that is gone */
	CHECK(start(features) == PV_STATUS_OK);
	pv_block_deinit(&block);
	disk.mood = DEAF;
	CHECK(pv_block_read(&block, 0, buffer, 512) == PV_STATUS_FAILED);
}

int main(void)
{
	const uint64_t all = PV_VIRTIO_F_VERSION_1 | PV_VIRTIO_F_INDIRECT_DESC | PV_BLOCK_F_FLUSH | PV_BLOCK_F_DISCARD |
			     PV_BLOCK_F_WRITE_ZEROES;

	check_requests(PV_VIRTIO_F_VERSION_1);
	check_requests(all);
	check_refusals();
	check_moods();
	check_writeback();
	check_lost();
	return 0;
}
