// SPDX-License-Identifier: BSD-2-Clause
/*
 * Driver ring and device ring step by step in one thread: who is told when (by a model that knows no
 * index arithmetic), what the driver refuses to add, and that it believes nothing of a hostile device.
 */
#include <string.h>

#include "check.h"
#include "host.h"
#include "paravirt/virtqueue.h"

#define SIZE 8

static struct pv_virtq driver;
static struct pv_queue device;
static struct pv_queue_state state;
static struct pv_memory memory;
static struct pv_virtq_slot slots[SIZE];
static struct pv_virtq_desc tables[SIZE * 4] __attribute__((aligned(16)));
static uint8_t ring[PV_VIRTQ_RING_BYTES(SIZE)] __attribute__((aligned(PV_VIRTQ_RING_ALIGN)));
static uint8_t data[1024] __attribute__((aligned(16)));

static bool packed; /* the format under test */

static void start(bool event_idx, bool indirect)
{
	struct pv_virtq_memory m = {
		.size = SIZE,
		.event_idx = event_idx,
		.packed = packed,
		.ring = ring,
		.slots = slots,
		.indirect = indirect ? tables : NULL,
		.indirect_count = 4,
	};
	struct pv_queue_setup setup = { 0 };

	memory.count = 0;
	CHECK(pv_memory_add(&memory, (uintptr_t)ring, sizeof(ring), ring) == 0);
	CHECK(pv_memory_add(&memory, (uintptr_t)tables, sizeof(tables), tables) == 0);
	CHECK(pv_memory_add(&memory, (uintptr_t)data, sizeof(data), data) == 0);
	memset(ring, 0xff, sizeof(ring));
	CHECK(pv_virtq_init(&driver, &m) == PV_STATUS_OK);
	pv_virtq_describe(&driver, &setup);
	state = (struct pv_queue_state){
		.size = setup.size,
		.descriptors_gpa = setup.descriptors_gpa,
		.driver_gpa = setup.driver_gpa,
		.device_gpa = setup.device_gpa,
	};
	device = (struct pv_queue){
		.state = &state,
		.memory = &memory,
		.maximum = SIZE,
		.features = (event_idx ? PV_VIRTIO_F_EVENT_IDX : 0) | (indirect ? PV_VIRTIO_F_INDIRECT_DESC : 0) |
			    (packed ? PV_VIRTIO_F_RING_PACKED : 0),
	};
	CHECK(pv_queue_enable(&device) == PV_STATUS_OK);
}

static int add(uint32_t count, uint64_t cookie)
{
	struct pv_virtq_buffer buffers[SIZE + 1];

	for (uint32_t i = 0; i < count; i++)
		buffers[i] = (struct pv_virtq_buffer){ (uintptr_t)data + 16 * i, 16, i > 0 };
	return pv_virtq_add(&driver, buffers, count, cookie);
}

static uint32_t serve(uint32_t most)
{
	static struct pv_chain chain;
	uint32_t served = 0;

	while (served < most && pv_queue_pop(&device, &chain) == 1) {
		pv_queue_push(&device, chain.head, (uint32_t)chain.writable_bytes);
		served++;
	}
	return served;
}

static uint32_t collect(uint32_t most)
{
	struct pv_virtq_completion done;
	uint32_t got = 0;

	while (got < most && pv_virtq_get(&driver, &done) == 1)
		got++;
	return got;
}

/* One side of the conversation, as the other side should see it; counts never wrap. */
struct wish {
	bool armed;
	uint64_t at; /* what it had seen when it armed or disarmed */
};

/*
 * Is the side with this wish told of the chains from `before` up to `now`?  Armed, it is told of the
 * first one that it had not seen, and with EVENT_IDX of no other.  Disarmed, it is not; but what it saw
 * by itself before it disarmed may still be on its way to it.  A place of a packed ring comes again after two rounds.
 */
static void check_told(bool told, const struct wish *wish, bool event_idx, uint64_t before, uint64_t now)
{
	if (before == now)
		CHECK(!told);
	else if (wish->armed && packed && event_idx && (now > wish->at + 2 * SIZE || now >= before + 2 * SIZE))
		CHECK(told || before > wish->at || wish->at >= now);
	else if (wish->armed)
		CHECK(told == (!event_idx || (before <= wish->at && wish->at < now)));
	else
		CHECK(!told || (event_idx && !packed && before < wish->at));
}

