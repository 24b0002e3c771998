/* SPDX-License-Identifier: 0BSD
 *
 * Chapter notify: a running device: doorbells, channels that it raises, resets of it and of one queue.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define DRIVER_OK PV_VIRTIO_STATUS_DRIVER_OK
#define LOOKING_NS 20000000 /* a device that looks by itself needs no doorbell */
#define NEEDS_RESET PV_VIRTIO_STATUS_NEEDS_RESET

static struct pv_virtio device;
static struct pv_device_info info; /* of it */

static void notifications(void)
{
	struct pv_queue_setup setup = cf_queue_setup();
	uint32_t doorbell = (uint32_t)cf_boot.abi->doorbell;

	cf_case("DEV-11 device.notify of what does not run");
	cf_set_status(&device, 0);
	cf_expect(cf_notify(&device, 0), PV_STATUS_BAD_STATE, "after a reset");
	cf_expect(cf_notify(&device, info.queues), PV_STATUS_NOT_FOUND, "no such queue");
	cf_expect(cf_notify(&device, 1ull << 32), PV_STATUS_NOT_FOUND, "a queue above 32 bits");
	cf_agree(&device);
	cf_setup_queue(&device, &setup);
	cf_expect(cf_notify(&device, 0), PV_STATUS_BAD_STATE, "before DRIVER_OK");
	cf_agree(&device);
	cf_set_status(&device, CF_AGREED | DRIVER_OK);
	cf_expect(cf_notify(&device, 0), PV_STATUS_BAD_STATE, "a queue that is not enabled");
	cf_case("DEV-8 doorbells that name no enabled queue are ignored");
	for (uint32_t i = 0; i < 64; i++)
		pv_out32((uint16_t)doorbell, i & 1 ? 0x9e3779b9u * i : device.index << 16 | (i >> 1));
	cf_expect(cf_status_of(&device), CF_AGREED | DRIVER_OK, "status");
	cf_case("DEV-8 DEV-11 a doorbell and device.notify each tell of a request");
	cf_want(cf_up(&device, 0, &setup), "the device starts");
	cf_good_chain(&device, cf_ring.descriptors);
	cf_wait_ns(LOOKING_NS);
	cf_publish(&device, 1);
	cf_want(cf_used(1), "the request of the doorbell comes back");
	cf_good_chain(&device, cf_ring.descriptors);
	cf_wait_ns(LOOKING_NS);
	CF_STORE(cf_ring.avail.index, 2);
	cf_expect(cf_notify(&device, 0), PV_STATUS_OK, "device.notify");
	cf_want(cf_used(2), "the request of device.notify comes back");
	cf_set_status(&device, 0);
}

/* One request; true if it came back. */
static bool request(uint16_t number)
{
	cf_good_chain(&device, cf_ring.descriptors);
	cf_publish(&device, number);
	return cf_want(cf_used(number), "a request comes back");
}

static bool raised(uint32_t channel)
{
	uint64_t bit = 1ull << channel % 64;

	CF_STORE(cf_page(0)->upcall_pending, 0);
	return __atomic_fetch_and(&cf_page(0)->pending[channel / 64], ~bit, __ATOMIC_SEQ_CST) & bit;
}

/* A device raises after it used, in its own time. */
static bool soon_raised(uint32_t channel)
{
	uint64_t end_ns = cf_now_ns() + CF_SECOND;

	while (!raised(channel))
		if (cf_now_ns() > end_ns)
			return false;
	return true;
}

static void bindings(void)
{
	struct pv_queue_setup setup = cf_queue_setup();
	const uint32_t first = CF_CHANNEL + 20, second = PV_LIMIT_CHANNELS - 1;

	cf_case("DEV-16 a binding holds until the next");
	cf_expect(cf_bind(&device, info.queues, 0, first), PV_STATUS_NOT_FOUND, "no such queue");
	cf_expect(cf_bind(&device, 0, cf_vcpus(), first), PV_STATUS_NOT_FOUND, "no such vCPU");
	cf_expect(cf_bind(&device, 0, 0, PV_LIMIT_CHANNELS), PV_STATUS_NOT_FOUND, "no such channel");
	cf_expect(cf_bind(&device, 0, 0, 1ull << 32 | first), PV_STATUS_NOT_FOUND, "a channel above 32 bits");
	raised(first);
	raised(second);
	setup.channel = first;
	cf_want(cf_up(&device, 0, &setup), "the device starts");
	request(1);
	cf_want(soon_raised(first), "the channel of device.queue_setup is raised");
	cf_expect(cf_bind(&device, 0, 0, second), PV_STATUS_OK, "device.bind");
	raised(first); /* what was used before may have been told the old way */
	request(2);
	cf_want(soon_raised(second), "the channel of device.bind is raised");
	cf_want(!raised(first), "the one before is not");
	cf_expect(cf_bind(&device, 0, 0, PV_NO_CHANNEL), PV_STATUS_OK, "device.bind to none");
	request(3);
	cf_wait_ns(CF_SECOND / 200);
	cf_want(!raised(first) && !raised(second), "no channel is raised");
	cf_case("DEV-7 DEV-16 a fault raises the channel that the configuration is bound to");
	cf_expect(cf_bind(&device, PV_BINDING_CONFIG, 0, first), PV_STATUS_OK, "device.bind");
	cf_ring.heads[3] = 0xffff;
	cf_publish(&device, 4);
	cf_want(soon_raised(first), "the channel is raised");
	cf_expect(cf_status_of(&device) & (int64_t)NEEDS_RESET, NEEDS_RESET, "NEEDS_RESET");
	cf_expect(cf_setup_queue(&device, &setup), PV_STATUS_BAD_STATE, "a queue is refused now");
	cf_expect(cf_set_status(&device, CF_AGREED | DRIVER_OK), PV_STATUS_OK, "a status without NEEDS_RESET");
	cf_expect(cf_status_of(&device) & (int64_t)NEEDS_RESET, NEEDS_RESET, "which does not clear it");
}

