/* SPDX-License-Identifier: 0BSD
 *
 * Chapter block: requests of a disk `scratch`, whose contents are lost, and of one that is read-only.  A
 * request is laid out by hand: header, data and status in whatever pieces.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define SECTOR 512u
#define SECTORS 8u
#define PENDING 0xff /* what the status byte is before */
#define ID_BYTES 20
#define F_ZONED (1ull << 17)
#define CONFIG_BYTES __builtin_offsetof(struct pv_block_config, max_secure_erase_sectors) /* a disk may have no more */

/* APPEND, REPORT, OPEN, CLOSE, FINISH, RESET, RESET_ALL */
static const uint32_t of_zones[] = { 15, 16, 18, 20, 22, 24, 26 };

static struct pv_virtio disk;
static uint64_t features;
static struct pv_block_config config;
static uint16_t made; /* requests since the start */
static uint8_t data[SECTORS * SECTOR], copy[SECTORS * SECTOR];
static uint32_t written; /* by the last request, as the device says */

static bool start(void)
{
	struct pv_queue_setup setup = cf_queue_setup();

	made = 0;
	return cf_want(cf_up(&disk, features, &setup), "the disk starts");
}

/* Sends the chain that begins at descriptor 0; the status byte, or PENDING: it did not come back. */
static uint8_t send(void)
{
	cf_status = PENDING;
	cf_ring.heads[made % CF_QUEUE_SIZE] = 0;
	made++;
	cf_publish(&disk, made);
	if (!cf_used(made))
		return PENDING;
	written = cf_ring.entries[(made - 1) % CF_QUEUE_SIZE].written_bytes;
	return cf_status;
}

static void piece(uint32_t at, const volatile void *memory, uint32_t size_bytes, uint32_t flags)
{
	cf_ring.descriptors[at] =
		(struct pv_virtq_desc){ pv_gpa(memory), size_bytes, (uint16_t)flags, (uint16_t)(at + 1) };
}

/* The common shape: header, data if there is any, status. */
static uint8_t request(uint32_t type, uint64_t sector, const volatile void *memory, uint32_t size_bytes)
{
	bool from_disk = type == PV_BLOCK_REQUEST_READ || type == PV_BLOCK_REQUEST_GET_ID;
	uint32_t at = 0;

	cf_header = (struct pv_block_header){ .type = type, .sector = sector };
	piece(at++, &cf_header, sizeof(cf_header), CF_NEXT);
	if (size_bytes)
		piece(at++, memory, size_bytes, CF_NEXT | (from_disk ? CF_WRITE : 0));
	piece(at, &cf_status, 1, CF_WRITE);
	return send();
}

