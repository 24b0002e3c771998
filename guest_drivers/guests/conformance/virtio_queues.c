/* SPDX-License-Identifier: 0BSD
 *
 * Chapter virtio_queues: what virtio asks of every device about its queues, over both transports: when they are
 * served, who is told of it, framing, reset of a queue, order.  What a driver may not do is virtqueue.c's.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define DRIVER_OK PV_VIRTIO_STATUS_DRIVER_OK
#define CHANNEL (CF_CHANNEL + 21)
#define QUIET_NS (CF_SECOND / 100)
#define PATIENCE_NS (2 * CF_SECOND)
#define USED_BUFFERS 1u
#define SMALL 4u /* descriptors of a queue that is enabled anew */

static struct pv_virtio device;
static const char *shown;
static uint16_t made; /* requests since the start */

static uint32_t *at_register(uint32_t offset)
{
	return pv_at(device.window_gpa + offset);
}

static uint32_t read32(uint32_t offset)
{
	return *(volatile uint32_t *)at_register(offset);
}

static void write32(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)at_register(offset) = value;
}

/* Whether the driver was told of used buffers since it was last asked. */
static bool told(void)
{
	const uint64_t bit = 1ull << CHANNEL % 64;

	if (device.window_gpa) {
		uint32_t events = read32(PV_MMIO_INTERRUPT_STATUS);

		write32(PV_MMIO_INTERRUPT_ACK, events);
		return events & USED_BUFFERS;
	}
	CF_STORE(cf_page(0)->upcall_pending, 0);
	return __atomic_fetch_and(&cf_page(0)->pending[CHANNEL / 64], ~bit, __ATOMIC_SEQ_CST) & bit;
}

static bool soon_told(void)
{
	uint64_t end_ns = cf_now_ns() + PATIENCE_NS;

	while (!told())
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}

static bool start(uint64_t features)
{
	struct pv_queue_setup setup = cf_queue_setup();

	setup.channel = cf_offered(PV_SERVICE_EVENT) ? CHANNEL : PV_NO_CHANNEL;
	made = 0;
	bool up = cf_want(cf_up(&device, features, &setup), "the device starts");
	cf_good_chain(&device, cf_ring.descriptors);
	told();
	return up;
}

/* Shows the device the chain that begins at descriptor 0 once more; whether it comes back. */
static bool request(void)
{
	cf_ring.heads[made % CF_QUEUE_SIZE] = 0;
	cf_publish(&device, ++made);
	return cf_used(made);
}

static void before_driver_ok(void)
{
	struct pv_queue_setup setup = cf_queue_setup();

	cf_case("VIRTIO-2.1.2-1 %s: nothing is consumed before DRIVER_OK", shown);
	memset(&cf_ring, 0, sizeof(cf_ring));
	cf_want(pv_virtio_agree(&device, 0, 0) >= 0, "features are agreed on");
	setup.channel = cf_offered(PV_SERVICE_EVENT) ? CHANNEL : PV_NO_CHANNEL;
	cf_want(device.transport->queue_setup(&device, &setup) >= 0, "the queue is set up");
	told();
	cf_good_chain(&device, cf_ring.descriptors);
	for (uint32_t i = 0; i < 3; i++)
		cf_publish(&device, 1);
	cf_wait_ns(QUIET_NS);
	cf_expect(CF_LOAD(cf_ring.used.index), 0, "buffers used");
	cf_want(!told(), "the driver is not told of any");
	cf_want(pv_virtio_start(&device) >= 0, "DRIVER_OK");
	device.transport->notify(&device, 0);
	cf_want(cf_used(1), "then it comes back");
}

static void after_a_reset(void)
{
	cf_case("VIRTIO-2.4.1-2 %s: after a reset queues are left alone, and the driver too", shown);
	if (!start(0) || !cf_want(request(), "a request comes back"))
		return;
	soon_told();
	cf_down(&device);
	memset(cf_data, 0xee, sizeof(cf_data));
	for (uint32_t i = 0; i < 3; i++)
		cf_publish(&device, 2);
	cf_wait_ns(QUIET_NS);
	cf_expect(CF_LOAD(cf_ring.used.index), 1, "buffers used");
	cf_want(cf_data[0] == 0xee && cf_data[299] == 0xee, "no memory is written");
	cf_want(!told(), "the driver is told of none");
}