static void resets(void)
{
	struct pv_queue_setup setup = cf_queue_setup();
	const uint32_t channel = CF_CHANNEL + 20;

	cf_case("DEV-15 a reset forgets queues, bindings and features; what is pending stays so");
	setup.channel = channel;
	cf_want(cf_up(&device, 0, &setup), "the device starts");
	cf_bind(&device, PV_BINDING_CONFIG, 0, channel);
	request(1);
	cf_expect(cf_set_status(&device, 0), PV_STATUS_OK, "reset");
	cf_want(soon_raised(channel), "the channel stays pending");
	CF_STORE(cf_ring.avail.index, 2);
	cf_header.type = PV_BLOCK_REQUEST_READ;
	memset(cf_data, 0xee, sizeof(cf_data));
	pv_out32((uint16_t)cf_boot.abi->doorbell, device.index << 16);
	cf_notify(&device, 0);
	cf_wait_ns(CF_SECOND / 200);
	cf_expect(CF_LOAD(cf_ring.used.index), 1, "buffers used after the reset");
	cf_want(cf_data[0] == 0xee && cf_data[99] == 0xee, "no memory is written after the reset");
	cf_set_status(&device, PV_VIRTIO_STATUS_ACKNOWLEDGE);
	cf_set_status(&device, PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER);
	cf_set_status(&device, CF_AGREED);
	cf_expect(cf_status_of(&device), PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER,
		  "FEATURES_OK with none accepted since");
	cf_set_status(&device, 0);
	cf_agree(&device);
	cf_expect(cf_status_of(&device), CF_AGREED, "features are agreed anew");
	setup.channel = PV_NO_CHANNEL;
	cf_expect(cf_setup_queue(&device, &setup), PV_STATUS_OK, "the queue is set up anew");
	memset(&cf_ring, 0, sizeof(cf_ring));
	cf_set_status(&device, CF_AGREED | DRIVER_OK);
	request(1);
	cf_ring.heads[1] = 0xffff;
	cf_publish(&device, 2);
	cf_want(cf_gives_up(&device), "a fault");
	cf_wait_ns(CF_SECOND / 200);
	cf_want(!raised(channel), "the bindings of before are not used");
	cf_set_status(&device, 0);
}

static void queue_reset(void)
{
	struct pv_queue_setup setup = cf_queue_setup();
	uint64_t offered = pv_call2(PV_CALL_DEVICE_FEATURES, device.index, 0).value;

	cf_case("DEV-17 device.queue_reset takes one queue back");
	if (!(cf_accept(PV_SERVICE_DEVICE, PV_DEVICE_FEATURE_QUEUE_RESET) & PV_DEVICE_FEATURE_QUEUE_RESET)) {
		cf_skip("QUEUE_RESET is not offered");
		return;
	}
	cf_want(cf_up(&device, 0, &setup), "the device starts");
	cf_expect(pv_call2(PV_CALL_DEVICE_QUEUE_RESET, device.index, info.queues).status, PV_STATUS_NOT_FOUND,
		  "no such queue");
	cf_expect(pv_call2(PV_CALL_DEVICE_QUEUE_RESET, device.index, 0).status, PV_STATUS_BAD_STATE,
		  "RING_RESET was not agreed");
	if (!(offered & PV_VIRTIO_F_RING_RESET))
		return;
	cf_want(cf_up(&device, PV_VIRTIO_F_RING_RESET, &setup), "the device starts");
	request(1);
	cf_expect(pv_call2(PV_CALL_DEVICE_QUEUE_RESET, device.index, 0).status, PV_STATUS_OK, "status");
	cf_expect(cf_notify(&device, 0), PV_STATUS_BAD_STATE, "device.notify of the queue");
	cf_expect(pv_call2(PV_CALL_DEVICE_QUEUE_RESET, device.index, 0).status, PV_STATUS_BAD_STATE, "not enabled");
	memset(&cf_ring, 0, sizeof(cf_ring));
	cf_expect(cf_setup_queue(&device, &setup), PV_STATUS_OK, "the queue is set up while the device runs");
	request(1);
	cf_set_status(&device, 0);
}

static void running_device(void)
{
	if (!cf_called_device(&device, &info)) {
		cf_case("DEV-7 DEV-8 DEV-11 DEV-15 DEV-16 DEV-17 a running device");
		cf_skip("no device by calls");
		return;
	}
	notifications();
	if (cf_offered(PV_SERVICE_EVENT)) {
		bindings();
		resets();
	}
	queue_reset();
}

CF_CHAPTER(notify, running_device);