static void fill(uint32_t seed)
{
	for (uint32_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(seed = seed * 1103515245 + 12345, seed >> 16);
}

/* Whether the first sectors of the disk are what `data` holds. */
static bool same(void)
{
	memset(copy, 0, sizeof(copy));
	return request(PV_BLOCK_REQUEST_READ, 0, copy, sizeof(copy)) == PV_BLOCK_STATUS_OK &&
	       !memcmp(data, copy, sizeof(data));
}

static void whole(void)
{
	cf_case("BLK-5 what is written is read, and the length used counts it");
	fill(1);
	cf_expect(request(PV_BLOCK_REQUEST_WRITE, 0, data, sizeof(data)), PV_BLOCK_STATUS_OK, "status of a write");
	cf_expect(written, 1, "bytes written by a write: its status");
	cf_want(same(), "the data is read");
	cf_expect(written, sizeof(copy) + 1, "bytes written by a read: the data and its status");
	if (features & PV_BLOCK_F_FLUSH) {
		cf_expect(request(PV_BLOCK_REQUEST_FLUSH, 0, NULL, 0), PV_BLOCK_STATUS_OK, "status of a flush");
		cf_expect(written, 1, "bytes written by a flush");
	}
	cf_case("BLK-11 GET_ID gives 20 bytes, filled up with NUL");
	memset(copy, 0xee, ID_BYTES + 1);
	cf_expect(request(PV_BLOCK_REQUEST_GET_ID, 0, copy, ID_BYTES), PV_BLOCK_STATUS_OK, "status");
	cf_expect(written, ID_BYTES + 1, "bytes written");
	for (uint32_t i = 0, ended = 0; i < ID_BYTES; i++) {
		ended |= !copy[i];
		cf_want(!ended || !copy[i], "nothing but NUL after the first");
	}
	cf_expect(copy[ID_BYTES], 0xee, "the byte behind");
}

static void beyond(void)
{
	const uint64_t end = config.capacity_sectors;

	cf_case("BLK-1 requests beyond the capacity");
	memset(copy, 0xee, sizeof(copy));
	cf_expect(request(PV_BLOCK_REQUEST_READ, end, copy, SECTOR), PV_BLOCK_STATUS_IO_ERROR, "the first sector");
	cf_expect(request(PV_BLOCK_REQUEST_READ, end - 1, copy, 2 * SECTOR), PV_BLOCK_STATUS_IO_ERROR, "over the end");
	cf_expect(request(PV_BLOCK_REQUEST_READ, ~0ull - 2, copy, 4 * SECTOR), PV_BLOCK_STATUS_IO_ERROR, "wraps");
	cf_expect(request(PV_BLOCK_REQUEST_READ, 1ull << 55, copy, SECTOR), PV_BLOCK_STATUS_IO_ERROR,
		  "wraps, in bytes");
	cf_want(copy[0] == 0xee && copy[SECTOR] == 0xee, "memory is not touched");
	cf_expect(request(PV_BLOCK_REQUEST_WRITE, 1ull << 55, data, SECTOR), PV_BLOCK_STATUS_IO_ERROR, "a write");
	cf_expect(request(PV_BLOCK_REQUEST_WRITE, end - 1, data, 2 * SECTOR), PV_BLOCK_STATUS_IO_ERROR,
		  "a write over the end");
	cf_want(same(), "the disk is not touched");
	cf_expect(request(PV_BLOCK_REQUEST_READ, end - 1, copy, SECTOR), PV_BLOCK_STATUS_OK, "the last sector");
	cf_case("BLK-4 data that is no whole number of sectors");
	cf_expect(request(PV_BLOCK_REQUEST_READ, 0, copy, SECTOR - 1), PV_BLOCK_STATUS_IO_ERROR, "a read, less");
	cf_expect(request(PV_BLOCK_REQUEST_READ, 0, copy, SECTOR + 1), PV_BLOCK_STATUS_IO_ERROR, "a read, more");
	cf_expect(request(PV_BLOCK_REQUEST_WRITE, 0, copy, 7), PV_BLOCK_STATUS_IO_ERROR, "a write");
	cf_want(same(), "the disk is not touched");
	cf_case("BLK-6 request types that are not defined");
	cf_expect(request(77, 0, data, SECTOR), PV_BLOCK_STATUS_UNSUPPORTED, "77");
	cf_expect(request(0xffffffff, 0, NULL, 0), PV_BLOCK_STATUS_UNSUPPORTED, "all ones");
	cf_expect(request(PV_BLOCK_REQUEST_READ | 1u << 16, 0, data, SECTOR), PV_BLOCK_STATUS_UNSUPPORTED,
		  "one above 16 bits");
	cf_want(same(), "the disk is not touched");
}

static void ranges(void)
{
	static struct pv_block_range list[2];

	cf_case("BLK-7 BLK-1 ranges: flags that are not defined, before any is touched, and their bounds");
	if (!(features & PV_BLOCK_F_WRITE_ZEROES) || config.max_write_zeroes_segments < 2) {
		cf_skip("the disk takes no two ranges");
		return;
	}
	list[0] = (struct pv_block_range){ 1, 2, 0 };
	list[1] = (struct pv_block_range){ 4, 1, 2 };
	cf_expect(request(PV_BLOCK_REQUEST_WRITE_ZEROES, 0, list, sizeof(list)), PV_BLOCK_STATUS_UNSUPPORTED,
		  "write-zeroes, the second with bit 1");
	cf_want(same(), "no range is touched");
	if (features & PV_BLOCK_F_DISCARD) {
		list[0].flags = 1;
		cf_expect(request(PV_BLOCK_REQUEST_DISCARD, 0, list, sizeof(list[0])), PV_BLOCK_STATUS_UNSUPPORTED,
			  "a discard with bit 0");
		list[0].flags = 0;
		cf_want(same(), "no range is touched");
	}
	list[1] = (struct pv_block_range){ config.capacity_sectors, 1, 0 };
	cf_expect(request(PV_BLOCK_REQUEST_WRITE_ZEROES, 0, list, sizeof(list)), PV_BLOCK_STATUS_IO_ERROR,
		  "beyond the capacity");
	list[1] = (struct pv_block_range){ 5, 2, 0 };
	cf_expect(request(PV_BLOCK_REQUEST_WRITE, 0, data, sizeof(data)), PV_BLOCK_STATUS_OK, "written anew");
	cf_expect(request(PV_BLOCK_REQUEST_WRITE_ZEROES, 0, list, sizeof(list)), PV_BLOCK_STATUS_OK, "two good ranges");
	memset(data + 1 * SECTOR, 0, 2 * SECTOR);
	memset(data + 5 * SECTOR, 0, 2 * SECTOR);
	cf_want(same(), "these and no others are zero");
}

/* A read of two sectors, whose pieces are cut where nobody would. */
static void pieces(void)
{
	static struct {
		struct pv_block_header header;
		uint8_t data[2 * SECTOR];
	} joined;
	static struct {
		uint8_t data[2 * SECTOR];
		uint8_t status;
	} answer;
	uint8_t *header = (uint8_t *)&cf_header;

	cf_case("BLK-10 header, data and status split and joined in any way");
	cf_header = (struct pv_block_header){ .type = PV_BLOCK_REQUEST_READ };
	memset(copy, 0, sizeof(copy));
	piece(0, header, 3, CF_NEXT);
	piece(1, header + 3, 13, CF_NEXT);
	piece(2, copy, 1, CF_NEXT | CF_WRITE);
	piece(3, copy + 1, 2 * SECTOR - 8, CF_NEXT | CF_WRITE);
	piece(4, copy + 2 * SECTOR - 7, 7, CF_NEXT | CF_WRITE);
	piece(5, &cf_status, 1, CF_WRITE);
	cf_expect(send(), PV_BLOCK_STATUS_OK, "status of a read in six pieces");
	cf_want(!memcmp(copy, data, 2 * SECTOR), "its data");
	cf_expect(written, 2 * SECTOR + 1, "bytes written");
	answer.status = PENDING;
	piece(0, header, sizeof(cf_header), CF_NEXT);
	piece(1, &answer, sizeof(answer), CF_WRITE);
	send();
	cf_expect(answer.status, PV_BLOCK_STATUS_OK, "status of a read that is joined with its data");
	cf_want(!memcmp(answer.data, data, 2 * SECTOR), "its data");
	joined.header = (struct pv_block_header){ .type = PV_BLOCK_REQUEST_WRITE, .sector = 2 };
	memset(joined.data, 0x42, sizeof(joined.data));
	memset(data + 2 * SECTOR, 0x42, 2 * SECTOR);
	piece(0, &joined, sizeof(joined) - 5, CF_NEXT);
	piece(1, (uint8_t *)&joined + sizeof(joined) - 5, 5, CF_NEXT);
	piece(2, &cf_status, 1, CF_WRITE);
	cf_expect(send(), PV_BLOCK_STATUS_OK, "status of a write whose header and data are joined");
	cf_want(same(), "its data");
}

static void faulty(const char *what)
{
	made++;
	cf_ring.heads[0] = 0;
	cf_publish(&disk, made);
	cf_want(cf_gives_up(&disk), what);
	cf_expect(CF_LOAD(cf_ring.used.index), 0, "buffers used");
	start();
}

static void faults(void)
{
	cf_case("BLK-3 DEV-7 a request without a header or without room for its status");
	start();
	cf_header = (struct pv_block_header){ .type = PV_BLOCK_REQUEST_READ };
	piece(0, &cf_header, sizeof(cf_header) - 1, CF_NEXT);
	piece(1, &cf_status, 1, CF_WRITE);
	faulty("a header that is too short");
	piece(0, &cf_header, sizeof(cf_header), 0);
	faulty("no room for a status");
	piece(0, &cf_status, 1, CF_WRITE);
	faulty("no header");
	cf_want(same(), "the disk works after a reset");
}

static void offers(void)
{
	uint64_t offered = disk.transport->features(&disk);
	struct pv_queue_setup setup = cf_queue_setup();
	uint8_t cache;

	cf_case("VIRTIO-5.2.5.2-1 VIRTIO-5.2.5.2-2 VIRTIO-5.2.5.2-4 VIRTIO-5.2.5.2-5 what a disk offers, and its "
		"padding");
	cf_want(offered & PV_BLOCK_F_FLUSH, "FLUSH");
	cf_want(!(offered & F_ZONED), "no zones");
	cf_expect(config.reserved0[0], 0, "unused0");
	for (uint32_t i = 0; i < sizeof(config.reserved1); i++)
		cf_expect(config.reserved1[i], 0, "unused1");
	cf_case("VIRTIO-5.2.5.2-3 without FLUSH there is no cache at first");
	if (!(offered & PV_BLOCK_F_CONFIG_WCE)) {
		cf_skip("CONFIG_WCE is not offered");
		return;
	}
	cf_want(cf_up(&disk, PV_BLOCK_F_CONFIG_WCE, &setup), "the disk starts");
	disk.transport->config_read(&disk, __builtin_offsetof(struct pv_block_config, writeback), &cache, 1);
	cf_expect(cache, 0, "writeback");
	start();
}

static void zeroes(void)
{
	static struct pv_block_range all = { 0, SECTORS, 0 };

	cf_case("VIRTIO-5.2.6.2-6 what write-zeroes covered reads as zeros, with and without unmap");
	if (!(features & PV_BLOCK_F_WRITE_ZEROES)) {
		cf_skip("WRITE_ZEROES is not offered");
		return;
	}
	for (all.flags = 0; all.flags < 2; all.flags++) {
		fill(all.flags + 7);
		cf_expect(request(PV_BLOCK_REQUEST_WRITE, 0, data, sizeof(data)), PV_BLOCK_STATUS_OK, "a write");
		cf_expect(request(PV_BLOCK_REQUEST_WRITE_ZEROES, 0, &all, sizeof(all)), PV_BLOCK_STATUS_OK,
			  "write-zeroes");
		memset(data, 0, sizeof(data));
		cf_want(same(), "zeros are read");
	}
	cf_case("VIRTIO-5.2.6.2-13 requests of zones");
	for (uint32_t i = 0; i < CF_COUNT(of_zones); i++)
		cf_expect(request(of_zones[i], 0, data, SECTOR), PV_BLOCK_STATUS_UNSUPPORTED, "one with data");
	cf_want(same(), "the disk is not touched");
}

static void read_only(void)
{
	static struct pv_block_range all = { 0, 1, 0 };

	cf_case("BLK-2 NOTE-10 requests that change a read-only disk");
	if (!cf_device(&disk, PV_DEVICE_TYPE_BLOCK, "fixed") || disk.window_gpa) {
		cf_skip("no disk `fixed` is attached");
		return;
	}
	features = 0;
	start();
	cf_want(disk.transport->features(&disk) & PV_BLOCK_F_RO, "it says so");
	cf_expect(request(PV_BLOCK_REQUEST_READ, 0, copy, SECTOR), PV_BLOCK_STATUS_OK, "a read");
	memset(data, 0x11, SECTOR);
	cf_expect(request(PV_BLOCK_REQUEST_WRITE, 0, data, SECTOR), PV_BLOCK_STATUS_IO_ERROR, "a write");
	uint8_t status = request(PV_BLOCK_REQUEST_WRITE_ZEROES, 0, &all, sizeof(all));
	cf_want(status == PV_BLOCK_STATUS_IO_ERROR || status == PV_BLOCK_STATUS_UNSUPPORTED, "write-zeroes");
	memcpy(data, copy, SECTOR);
	memset(copy, 0, SECTOR);
	cf_expect(request(PV_BLOCK_REQUEST_READ, 0, copy, SECTOR), PV_BLOCK_STATUS_OK, "a read afterwards");
	cf_want(!memcmp(data, copy, SECTOR), "it is as it was");
	cf_down(&disk);
}

static void block(void)
{
	if (!cf_device(&disk, PV_DEVICE_TYPE_BLOCK, "scratch")) {
		cf_case("BLK-1 BLK-3 BLK-4 BLK-5 BLK-6 BLK-7 BLK-10 BLK-11 a disk");
		cf_skip("no disk `scratch` is attached");
	} else {
		cf_case("DEV-6 the configuration of a disk");
		features = PV_BLOCK_F_FLUSH | PV_BLOCK_F_DISCARD | PV_BLOCK_F_WRITE_ZEROES;
		if (!start())
			return;
		features &= disk.features;
		cf_expect(pv_virtio_config(&disk, &config, CONFIG_BYTES), PV_STATUS_OK, "it can be read");
		if (!cf_want(config.capacity_sectors >= SECTORS, "it has a few sectors"))
			return;
		whole();
		beyond();
		ranges();
		zeroes();
		pieces();
		faults();
		offers();
		cf_down(&disk);
	}
	read_only();
}

CF_CHAPTER(block, block);