static void suppression(void)
{
	cf_case("VIRTIO-2.7.7.2-1 VIRTIO-2.7.7.2-2 VIRTIO-2.7.7.2-3 %s: notifications without EVENT_IDX", shown);
	if (!device.window_gpa && !cf_offered(PV_SERVICE_EVENT)) {
		cf_skip("service event is not offered");
		return;
	}
	start(0);
	cf_ring.used_event = 100;
	for (uint32_t i = 0; i < 3; i++)
		cf_want(request() && soon_told(), "flags of 0: told, whatever used_event is");
	cf_ring.avail.flags = PV_RING_F_AVAIL_NO_INTERRUPT;
	cf_ring.used_event = made;
	cf_want(request(), "a request comes back");
	cf_wait_ns(QUIET_NS);
	cf_want(!told(), "flags of 1: not told");
	cf_ring.avail.flags = 0;
	cf_want(request() && soon_told(), "flags of 0 again: told");
	cf_case("VIRTIO-2.7.7.2-4 VIRTIO-2.7.7.2-5 VIRTIO-2.7.7.2-6 %s: notifications with EVENT_IDX", shown);
	if (!start(PV_VIRTIO_F_EVENT_IDX) || !(device.features & PV_VIRTIO_F_EVENT_IDX)) {
		cf_skip("EVENT_IDX is not offered");
		return;
	}
	cf_want(request() && soon_told(), "used_event of 0: told of the first");
	for (uint16_t i = 0; i < 2 * CF_QUEUE_SIZE; i++) {
		bool wanted = i % 3 == 0;

		cf_ring.avail.flags = i & 1 ? PV_RING_F_AVAIL_NO_INTERRUPT : 0;
		CF_STORE(cf_ring.used_event, (uint16_t)(wanted ? made : made + 5));
		cf_want(request(), "a request comes back");
		if (wanted)
			cf_want(soon_told(), "told of the one that used_event names, whatever flags are");
		else
			cf_wait_ns(QUIET_NS / 10);
		cf_want(!told(), "of no other");
	}
}

static void notifications(void)
{
	cf_case("VIRTIO-2.7.10.2-1 VIRTIO-2.7.10.2-3 %s: flags of the used ring, and notifications without need",
		shown);
	start(0);
	for (uint32_t i = 0; i < 50; i++) {
		device.transport->notify(&device, 0);
		cf_want(CF_LOAD(cf_ring.used.flags) <= PV_USED_F_NO_NOTIFY, "flags are 0 or 1");
	}
	cf_expect(CF_LOAD(cf_ring.used.index), 0, "buffers used");
	cf_want(request(), "a request comes back");
	cf_want(CF_LOAD(cf_ring.used.flags) <= PV_USED_F_NO_NOTIFY, "flags are still 0 or 1");
	cf_case("VIRTIO-2.7.10.2-2 %s: flags of the used ring with EVENT_IDX", shown);
	start(PV_VIRTIO_F_EVENT_IDX);
	for (uint32_t i = 0; i < 10; i++) {
		cf_want(request(), "a request comes back");
		if (device.features & PV_VIRTIO_F_EVENT_IDX)
			cf_expect(CF_LOAD(cf_ring.used.flags), 0, "flags");
	}
}

/* Whether each byte of the first `count` was written when a request came back. */
static bool all_written(uint32_t count)
{
	static const uint8_t before[] = { 0xee, 0x11, 0x5a, 0xa5 };
	static bool written[CF_DATA_BYTES];

	memset(written, 0, sizeof(written));
	for (uint32_t round = 0; round < CF_COUNT(before); round++) {
		memset(cf_data, before[round], sizeof(cf_data));
		if (!request())
			return false;
		for (uint32_t i = 0; i < count; i++)
			written[i] |= cf_data[i] != before[round];
	}
	for (uint32_t i = 0; i < count; i++)
		if (!written[i])
			return false;
	return true;
}

static void lengths(void)
{
	cf_case("VIRTIO-2.7.8.2-2 %s: as many bytes as the length says are written", shown);
	if (!start(0) || !cf_want(request(), "a request comes back"))
		return;
	uint32_t length = cf_ring.entries[0].written_bytes;
	bool block = device.type == PV_DEVICE_TYPE_BLOCK;
	cf_want(length >= 1 && length <= (block ? CF_DATA_BYTES + 1 : 300), "a length within the buffers");
	if (length >= 1)
		cf_want(all_written(block ? length - 1 : length), "each byte is written");
	if (block)
		cf_expect(cf_status, PV_BLOCK_STATUS_OK, "the status");
}

