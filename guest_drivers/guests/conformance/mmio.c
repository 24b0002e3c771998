/* SPDX-License-Identifier: 0BSD
 *
 * Chapter mmio: devices behind virtio-mmio windows, which the command line names.  Where there are any, the
 * chapters virtqueue and block use them as well.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define MAGIC 0x74726976u
#define VERSION 2u
#define ACKNOWLEDGE PV_VIRTIO_STATUS_ACKNOWLEDGE
#define DRIVER PV_VIRTIO_STATUS_DRIVER
#define DRIVER_OK PV_VIRTIO_STATUS_DRIVER_OK
#define FAILED PV_VIRTIO_STATUS_FAILED
#define USED_BUFFER 1u
#define CONFIGURATION 2u

static struct pv_virtio device;

static uint32_t read32(uint32_t offset)
{
	return *(volatile uint32_t *)pv_at(device.window_gpa + offset);
}

static void write32(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)pv_at(device.window_gpa + offset) = value;
}

static uint16_t read16(uint32_t offset)
{
	return *(volatile uint16_t *)pv_at(device.window_gpa + offset);
}

static uint8_t read8(uint32_t offset)
{
	return *(volatile uint8_t *)pv_at(device.window_gpa + offset);
}

static void windows(void)
{
	uint64_t end = 0, first;

	cf_case("MMIO-4 VIRTIO-4.2.2.1-1 VIRTIO-4.2.2.1-2 each device has a window of its own");
	first = device.window_gpa; /* is not found with another magic or version */
	cf_expect(read32(PV_MMIO_MAGIC), MAGIC, "magic of the first");
	cf_expect(read32(PV_MMIO_VERSION), VERSION, "version of the first");
	for (uint32_t number = 0; cf_window(&device, number); number++) {
		cf_expect(read32(PV_MMIO_MAGIC), MAGIC, "magic");
		cf_expect(read32(PV_MMIO_VERSION), VERSION, "version");
		cf_want(device.window_gpa >= end, "it begins after the one before");
		end = device.window_gpa + PV_MMIO_WINDOW_BYTES;
	}
	device.window_gpa = first;
	cf_case("DEV-13 a device behind a window does not exist for device calls");
	if (!cf_offered(PV_SERVICE_DEVICE)) {
		cf_skip("service device is not offered");
		return;
	}
	static struct pv_device_info list[PV_LIMIT_DEVICES];
	uint64_t count = pv_call2(PV_CALL_DEVICE_LIST, pv_gpa(list), sizeof(list)).value / sizeof(list[0]);
	for (uint64_t i = 0; i < count; i++)
		cf_want(list[i].type != device.type, "its type is not listed");
	for (uint32_t index = 0, at = 0; index < PV_LIMIT_DEVICES; index++) {
		bool listed = at < count && list[at].device == index;

		at += listed;
		if (!listed)
			cf_expect(pv_call1(PV_CALL_DEVICE_STATUS, index).status, PV_STATUS_NOT_FOUND, "device.status");
	}
}

static void widths(void)
{
	cf_case("MMIO-1 accesses that are not of 32 bits, or beyond the registers");
	cf_expect(read8(PV_MMIO_MAGIC), 0, "an 8-bit read of a register");
	cf_expect(read16(PV_MMIO_MAGIC), 0, "a 16-bit read of a register");
	write32(PV_MMIO_STATUS, 0);
	*(volatile uint8_t *)pv_at(device.window_gpa + PV_MMIO_STATUS) = ACKNOWLEDGE;
	*(volatile uint16_t *)pv_at(device.window_gpa + PV_MMIO_STATUS) = ACKNOWLEDGE;
	cf_expect(read32(PV_MMIO_STATUS), 0, "the status after narrow writes");
	cf_expect(read32(PV_MMIO_CONFIG + 0xfc), 0, "a read behind the configuration");
	if (device.type == PV_DEVICE_TYPE_BLOCK) {
		uint32_t low = read32(PV_MMIO_CONFIG);

		cf_expect(read16(PV_MMIO_CONFIG), low & 0xffff, "a 16-bit read of the configuration");
		cf_expect(read8(PV_MMIO_CONFIG + 1), low >> 8 & 0xff, "an 8-bit read of it");
		write32(PV_MMIO_CONFIG, ~low);
		cf_expect(read32(PV_MMIO_CONFIG), low, "the capacity, after a write to it");
	}
	cf_case("MMIO-3 there is no shared memory region");
	for (uint32_t number = 0; number < 3; number++) {
		write32(PV_MMIO_SHM_SEL, number);
		cf_expect(read32(PV_MMIO_SHM_LENGTH_LOW) & read32(PV_MMIO_SHM_LENGTH_HIGH), 0xffffffff, "length");
		cf_expect(read32(PV_MMIO_SHM_BASE_LOW) & read32(PV_MMIO_SHM_BASE_HIGH), 0xffffffff, "address");
	}
}

