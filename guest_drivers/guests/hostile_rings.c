/* SPDX-License-Identifier: 0BSD
 *
 * Breaks each rule of virtqueues on a disk `scratch` (contents are lost): the device must give up with
 * NEEDS_RESET (DEV-7), the machine must run on, and after a reset the device must work again.  At the end
 * descriptors change while the device reads them: whatever it makes of them, it must survive.  TAP.
 */
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"
#include "tap.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_DEVICE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0));
PV_MANIFEST(PV_WANT("scratch", PV_DEVICE_TYPE_BLOCK, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define SIZE 8
#define NEXT ((uint16_t)PV_DESC_F_NEXT)
#define WRITE ((uint16_t)PV_DESC_F_WRITE)
#define INDIRECT ((uint16_t)PV_DESC_F_INDIRECT)
#define PATIENCE_NS 1000000000ull
#define RACES 300

/* The parts of a queue, as the device sees them. */
static struct {
	struct pv_virtq_desc descriptors[SIZE];
	struct pv_virtq_avail avail;
	uint16_t heads[SIZE];
	uint16_t used_event;
	struct pv_virtq_used used __attribute__((aligned(4)));
	struct pv_virtq_used_elem entries[SIZE];
	uint16_t avail_event;
} ring __attribute__((aligned(4096)));

static struct pv_virtq_desc table[16] __attribute__((aligned(16)));
static struct pv_block_header header;
static uint8_t data[512], status_byte;
static struct pv_virtio device;
static uint64_t features;

static void chain(struct pv_virtq_desc *at)
{
	at[0] = (struct pv_virtq_desc){ pv_gpa(&header), sizeof(header), NEXT, 1 };
	at[1] = (struct pv_virtq_desc){ pv_gpa(data), sizeof(data), NEXT | WRITE, 2 };
	at[2] = (struct pv_virtq_desc){ pv_gpa(&status_byte), 1, WRITE, 0 };
}

/* A device with an empty queue, and in the queue's memory one good read, not published yet. */
static void prepare(void)
{
	struct pv_queue_setup setup = {
		.size = SIZE,
		.channel = PV_NO_CHANNEL,
		.descriptors_gpa = pv_gpa(ring.descriptors),
		.driver_gpa = pv_gpa(&ring.avail),
		.device_gpa = pv_gpa(&ring.used),
	};

	memset(&ring, 0, sizeof(ring));
	if (pv_virtio_agree(&device, 0, features) < 0 || device.transport->queue_setup(&device, &setup) < 0 ||
	    pv_virtio_start(&device) < 0)
		pv_panic("the device does not start again");
	chain(ring.descriptors);
	chain(table);
	header = (struct pv_block_header){ .type = PV_BLOCK_REQUEST_READ };
	status_byte = 0xff;
}

/* The same with the chain in a table, on which a single descriptor points. */
static void prepare_table(void)
{
	prepare();
	ring.descriptors[0] = (struct pv_virtq_desc){ pv_gpa(table), 3 * sizeof(table[0]), INDIRECT, 0 };
}

static void publish(uint16_t ahead)
{
	__atomic_store_n(&ring.avail.index, ahead, __ATOMIC_SEQ_CST);
	device.transport->notify(&device, 0);
}

static bool fails(void)
{
	uint64_t end_ns = pv_now_ns() + PATIENCE_NS;

	while (!(device.transport->status(&device) & PV_VIRTIO_STATUS_NEEDS_RESET))
		if (pv_now_ns() > end_ns)
			return false;
	return true;
}

static bool works(void)
{
	uint64_t end_ns = pv_now_ns() + PATIENCE_NS;

	prepare();
	publish(1);
	while (!__atomic_load_n(&ring.used.index, __ATOMIC_ACQUIRE))
		if (pv_now_ns() > end_ns)
			return false;
	return status_byte == PV_BLOCK_STATUS_OK && ring.entries[0].written_bytes == 513;
}

static void strike_ahead(const char *what, uint16_t ahead)
{
	publish(ahead);
	bool gave_up = fails();
	bool silent = !__atomic_load_n(&ring.used.index, __ATOMIC_ACQUIRE);
	tap_ok(gave_up && silent && works(), what, gave_up | silent << 1);
}

static void strike(const char *what)
{
	strike_ahead(what, 1);
}

static void indexes(void)
{
	static const uint16_t ahead[] = { SIZE + 1, 0x7fff, 0x8000, 0xffff };

	prepare();
	ring.heads[0] = SIZE;
	strike("VQ-1 a head beyond the table");
	prepare();
	ring.heads[0] = 0xffff;
	strike("VQ-1 a head far beyond the table");
	prepare();
	ring.descriptors[0].next = SIZE;
	strike("VQ-1 a next beyond the table");
	prepare();
	ring.descriptors[1].next = 0xffff;
	strike("VQ-1 a next far beyond the table");
	prepare();
	ring.descriptors[0].next = 0;
	strike("VQ-2 a descriptor that is its own next");
	prepare();
	ring.descriptors[2].flags = NEXT | WRITE;
	ring.descriptors[2].next = 1;
	strike("VQ-2 a loop");
	for (uint32_t i = 0; i < sizeof(ahead) / sizeof(ahead[0]); i++) {
		prepare();
		strike_ahead("VQ-7 an available index too far ahead", ahead[i]);
	}
}

static void buffers(void)
{
	static const struct {
		const char *what;
		uint64_t gpa;
		uint32_t size_bytes;
	} bad[] = {
		{ "VQ-3 nowhere", 1ull << 52, 512 },
		{ "VQ-3 wraps", ~0ull - 255, 512 },
		{ "VQ-3 above all addresses", ~0ull, 512 },
		{ "VQ-3 larger than memory", 4096, 0xfffffe00 },
		{ "VQ-3 empty", 4096, 0 },
	};

	for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (uint32_t at = 0; at < 3; at++) {
			prepare();
			ring.descriptors[at].gpa = bad[i].gpa;
			ring.descriptors[at].size_bytes = bad[i].size_bytes;
			strike(bad[i].what);
		}
	prepare();
	ring.descriptors[0].flags = NEXT | WRITE;
	ring.descriptors[1].flags = NEXT;
	strike("VQ-4 readable after writable");
}

static void tables(void)
{
	static const struct {
		const char *what;
		uint32_t size_bytes;
	} sizes[] = {
		{ "VQ-5 an empty table", 0 },
		{ "VQ-5 half a descriptor", 40 },
		{ "VQ-5 more than the queue", (SIZE + 1) * 16 },
		{ "VQ-5 a huge table", 0xfffffff0 },
	};

	if (!(device.features & PV_VIRTIO_F_INDIRECT_DESC)) {
		tap_skip("VQ-5 tables", "not offered");
		return;
	}
	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		prepare_table();
		ring.descriptors[0].size_bytes = sizes[i].size_bytes;
		strike(sizes[i].what);
	}
	prepare_table();
	ring.descriptors[0].gpa = 1ull << 52;
	strike("VQ-3 a table nowhere");
	prepare_table();
	table[1].flags = INDIRECT;
	strike("VQ-5 a table in a table");
	prepare_table();
	table[0].next = 3;
	strike("VQ-1 a next beyond the indirect table");
	prepare_table();
	table[1].next = 0;
	strike("VQ-2 a loop in a table");
	prepare_table();
	ring.descriptors[0].flags = INDIRECT | NEXT;
	strike("VQ-6 INDIRECT and NEXT");
	features = 0;
	prepare_table();
	strike("VQ-6 INDIRECT without agreement");
	features = PV_VIRTIO_F_INDIRECT_DESC | PV_VIRTIO_F_EVENT_IDX;
}

static void requests(void)
{
	prepare();
	ring.descriptors[0].size_bytes = sizeof(header) - 1;
	ring.descriptors[0].next = 2;
	strike("BLK-3 a header too short");
	prepare();
	ring.descriptors[0].flags = 0;
	strike("BLK-3 no room for a status");
	prepare();
	ring.heads[0] = 2;
	strike("BLK-3 no header");
}

/*
 * The device reads while we write.  Nothing is expected but that it and the machine survive.  What it may
 * write to is our data alone, and no size that is both large and possible lets it go further.
 */
static void races(void)
{
	static const uint32_t sizes[8] = { 0, 1, 16, 16, 48, 512, 512, 0xfffffff0 };
	const uint64_t places[4] = { pv_gpa(data), pv_gpa(data), 1ull << 52, ~0ull - 8 };
	uint32_t random = 1;

	for (uint32_t i = 0; i < RACES; i++) {
		prepare();
		publish(1);
		for (uint32_t j = 0; j < 200; j++) {
			volatile struct pv_virtq_desc *at = &(j & 1 ? table : ring.descriptors)[random >> 16 & 3];

			random = random * 1103515245 + 12345;
			at->flags = (uint16_t)(random >> 20 & 7);
			at->next = (uint16_t)(random >> 24 & 15);
			at->size_bytes = sizes[random >> 16 & 7];
			at->gpa = places[random >> 21 & 3];
			if (j % 50 == 0)
				publish((uint16_t)(random >> 28));
		}
	}
	tap_ok(works(), "DEV-7 works after descriptors that changed while in use", 0);
}

int pv_main(void)
{
	if (!tap_is(pv_device(&device, PV_DEVICE_TYPE_BLOCK, "scratch"), PV_STATUS_OK, "scratch: found"))
		return tap_done();
	features = PV_VIRTIO_F_INDIRECT_DESC | PV_VIRTIO_F_EVENT_IDX;
	tap_ok(works(), "a good request", 0);
	indexes();
	buffers();
	tables();
	requests();
	races();
	return tap_done();
}