/* 300000 chains take the 16-bit indexes around four times. */
static void test_notifications(bool event_idx)
{
	uint64_t seed = 11, published = 0, used = 0, asked = 0, taken = 0, told = 0;
	struct wish device_wish = { true, 0 }, driver_wish = { true, 0 };

	start(event_idx, true);
	/* Zeros ask a split ring for its first chain, and a packed one for all. */
	CHECK(!pv_queue_arm(&device) && !pv_virtq_arm(&driver));
	while (taken < 300000) {
		uint64_t before = published;
		bool rung;

		while (random_below(&seed, 4) && add(1 + random_below(&seed, 4), 0) == PV_STATUS_OK)
			published++;
		rung = pv_virtq_publish(&driver);
		check_told(rung, &device_wish, event_idx, before, published);
		used += serve(random_below(&seed, 5));
		if (random_below(&seed, 2)) {
			bool interrupted = pv_queue_wants_interrupt(&device);

			check_told(interrupted, &driver_wish, event_idx, asked, used);
			asked = used;
			told += interrupted;
		}
		taken += collect(random_below(&seed, 5));
		uint32_t dice = random_below(&seed, 8);
		if (dice == 0)
			CHECK(pv_queue_arm(&device) == (published > used));
		else if (dice == 1)
			pv_queue_disarm(&device);
		else if (dice == 2)
			CHECK(pv_virtq_arm(&driver) == (used > taken));
		else if (dice == 3)
			pv_virtq_disarm(&driver);
		if (dice < 2)
			device_wish = (struct wish){ dice == 0, used };
		else if (dice < 4)
			driver_wish = (struct wish){ dice == 2, taken };
	}
	CHECK(told > 1000 && told < taken / 2);
}

/* Both sides look by themselves: nobody is told of anything, however much goes through. */
static void test_busy(bool event_idx)
{
	start(event_idx, true);
	pv_queue_disarm(&device);
	for (uint32_t i = 0; i < 10000; i++) {
		CHECK(add(3, i) == PV_STATUS_OK && add(1, i) == PV_STATUS_OK);
		pv_virtq_disarm(&driver);
		CHECK(!pv_virtq_publish(&driver));
		CHECK(serve(3) == 2);
		pv_queue_disarm(&device);
		CHECK(!pv_queue_wants_interrupt(&device));
		CHECK(collect(3) == 2);
	}
}

static void test_room(void)
{
	struct pv_virtq_buffer wrong[] = {
		{ 16, 16, true }, { 32, 16, false }, { 48, 0, false }, { UINT64_MAX, 2, false }
	};

	start(false, false);
	CHECK(add(0, 0) == PV_STATUS_INVALID && add(SIZE + 1, 0) == PV_STATUS_INVALID);
	CHECK(pv_virtq_add(&driver, wrong, 2, 0) == PV_STATUS_INVALID); /* VQ-4 */
	CHECK(pv_virtq_add(&driver, &wrong[2], 1, 0) == PV_STATUS_INVALID); /* VQ-3 */
	CHECK(pv_virtq_add(&driver, &wrong[3], 1, 0) == PV_STATUS_INVALID);
	CHECK(!pv_virtq_publish(&driver));
	CHECK(add(SIZE, 1) == PV_STATUS_OK && add(1, 2) == PV_STATUS_BAD_STATE);
	CHECK(serve(1) == 0); /* not published */
	CHECK(pv_virtq_publish(&driver) && serve(9) == 1 && collect(9) == 1);
	for (uint64_t i = 0; i < SIZE; i++)
		CHECK(add(1, i) == PV_STATUS_OK);
	CHECK(add(1, 2) == PV_STATUS_BAD_STATE);
	start(false, true);
	for (uint64_t i = 0; i < SIZE; i++) /* a descriptor each, by their tables */
		CHECK(add(4, i) == PV_STATUS_OK);
	CHECK(add(1, 2) == PV_STATUS_BAD_STATE);
	CHECK(pv_virtq_publish(&driver) && serve(SIZE + 1) == SIZE && collect(SIZE + 1) == SIZE);
	CHECK(add(5, 1) == PV_STATUS_OK && add(4, 2) == PV_STATUS_OK); /* too long for a table: direct */
	CHECK(driver.free_count == SIZE - 6);
}