static void randomness(void)
{
	bool differs = false;

	if (device.type != PV_DEVICE_TYPE_ENTROPY)
		return;
	cf_case("VIRTIO-5.4.6.2-1 %s: each buffer gets random bytes", shown);
	if (!start(0) || !cf_want(request(), "a request comes back"))
		return;
	/* It may give as little as one, which is the same now and then. */
	for (uint32_t round = 0; round < 8; round++) {
		uint8_t before = cf_data[0];

		cf_want(request(), "another one comes back");
		cf_want(cf_ring.entries[(made - 1) % CF_QUEUE_SIZE].written_bytes >= 1, "a byte or more");
		differs |= cf_data[0] != before;
	}
	cf_want(differs, "and not the same each time");
}

static void framing(void)
{
	static struct pv_block_header header;
	static uint8_t data[CF_DATA_BYTES];
	struct pv_virtq_desc chain[3];

	cf_case("VIRTIO-2.7.5.3.2-2 %s: a chain that ends with a table of descriptors", shown);
	if (!start(PV_VIRTIO_F_INDIRECT_DESC) || !(device.features & PV_VIRTIO_F_INDIRECT_DESC)) {
		cf_skip("INDIRECT_DESC is not offered");
	} else {
		cf_good_chain(&device, cf_table);
		memcpy(chain, cf_table, sizeof(chain));
		for (uint16_t alone = 1; alone < 3; alone++) {
			for (uint16_t i = 0; i < 3 - alone; i++) {
				cf_table[i] = chain[alone + i];
				cf_table[i].next = (uint16_t)(i + 1);
			}
			cf_ring.descriptors[alone] =
				(struct pv_virtq_desc){ pv_gpa(cf_table), (3u - alone) * (uint32_t)sizeof(cf_table[0]),
							CF_INDIRECT, 0 };
			cf_want(request(), "it comes back");
			cf_want(cf_ring.entries[(made - 1) % CF_QUEUE_SIZE].written_bytes > 0, "and was carried out");
			cf_good_chain(&device, cf_ring.descriptors);
		}
	}
	cf_case("VIRTIO-2.7.5.1-1 %s: what a device reads it does not write", shown);
	if (!start(0))
		return;
	if (device.type == PV_DEVICE_TYPE_BLOCK) {
		for (uint32_t i = 0; i < sizeof(data); i++)
			data[i] = cf_data[i] = (uint8_t)(i * 7);
		cf_header.type =
			PV_BLOCK_REQUEST_WRITE; /* a disk that is read-only refuses it, which will do as well */
		cf_ring.descriptors[1].flags = CF_NEXT;
		header = cf_header;
	}
	memcpy(chain, cf_ring.descriptors, sizeof(chain));
	cf_want(request(), "a request comes back");
	cf_want(!memcmp(chain, cf_ring.descriptors, sizeof(chain)), "the descriptors are as they were");
	cf_want(cf_ring.avail.index == made && !cf_ring.heads[0] && !cf_ring.avail.flags, "the available ring, too");
	if (device.type == PV_DEVICE_TYPE_BLOCK)
		cf_want(!memcmp(&header, &cf_header, sizeof(header)) && !memcmp(data, cf_data, sizeof(data)),
			"and so are header and data of a write");
}

/* Takes queue 0 back; whether the device says that it did. */
static bool reset_queue(void)
{
	if (!device.window_gpa)
		return pv_call2(PV_CALL_DEVICE_QUEUE_RESET, device.index, 0).status == PV_STATUS_OK;
	write32(PV_MMIO_QUEUE_SEL, 0);
	write32(PV_MMIO_QUEUE_RESET, 1);
	for (uint64_t end_ns = cf_now_ns() + PATIENCE_NS; read32(PV_MMIO_QUEUE_RESET);)
		if (cf_now_ns() > end_ns)
			return false;
	return !read32(PV_MMIO_QUEUE_READY);
}

