/* SPDX-License-Identifier: 0BSD
 *
 * Chapter packed: the rules of queues over packed rings, where the devices offer them.  As in chapter
 * virtqueue, each is broken, the device gives up without having used anything, and works after a reset.
 */
#include "support/packed.h"
#include "paravirt/string.h"

#define ROUNDS 5

static struct pv_virtio device;
static uint64_t features;
static const char *name;
static struct pv_virtq_packed_desc table[CF_QUEUE_SIZE + 1] __attribute__((aligned(16)));

static void begin(const char *rule, const char *what)
{
	cf_case("%s %s: packed: %s", rule, name, what);
}

/* The device with an empty queue, and in its memory a good request that is not available yet. */
static void prepare(void)
{
	cf_want(cf_packed_up(&device, features), "the device starts again");
	cf_packed_chain(&device, cf_packed.descriptors, 0);
	cf_packed_chain(&device, table, 0);
}

/* The same with the request in a table, at which one descriptor points. */
static void prepare_table(void)
{
	prepare();
	for (uint32_t i = 0; i < 3; i++)
		table[i].flags &= CF_WRITE;
	cf_packed.descriptors[0] = (struct pv_virtq_packed_desc){ pv_gpa(table), 3 * sizeof(table[0]), 0, CF_INDIRECT };
}

static void strike(uint16_t available, const char *what)
{
	cf_packed_publish(&device, 0, available);
	cf_want(cf_gives_up(&device), what);
	for (uint16_t place = 0; place < available; place++)
		cf_want(!cf_packed_is_used(place), "nothing was used");
}

static void chains(void)
{
	static const uint16_t ids[] = { CF_QUEUE_SIZE, 0x7fff, 0xffff };

	begin("VQ-13", "a buffer id that is not below the size");
	for (uint32_t i = 0; i < CF_COUNT(ids); i++) {
		prepare();
		cf_packed.descriptors[2].id = ids[i];
		strike(3, "it gives up");
	}
	begin("VQ-13", "a chain whose later descriptors are not available");
	prepare();
	strike(1, "only the first is");
	prepare();
	strike(2, "the last is not");
	begin("VQ-2", "a chain with more buffers than the queue has descriptors");
	prepare();
	for (uint32_t i = 0; i < CF_QUEUE_SIZE; i++)
		cf_packed.descriptors[i] = (struct pv_virtq_packed_desc){ pv_gpa(cf_data), 1, 0, CF_NEXT | CF_WRITE };
	strike(CF_QUEUE_SIZE, "it goes round the ring");
	begin("VQ-4", "a readable descriptor after a writable one");
	prepare();
	cf_packed.descriptors[0].flags |= CF_WRITE;
	cf_packed.descriptors[1].flags &= (uint16_t)~CF_WRITE;
	strike(3, "it gives up");
	begin("VQ-3", "a buffer that is empty or not in memory, at each place of a chain");
	for (uint32_t at = 0; at < 3; at++) {
		prepare();
		cf_packed.descriptors[at].gpa = CF_NOWHERE;
		strike(3, "nowhere");
		prepare();
		cf_packed.descriptors[at].size_bytes = 0;
		strike(3, "an empty one");
	}
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
	};

	begin("VQ-5", "tables of descriptors");
	if (!(device.features & PV_VIRTIO_F_INDIRECT_DESC)) {
		cf_skip("not offered");
		return;
	}
	for (uint32_t i = 0; i < CF_COUNT(sizes); i++) {
		prepare_table();
		cf_packed.descriptors[0].size_bytes = sizes[i].size_bytes;
		strike(1, sizes[i].what);
	}
	prepare_table();
	table[1].flags |= CF_INDIRECT;
	strike(1, "a table in a table");
	begin("VQ-6", "INDIRECT with NEXT");
	prepare_table();
	cf_packed.descriptors[0].flags |= CF_NEXT;
	strike(1, "it gives up");
	begin("VQ-9", "WRITE in a descriptor with INDIRECT is ignored, and so are NEXT and ids in a table");
	prepare_table();
	cf_packed.descriptors[0].flags |= CF_WRITE;
	for (uint32_t i = 0; i < 3; i++) {
		table[i].flags |= CF_NEXT;
		table[i].id = 0xffff;
	}
	cf_packed_publish(&device, 0, 1);
	cf_want(cf_packed_used(0), "the request comes back");
	cf_want(cf_packed.descriptors[0].flags & CF_WRITE, "and was carried out");
}