static void test_init(void)
{
	static const uint16_t sizes[] = { 0, 3, 257, 512 };
	struct pv_virtq_memory m = { .ring = ring, .slots = slots };

	for (uint32_t i = 0; i < 4; i++) {
		m.size = sizes[i];
		CHECK(pv_virtq_init(&driver, &m) == PV_STATUS_INVALID);
	}
	m.size = 4;
	m.ring = ring + 32;
	CHECK(pv_virtq_init(&driver, &m) == PV_STATUS_UNALIGNED);
	m.ring = ring;
	m.indirect = (struct pv_virtq_desc *)(void *)(data + 8);
	CHECK(pv_virtq_init(&driver, &m) == PV_STATUS_UNALIGNED);
	m.indirect = tables;
	m.indirect_count = 5;
	CHECK(pv_virtq_init(&driver, &m) == PV_STATUS_INVALID);
}

/* The device says it used `ahead` chains, the first of them `id`, with so many bytes. */
static void claim(uint16_t ahead, uint32_t id, uint32_t written_bytes)
{
	struct pv_virtq_packed_desc *d = (struct pv_virtq_packed_desc *)(void *)driver.descriptors + driver.next_used;

	if (packed) { /* of the first round */
		d->id = (uint16_t)id;
		d->size_bytes = written_bytes;
		d->flags = (uint16_t)(PV_DESC_F_PACKED_AVAIL | PV_DESC_F_PACKED_USED | PV_DESC_F_WRITE);
		return;
	}
	struct pv_virtq_used_elem *e = (struct pv_virtq_used_elem *)(driver.used + 1) + (driver.taken & (SIZE - 1));

	e->id = id;
	e->written_bytes = written_bytes;
	driver.used->index = (uint16_t)(driver.taken + ahead);
}

static void test_distrust(void)
{
	/* id and bytes; two chains were published: heads 0 (descriptors 0 to 2, room for 32 bytes) and 3 */
	static const struct {
		uint16_t ahead;
		uint32_t id, written_bytes;
		int answer;
	} claims[] = {
		{ 1, 0, 32, 1 },
		{ 2, 3, 0, 1 },
		{ 1, 0, 33, PV_STATUS_FAILED }, /* more than there is room for */
		{ 1, 3, 1, PV_STATUS_FAILED }, /* no room at all */
		{ 1, 1, 0, PV_STATUS_FAILED }, /* inside a chain */
		{ 1, 4, 0, PV_STATUS_FAILED }, /* a chain that was not published */
		{ 1, 5, 0, PV_STATUS_FAILED }, /* free */
		{ 1, SIZE, 0, PV_STATUS_FAILED },
		{ 1, 0x10000, 0, PV_STATUS_FAILED },
		{ 1, UINT32_MAX, 0, PV_STATUS_FAILED },
		{ 3, 0, 0, PV_STATUS_FAILED }, /* more chains than there are */
		{ 0xffff, 0, 0, PV_STATUS_FAILED },
		{ 0, 0, 0, 0 },
	};
	struct pv_virtq_completion done;
	uint64_t cookie, cookies;

	for (uint32_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		if (packed && (claims[i].ahead != 1 || claims[i].id > UINT16_MAX)) /* it has no words for that */
			continue;
		start(false, false);
		CHECK(add(3, 100) == PV_STATUS_OK && add(1, 101) == PV_STATUS_OK && pv_virtq_publish(&driver));
		CHECK(add(1, 104) == PV_STATUS_OK);
		claim(claims[i].ahead, claims[i].id, claims[i].written_bytes);
		CHECK(pv_virtq_get(&driver, &done) == claims[i].answer);
		CHECK(claims[i].answer != 1 || done.cookie == (claims[i].id ? 101u : 100u));
		CHECK(driver.broken == (claims[i].answer < 0));
		if (claims[i].answer == 1) { /* the same one again */
			claim(1, claims[i].id, 0);
			CHECK(pv_virtq_get(&driver, &done) == PV_STATUS_FAILED);
		}
		CHECK(!driver.broken || add(1, 0) == PV_STATUS_FAILED);
		CHECK(!driver.broken || !pv_virtq_publish(&driver));
		CHECK(!driver.broken || pv_virtq_get(&driver, &done) == PV_STATUS_FAILED);
		for (cookies = 0; pv_virtq_reclaim(&driver, &cookie);)
			cookies += cookie;
		CHECK(cookies == 305 - (claims[i].answer == 1 ? done.cookie : 0));
		CHECK(driver.free_count == SIZE);
	}
}

int main(void)
{
	for (int format = 0; format < 2; format++) {
		packed = format;
		test_notifications(false);
		test_notifications(true);
		test_busy(false);
		test_busy(true);
		test_room();
		test_distrust();
	}
	test_init();
	puts("ok");
	return 0;
}
