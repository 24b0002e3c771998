/* SPDX-License-Identifier: 0BSD
 *
 * Chapter virtqueue: breaks each rule of queues on every device there is.  The device gives up (DEV-7) without
 * having used anything, the machine runs on, and after a reset the device works again.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define RACES 100u

static struct pv_virtio device;
static uint64_t features;
static const char *name;

static void begin(const char *rule, const char *what)
{
	cf_case("%s %s: %s", rule, name, what);
}

/* The device with an empty queue, and in its memory a good request that is not published yet. */
static void prepare(void)
{
	struct pv_queue_setup setup = cf_queue_setup();

	cf_want(cf_up(&device, features, &setup), "the device starts again");
	cf_good_chain(&device, cf_ring.descriptors);
	cf_good_chain(&device, cf_table);
}

/* The same with the request in a table, at which one descriptor points. */
static void prepare_table(void)
{
	prepare();
	cf_ring.descriptors[0] = (struct pv_virtq_desc){ pv_gpa(cf_table), 3 * sizeof(cf_table[0]), CF_INDIRECT, 0 };
}

static void strike_ahead(const char *what, uint16_t ahead)
{
	cf_publish(&device, ahead);
	cf_want(cf_gives_up(&device), what);
	cf_expect(CF_LOAD(cf_ring.used.index), 0, "buffers used");
}

static void strike(const char *what)
{
	strike_ahead(what, 1);
}

static void indexes(void)
{
	static const uint16_t ahead[] = { CF_QUEUE_SIZE + 1, 0x7fff, 0x8000, 0xffff };

	begin("VQ-1", "an index that is not below the size of its table");
	prepare();
	cf_ring.heads[0] = CF_QUEUE_SIZE;
	strike("a head beyond the table");
	prepare();
	cf_ring.heads[0] = 0xffff;
	strike("a head far beyond the table");
	prepare();
	cf_ring.descriptors[0].next = CF_QUEUE_SIZE;
	strike("a next beyond the table");
	prepare();
	cf_ring.descriptors[1].next = 0xffff;
	strike("a next far beyond the table");
	begin("VQ-2", "a chain with more buffers than the queue has descriptors");
	prepare();
	cf_ring.descriptors[0].next = 0;
	strike("a descriptor that is its own next");
	prepare();
	cf_ring.descriptors[2].flags = CF_NEXT | CF_WRITE;
	cf_ring.descriptors[2].next = 1;
	strike("a loop");
	begin("VQ-7", "an available index too far ahead");
	for (uint32_t i = 0; i < CF_COUNT(ahead); i++) {
		prepare();
		strike_ahead("it gives up", ahead[i]);
	}
}

static void buffers(void)
{
	const struct pv_boot_memory *last = &cf_boot.memory[cf_boot.memory_count - 1];
	const struct {
		const char *what;
		uint64_t gpa;
		uint32_t size_bytes;
	} bad[] = {
		{ "nowhere", CF_NOWHERE, 512 },
		{ "one that wraps", ~0ull - 255, 512 },
		{ "at the last address", ~0ull, 512 },
		{ "over the end of memory", last->gpa + last->size_bytes - 1, 2 },
		{ "larger than memory", 4096, 0xfffffe00 },
		{ "an empty one", 4096, 0 },
	};

	begin("VQ-3", "a buffer that is empty or not in memory, at each place of a chain");
	for (uint32_t i = 0; i < CF_COUNT(bad); i++)
		for (uint32_t at = 0; at < 3; at++) {
			prepare();
			cf_ring.descriptors[at].gpa = bad[i].gpa;
			cf_ring.descriptors[at].size_bytes = bad[i].size_bytes;
			strike(bad[i].what);
		}
	begin("VQ-4", "a readable descriptor after a writable one");
	prepare();
	cf_ring.descriptors[0].flags = CF_NEXT | CF_WRITE;
	cf_ring.descriptors[1].flags = CF_NEXT;
	strike("it gives up");
	prepare();
	cf_ring.descriptors[2].flags = 0;
	strike("the last");
}