static void queue_reset(void)
{
	struct pv_queue_setup setup = cf_queue_setup();

	cf_case("VIRTIO-2.6.1.1.1-1 VIRTIO-2.6.1.1.1-2 VIRTIO-2.6.1.2.1-1 %s: a queue is reset, and is another "
		"afterwards",
		shown);
	if (!device.window_gpa &&
	    !(cf_accept(PV_SERVICE_DEVICE, PV_DEVICE_FEATURE_QUEUE_RESET) & PV_DEVICE_FEATURE_QUEUE_RESET)) {
		cf_skip("QUEUE_RESET is not offered");
		return;
	}
	if (!start(PV_VIRTIO_F_RING_RESET) || !(device.features & PV_VIRTIO_F_RING_RESET)) {
		cf_skip("RING_RESET is not offered");
		return;
	}
	for (uint32_t i = 0; i < 3; i++)
		cf_want(request(), "a request comes back");
	cf_want(reset_queue(), "the queue is reset");
	told();
	for (uint32_t i = 0; i < 3; i++)
		cf_publish(&device, (uint16_t)(made + 1));
	cf_wait_ns(QUIET_NS);
	cf_expect(CF_LOAD(cf_ring.used.index), made, "buffers used");
	cf_want(!told(), "the driver is not told of any");
	memset(&cf_ring, 0, sizeof(cf_ring));
	setup.size = SMALL;
	setup.channel = cf_offered(PV_SERVICE_EVENT) ? CHANNEL : PV_NO_CHANNEL;
	setup.descriptors_gpa = pv_gpa(cf_table);
	cf_want(device.transport->queue_setup(&device, &setup) >= 0, "it is enabled, smaller and elsewhere");
	cf_good_chain(&device, cf_table);
	cf_want(!device.window_gpa || !read32(PV_MMIO_QUEUE_RESET), "QueueReset is 0");
	for (uint16_t i = 1; i <= 2 * SMALL + 1; i++) {
		cf_ring.entries[(i - 1) % SMALL].written_bytes = 0;
		cf_publish(&device, i);
		if (!cf_want(cf_used(i), "a request comes back, from the first place on"))
			break;
		cf_want(cf_ring.entries[(i - 1) % SMALL].written_bytes > 0, "in its place");
	}
}

static void in_order(void)
{
	uint32_t at = 0;

	cf_case("VIRTIO-6.2-3 %s: with IN_ORDER buffers come back in the order in which they went", shown);
	if (device.type == PV_DEVICE_TYPE_BLOCK || !start(PV_VIRTIO_F_IN_ORDER) ||
	    !(device.features & PV_VIRTIO_F_IN_ORDER)) {
		cf_skip("it does not offer IN_ORDER, or its requests take more than one descriptor");
		return;
	}
	memset(cf_ring.entries, 0xff, sizeof(cf_ring.entries));
	for (uint16_t i = 0; i < CF_QUEUE_SIZE; i++) {
		cf_ring.descriptors[i] = (struct pv_virtq_desc){ pv_gpa(cf_data) + i * 32u, 32, CF_WRITE, 0 };
		cf_ring.heads[i] = i;
	}
	cf_publish(&device, CF_QUEUE_SIZE);
	cf_want(cf_used(CF_QUEUE_SIZE), "all come back");
	/* An entry may stand for several, the last of which it names (virtio 2.7.9). */
	for (; at < CF_QUEUE_SIZE && cf_ring.entries[at].id >= at && cf_ring.entries[at].id < CF_QUEUE_SIZE;)
		at = cf_ring.entries[at].id + 1;
	cf_expect(at, CF_QUEUE_SIZE, "entries name them in order");
}

static void on(uint32_t type, const char *name, const char *what)
{
	shown = what;
	if (!cf_device(&device, type, name)) {
		cf_case("VIRTIO-2.1.2-1 %s: nothing is consumed before DRIVER_OK", what);
		cf_skip("no such device");
		return;
	}
	before_driver_ok();
	after_a_reset();
	suppression();
	notifications();
	lengths();
	randomness();
	framing();
	queue_reset();
	in_order();
	cf_down(&device);
}

static void chapter(void)
{
	on(PV_DEVICE_TYPE_BLOCK, "scratch", "block");
	on(PV_DEVICE_TYPE_ENTROPY, NULL, "entropy");
}

CF_CHAPTER(virtio_queues, chapter);