/* The offered features as they stand, in both halves. */
static void accept_offered(uint32_t low, uint32_t high)
{
	write32(PV_MMIO_DRIVER_FEATURES_SEL, 0);
	write32(PV_MMIO_DRIVER_FEATURES, low);
	write32(PV_MMIO_DRIVER_FEATURES_SEL, 1);
	write32(PV_MMIO_DRIVER_FEATURES, high);
}

static void refused(void)
{
	cf_case("DEV-14 a step that is refused has no effect");
	write32(PV_MMIO_STATUS, 0);
	write32(PV_MMIO_STATUS, DRIVER);
	cf_expect(read32(PV_MMIO_STATUS), 0, "DRIVER without ACKNOWLEDGE");
	write32(PV_MMIO_STATUS, ACKNOWLEDGE);
	write32(PV_MMIO_STATUS, ACKNOWLEDGE | 32);
	cf_expect(read32(PV_MMIO_STATUS), ACKNOWLEDGE, "a bit that is not defined");
	write32(PV_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
	accept_offered(0, 0);
	write32(PV_MMIO_STATUS, CF_AGREED);
	cf_expect(read32(PV_MMIO_STATUS), ACKNOWLEDGE | DRIVER, "FEATURES_OK without VERSION_1");
	accept_offered(0, (uint32_t)(PV_VIRTIO_F_VERSION_1 >> 32));
	write32(PV_MMIO_STATUS, CF_AGREED);
	cf_expect(read32(PV_MMIO_STATUS), CF_AGREED, "FEATURES_OK with it");
	write32(PV_MMIO_QUEUE_SEL, 0);
	write32(PV_MMIO_QUEUE_SIZE, 8);
	write32(PV_MMIO_QUEUE_DESC_LOW, 8); /* not aligned */
	write32(PV_MMIO_QUEUE_READY, 1);
	cf_expect(read32(PV_MMIO_QUEUE_READY), 0, "a queue that is not aligned");
	write32(PV_MMIO_STATUS, CF_AGREED | FAILED);
	write32(PV_MMIO_STATUS, CF_AGREED | FAILED | DRIVER_OK);
	cf_expect(read32(PV_MMIO_STATUS), CF_AGREED | FAILED, "DRIVER_OK after FAILED");
	write32(PV_MMIO_STATUS, 0);
	cf_expect(read32(PV_MMIO_STATUS), 0, "after a reset");
}

static void running(void)
{
	cf_case("MMIO-2 QUEUE_READY of a running device cannot be cleared");
	if (device.type != PV_DEVICE_TYPE_BLOCK && device.type != PV_DEVICE_TYPE_ENTROPY) {
		cf_skip("no device whose requests are known here");
		return;
	}
	cf_want(cf_works(&device, 0), "the device works");
	write32(PV_MMIO_QUEUE_SEL, 0);
	write32(PV_MMIO_QUEUE_READY, 0);
	cf_good_chain(&device, cf_ring.descriptors);
	cf_publish(&device, 2);
	cf_want(cf_used(2), "and works on");
	cf_down(&device);
}

/* A request of the device's, once more; whether it comes back. */
static bool request(uint16_t number)
{
	cf_good_chain(&device, cf_ring.descriptors);
	cf_publish(&device, number);
	return cf_want(cf_used(number), "a request comes back");
}

/* The event is there, now or soon: a device tells of a buffer after it used it. */
static bool event(uint32_t bit)
{
	uint64_t end_ns = cf_now_ns() + CF_SECOND;

	while (!(read32(PV_MMIO_INTERRUPT_STATUS) & bit))
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}

static void events(void)
{
	struct pv_queue_setup setup = cf_queue_setup();

	cf_case("VIRTIO-4.2.2.1-3 VIRTIO-4.2.2.1-4 INTERRUPT_STATUS has the events that happened, until acknowledged");
	if (!cf_want(cf_up(&device, 0, &setup), "the device starts"))
		return;
	cf_expect(read32(PV_MMIO_INTERRUPT_STATUS), 0, "events at first");
	request(1);
	cf_want(event(USED_BUFFER), "a used buffer");
	write32(PV_MMIO_INTERRUPT_ACK, CONFIGURATION);
	cf_expect(read32(PV_MMIO_INTERRUPT_STATUS), USED_BUFFER, "after another was acknowledged");
	write32(PV_MMIO_INTERRUPT_ACK, USED_BUFFER);
	cf_expect(read32(PV_MMIO_INTERRUPT_STATUS), 0, "after it was acknowledged");
	request(2);
	cf_want(event(USED_BUFFER), "the next used buffer");
	cf_case("VIRTIO-2.1.2-3 NEEDS_RESET is told as an event of the configuration");
	cf_ring.heads[2] = 0xffff;
	cf_publish(&device, 3);
	cf_want(cf_gives_up(&device), "the device gives up");
	cf_want(event(CONFIGURATION), "the event");
	cf_case("VIRTIO-4.2.2.1-5 a reset clears INTERRUPT_STATUS, and QUEUE_READY of each queue");
	write32(PV_MMIO_STATUS, 0);
	cf_expect(read32(PV_MMIO_INTERRUPT_STATUS), 0, "events");
	for (uint32_t queue = 0; queue < 8; queue++) {
		write32(PV_MMIO_QUEUE_SEL, queue);
		cf_expect(read32(PV_MMIO_QUEUE_READY), 0, "QUEUE_READY");
	}
}

/* All of a queue is said but that it is ready. */
static void not_ready(void)
{
	cf_case("VIRTIO-4.2.2.1-7 a queue that is not ready is left alone");
	memset(&cf_ring, 0, sizeof(cf_ring));
	cf_want(pv_virtio_agree(&device, 0, 0) >= 0, "features are agreed on");
	write32(PV_MMIO_QUEUE_SEL, 0);
	write32(PV_MMIO_QUEUE_SIZE, CF_QUEUE_SIZE);
	write32(PV_MMIO_QUEUE_DESC_LOW, (uint32_t)pv_gpa(cf_ring.descriptors));
	write32(PV_MMIO_QUEUE_DRIVER_LOW, (uint32_t)pv_gpa(&cf_ring.avail));
	write32(PV_MMIO_QUEUE_DEVICE_LOW, (uint32_t)pv_gpa(&cf_ring.used));
	write32(PV_MMIO_STATUS, CF_AGREED | DRIVER_OK);
	cf_good_chain(&device, cf_ring.descriptors);
	cf_publish(&device, 1);
	cf_wait_ns(CF_SECOND / 100);
	cf_expect(CF_LOAD(cf_ring.used.index), 0, "buffers used");
	cf_expect(read32(PV_MMIO_INTERRUPT_STATUS), 0, "events");
	cf_down(&device);
}

static void queue_reset(void)
{
	struct pv_queue_setup setup = cf_queue_setup();

	cf_case("VIRTIO-4.2.2.1-8 VIRTIO-4.2.2.1-9 VIRTIO-4.2.2.1-10 VIRTIO-4.2.2.1-12 QUEUE_RESET");
	if (!cf_device(&device, PV_DEVICE_TYPE_BLOCK, NULL) || !cf_up(&device, PV_VIRTIO_F_RING_RESET, &setup) ||
	    !(device.features & PV_VIRTIO_F_RING_RESET)) {
		cf_skip("no disk, or it does not offer RING_RESET");
		return;
	}
	write32(PV_MMIO_QUEUE_SEL, 0);
	cf_expect(read32(PV_MMIO_QUEUE_RESET), 0, "after a reset");
	request(1);
	write32(PV_MMIO_QUEUE_RESET, 1);
	for (uint64_t end_ns = cf_now_ns() + CF_SECOND; read32(PV_MMIO_QUEUE_RESET) && cf_now_ns() < end_ns;)
		cf_relax();
	cf_expect(read32(PV_MMIO_QUEUE_RESET), 0, "when the queue was reset");
	cf_expect(read32(PV_MMIO_QUEUE_READY), 0, "QUEUE_READY then");
	memset(&cf_ring, 0, sizeof(cf_ring));
	cf_want(device.transport->queue_setup(&device, &setup) >= 0, "it can be enabled again");
	cf_expect(read32(PV_MMIO_QUEUE_RESET), 0, "when it is");
	request(1);
	cf_down(&device);
}

static void mmio(void)
{
	if (!cf_device(&device, PV_DEVICE_TYPE_ENTROPY, NULL) || !device.window_gpa)
		cf_window(&device, 0);
	if (!device.window_gpa) {
		cf_case("DEV-13 DEV-14 MMIO-1 MMIO-2 MMIO-3 MMIO-4 windows");
		cf_skip("no device is reached by virtio-mmio");
		return;
	}
	windows();
	widths();
	refused();
	running();
	if (device.type == PV_DEVICE_TYPE_BLOCK || device.type == PV_DEVICE_TYPE_ENTROPY) {
		events();
		not_ready();
	}
	queue_reset();
}

CF_CHAPTER(mmio, mmio);