static void tables(void)
{
	static const struct {
		const char *what;
		uint32_t size_bytes;
	} sizes[] = {
		{ "an empty one", 0 },
		{ "half a descriptor too many", 40 },
		{ "more than the queue", (CF_QUEUE_SIZE + 1) * 16 },
		{ "a huge one", 0xfffffff0 },
	};

	begin("VQ-5", "tables of descriptors");
	if (!(device.features & PV_VIRTIO_F_INDIRECT_DESC)) {
		cf_skip("not offered");
		return;
	}
	for (uint32_t i = 0; i < CF_COUNT(sizes); i++) {
		prepare_table();
		cf_ring.descriptors[0].size_bytes = sizes[i].size_bytes;
		strike(sizes[i].what);
	}
	prepare_table();
	cf_table[1].flags = CF_INDIRECT;
	strike("a table in a table");
	begin("VQ-1 VQ-2 VQ-3", "and in a table");
	prepare_table();
	cf_ring.descriptors[0].gpa = CF_NOWHERE;
	strike("a table nowhere");
	prepare_table();
	cf_table[0].next = 3;
	strike("a next beyond it");
	prepare_table();
	cf_table[1].next = 0;
	strike("a loop in it");
	begin("VQ-6", "INDIRECT with NEXT, and INDIRECT that was not agreed");
	prepare_table();
	cf_ring.descriptors[0].flags = CF_INDIRECT | CF_NEXT;
	strike("with NEXT");
	features = 0;
	prepare_table();
	strike("not agreed");
	features = PV_VIRTIO_F_INDIRECT_DESC | PV_VIRTIO_F_EVENT_IDX;
	begin("VQ-9", "WRITE in a descriptor with INDIRECT is ignored");
	prepare_table();
	cf_ring.descriptors[0].flags = CF_INDIRECT | CF_WRITE;
	cf_publish(&device, 1);
	cf_want(cf_used(1), "the request comes back");
	cf_want(cf_ring.entries[0].written_bytes > 0, "and was carried out");
}

static void areas(void)
{
	struct pv_queue_setup good = cf_queue_setup(), bad[7];

	begin("VQ-8", "areas that are not aligned or not in memory");
	for (uint32_t i = 0; i < CF_COUNT(bad); i++)
		bad[i] = good;
	bad[0].descriptors_gpa += 8;
	bad[1].driver_gpa += 1;
	bad[2].device_gpa += 2;
	bad[3].descriptors_gpa = CF_NOWHERE;
	bad[4].driver_gpa = CF_NOWHERE;
	bad[5].device_gpa = ~0ull - 3;
	bad[6].descriptors_gpa =
		cf_boot.memory[cf_boot.memory_count - 1].gpa + cf_boot.memory[cf_boot.memory_count - 1].size_bytes - 16;
	for (uint32_t i = 0; i < CF_COUNT(bad); i++) {
		cf_want(pv_virtio_agree(&device, 0, features) >= 0, "the device agrees again");
		cf_want(device.transport->queue_setup(&device, &bad[i]) < 0, "the queue is refused");
		cf_want(device.transport->queue_setup(&device, &good) >= 0, "a good one is taken afterwards");
	}
}

static void silence(void)
{
	uint32_t status;

	begin("VQ-10 DEV-7", "after a fault the queue is silent, and the status stays");
	prepare();
	cf_ring.heads[0] = 0xffff;
	strike("it gives up");
	cf_good_chain(&device, cf_ring.descriptors);
	cf_ring.heads[0] = cf_ring.heads[1] = 0;
	for (uint32_t i = 0; i < 3; i++)
		cf_publish(&device, 2);
	cf_wait_ns(CF_SECOND / 100);
	cf_expect(CF_LOAD(cf_ring.used.index), 0, "buffers used afterwards");
	status = device.transport->status(&device);
	device.transport->set_status(&device, status & ~(uint32_t)PV_VIRTIO_STATUS_NEEDS_RESET);
	cf_expect(device.transport->status(&device), status, "the status, which a driver cannot clear bit by bit");
	cf_want(cf_works(&device, features), "the device works after a reset");
}