static void areas(void)
{
	struct pv_queue_setup good = cf_packed_setup(), bad[6];

	begin("VQ-8", "areas that are not aligned or not in memory");
	for (uint32_t i = 0; i < CF_COUNT(bad); i++)
		bad[i] = good;
	bad[0].descriptors_gpa += 8;
	bad[1].driver_gpa += 2;
	bad[2].device_gpa += 2;
	bad[3].descriptors_gpa = CF_NOWHERE;
	bad[4].driver_gpa = CF_NOWHERE;
	bad[5].device_gpa = ~0ull - 3;
	for (uint32_t i = 0; i < CF_COUNT(bad); i++) {
		cf_want(pv_virtio_agree(&device, PV_VIRTIO_F_RING_PACKED, features) >= 0, "the device agrees again");
		cf_want(device.transport->queue_setup(&device, &bad[i]) < 0, "the queue is refused");
		cf_want(device.transport->queue_setup(&device, &good) >= 0, "a good one is taken afterwards");
	}
}

static void silence(void)
{
	begin("VQ-10 DEV-7", "after a fault the queue is silent");
	prepare();
	cf_packed.descriptors[2].id = 0xffff;
	strike(3, "it gives up");
	cf_packed_chain(&device, cf_packed.descriptors, 0);
	for (uint32_t i = 0; i < 3; i++)
		cf_packed_publish(&device, 0, 3);
	cf_wait_ns(CF_SECOND / 100);
	cf_want(!cf_packed_is_used(0), "nothing is used afterwards");
}

/* Chains of three in a ring of eight: they lie across its end, and their entries go everywhere. */
static void round_and_round(void)
{
	uint16_t place = 0;
	bool good = true;

	begin("VQ-11 VQ-12", "the wrap counters turn with the ring, and an entry is where its chain's turn is");
	prepare();
	for (uint16_t i = 0; good && place < ROUNDS * CF_QUEUE_SIZE; i++, place += 3) {
		struct pv_virtq_packed_desc chain[3];
		uint16_t id = i * 5 % CF_QUEUE_SIZE;

		cf_packed_chain(&device, chain, id);
		for (uint16_t j = 0; j < 3; j++) {
			struct pv_virtq_packed_desc *at = &cf_packed.descriptors[(place + j) % CF_QUEUE_SIZE];

			/* not available yet: the flags of the round before */
			chain[j].flags |= cf_packed_available((uint16_t)(place + j + CF_QUEUE_SIZE));
			*at = chain[j];
		}
		memset(cf_data, 0xee, 16);
		cf_packed_publish(&device, place, 3);
		good = cf_want(cf_packed_used(place), "it comes back") && good;
		struct pv_virtq_packed_desc used = cf_packed.descriptors[place % CF_QUEUE_SIZE];
		good = cf_expect(used.id, id, "the id in the used descriptor") && good;
		good = cf_want(used.flags & CF_WRITE && used.size_bytes, "bytes were written") && good;
	}
}

static void only_read(void)
{
	struct pv_block_header header;

	begin("VIRTIO-2.8.15-1", "what a device reads it does not write");
	prepare();
	if (device.type == PV_DEVICE_TYPE_BLOCK) {
		cf_header.type = PV_BLOCK_REQUEST_WRITE; /* of zeros; a disk that is read-only refuses it */
		memset(cf_data, 0, sizeof(cf_data));
		cf_packed.descriptors[1].flags &= (uint16_t)~CF_WRITE;
	}
	header = cf_header;
	cf_packed.driver_event = PV_VIRTQ_EVENT_DISABLE << 16;
	cf_packed_publish(&device, 0, 3);
	cf_want(cf_packed_used(0), "a request comes back");
	cf_expect(cf_packed.driver_event, PV_VIRTQ_EVENT_DISABLE << 16, "the driver's event");
	cf_want(!memcmp(&header, &cf_header, sizeof(header)), "the header");
	for (uint32_t i = 0; device.type == PV_DEVICE_TYPE_BLOCK && i < sizeof(cf_data); i++)
		cf_want(!cf_data[i], "the data of a write");
}

static void on(uint32_t type, const char *manifest_name, const char *shown)
{
	name = shown;
	features = PV_VIRTIO_F_INDIRECT_DESC | PV_VIRTIO_F_EVENT_IDX;
	if (!cf_device(&device, type, manifest_name) || !cf_packed_up(&device, features)) {
		cf_case("VQ-2 VQ-3 VQ-4 VQ-5 VQ-6 VQ-8 VQ-9 VQ-10 VQ-11 VQ-12 VQ-13 %s: packed queues", shown);
		cf_skip("no such device, or no packed queues");
		return;
	}
	chains();
	tables();
	areas();
	silence();
	round_and_round();
	only_read();
	cf_down(&device);
}

static void packed(void)
{
	on(PV_DEVICE_TYPE_BLOCK, "scratch", "block");
	on(PV_DEVICE_TYPE_ENTROPY, NULL, "entropy");
}

CF_CHAPTER(packed, packed);