/* More requests than indexes have numbers would take long; the ring of 8 goes round many times. */
static void freely(void)
{
	uint16_t wrong = 0;

	begin("VQ-11 VQ-12", "indexes run freely, entries are where the size says, with what was written before");
	prepare();
	for (uint16_t i = 0; i < 5 * CF_QUEUE_SIZE && !wrong; i++) {
		uint16_t slot = i % CF_QUEUE_SIZE, head = (uint16_t)(i * 3 % 4);

		memset(cf_ring.descriptors, 0, sizeof(cf_ring.descriptors));
		cf_good_chain(&device, cf_table);
		cf_ring.descriptors[head] = cf_table[0];
		cf_ring.descriptors[head].next = 4;
		cf_ring.descriptors[4] = cf_table[1];
		cf_ring.descriptors[4].next = 7;
		cf_ring.descriptors[7] = cf_table[2];
		cf_ring.heads[slot] = head;
		memset(cf_data, 0xee, 16);
		cf_publish(&device, (uint16_t)(i + 1));
		wrong |= !cf_want(cf_used((uint16_t)(i + 1)), "it comes back");
		wrong |= !cf_expect(cf_ring.entries[slot].id, head, "the head in the used entry");
		wrong |= !cf_want(cf_ring.entries[slot].written_bytes > 0, "bytes were written");
	}
}

/* The device reads while we write: nothing is expected but that it and the machine survive. */
static void races(void)
{
	static const uint32_t sizes[8] = { 0, 1, 16, 16, 48, 512, 512, 0xfffffff0 };
	const uint64_t places[4] = { pv_gpa(cf_data), pv_gpa(cf_data), CF_NOWHERE, ~0ull - 8 };
	uint32_t random = 1;

	begin("DEV-7 CALL-12", "descriptors that change while the device reads them");
	for (uint32_t i = 0; i < (cf_user() ? RACES : RACES / 10); i++) {
		prepare();
		cf_publish(&device, 1);
		for (uint32_t j = 0; j < 200; j++) {
			volatile struct pv_virtq_desc *at = &(j & 1 ? cf_table : cf_ring.descriptors)[random >> 16 & 3];

			random = random * 1103515245 + 12345;
			at->flags = (uint16_t)(random >> 20 & 7);
			at->next = (uint16_t)(random >> 24 & 15);
			at->size_bytes = sizes[random >> 16 & 7];
			at->gpa = places[random >> 21 & 3];
			if (j % 50 == 0)
				cf_publish(&device, (uint16_t)(random >> 28));
		}
	}
	cf_want(cf_works(&device, features), "the device works after a reset");
}

static void on(uint32_t type, const char *manifest_name, const char *shown)
{
	name = shown;
	features = PV_VIRTIO_F_INDIRECT_DESC | PV_VIRTIO_F_EVENT_IDX;
	if (!cf_device(&device, type, manifest_name)) {
		cf_case("VQ-1 VQ-2 VQ-3 VQ-4 VQ-5 VQ-6 VQ-7 VQ-8 VQ-9 VQ-10 VQ-11 VQ-12 %s: queues", shown);
		cf_skip("no such device");
		return;
	}
	begin("DEV-8", "a good request is carried out");
	cf_want(cf_works(&device, features), "it comes back with what was asked for");
	indexes();
	buffers();
	tables();
	areas();
	silence();
	freely();
	races();
	cf_down(&device);
}

static void virtqueue(void)
{
	on(PV_DEVICE_TYPE_BLOCK, "scratch", "block");
	on(PV_DEVICE_TYPE_ENTROPY, NULL, "entropy");
}

CF_CHAPTER(virtqueue, virtqueue);
