/* SPDX-License-Identifier: 0BSD
 *
 * Chapter device: the service device call by call: list, status machine, features, configuration, queues.  What
 * a running device does is the chapter notify's, what lies in a queue the chapter virtqueue's.
 */
#include "support/device.h"
#include "paravirt/string.h"

#define ACKNOWLEDGE PV_VIRTIO_STATUS_ACKNOWLEDGE
#define DRIVER PV_VIRTIO_STATUS_DRIVER
#define DRIVER_OK PV_VIRTIO_STATUS_DRIVER_OK
#define FEATURES_OK PV_VIRTIO_STATUS_FEATURES_OK
#define NEEDS_RESET PV_VIRTIO_STATUS_NEEDS_RESET
#define FAILED PV_VIRTIO_STATUS_FAILED
#define NO_DEVICE PV_LIMIT_DEVICES

static struct pv_device_info list[PV_LIMIT_DEVICES + 1];
static struct pv_virtio device;
static struct pv_device_info info; /* of it */

static uint64_t take_list(void)
{
	return pv_call2(PV_CALL_DEVICE_LIST, pv_gpa(list), sizeof(list)).value / sizeof(list[0]);
}

static void listing(void)
{
	static const char *const names[] = {
		"scratch", "fixed", "mapped", "frozen", "wire", "socks", "rubber", "dice"
	};
	uint64_t count = take_list(), found;

	cf_case("NOTE-3 only devices of the manifest are offered");
	for (uint64_t i = 0; i < count; i++) {
		for (found = 0; found < CF_COUNT(names) && strncmp(list[i].name, names[found], 32); found++)
			;
		cf_want(found < CF_COUNT(names), "a name of the manifest");
		cf_want(list[i].type != PV_DEVICE_TYPE_CONSOLE, "no console, which it does not have");
		cf_want(list[i].queues >= 1 && list[i].config_bytes <= PV_LIMIT_CONFIG_BYTES,
			"queues and configuration");
		cf_want(!(list[i].flags & ~(uint32_t)PV_DEVICE_FLAG_READ_ONLY), "flags that a device can have");
	}
	cf_case("DEV-21 CALL-11 device.list writes whole records only, in the order of indexes");
	for (uint64_t i = 0; i < count; i++)
		cf_want(list[i].device < PV_LIMIT_DEVICES && (!i || list[i].device > list[i - 1].device), "the index");
	for (uint64_t fit = 0; fit <= count; fit++)
		cf_expect((int64_t)pv_call2(PV_CALL_DEVICE_LIST, pv_gpa(list), fit * sizeof(list[0]) + 8).value,
			  (int64_t)(fit * sizeof(list[0])), "bytes written");
}

static void no_device(void)
{
	static const struct pv_queue_setup setup;

	cf_case("CALL-6 a device that does not exist: NOT_FOUND, before its other arguments");
	for (uint32_t function = 1; function <= 12; function++) {
		uint32_t id = PV_SERVICE_DEVICE << 16 | function;
		bool alone = id == PV_CALL_DEVICE_STATUS || id == PV_CALL_DEVICE_GENERATION;
		uint64_t second = id == PV_CALL_DEVICE_QUEUE_SETUP ? pv_gpa(&setup) : alone ? 0 : 77;

		if (!cf_exists(id))
			continue;
		cf_expect(pv_call2(id, NO_DEVICE, second).status, PV_STATUS_NOT_FOUND, "the first too many");
		cf_expect(pv_call2(id, 1ull << 32 | device.index, second).status, PV_STATUS_NOT_FOUND, "above 32 bits");
	}
}

static void statuses(void)
{
	static const uint64_t undefined[] = { 16, 32, 256, 1ull << 32, 1ull << 63 };
	static const uint64_t early[] = { DRIVER,
					  FEATURES_OK,
					  ACKNOWLEDGE | FEATURES_OK,
					  DRIVER_OK,
					  ACKNOWLEDGE | DRIVER | DRIVER_OK,
					  CF_AGREED | DRIVER_OK };

	cf_case("DEV-1 a device starts in the state after reset, and a reset leads there");
	cf_expect(cf_status_of(&device), 0, "status at first, or as the chapter before left it");
	cf_expect(cf_set_status(&device, 0), PV_STATUS_OK, "reset");
	cf_expect(cf_status_of(&device), 0, "status");
	cf_expect(cf_set_status(&device, ACKNOWLEDGE), PV_STATUS_OK, "ACKNOWLEDGE");
	cf_expect(cf_status_of(&device), ACKNOWLEDGE, "status");
	cf_expect(cf_set_status(&device, ACKNOWLEDGE | DRIVER), PV_STATUS_OK, "DRIVER");
	cf_expect(cf_status_of(&device), ACKNOWLEDGE | DRIVER, "status");
	cf_case("DEV-2 bits that are cleared, not defined, or the device's own");
	cf_expect(cf_set_status(&device, ACKNOWLEDGE), PV_STATUS_INVALID, "DRIVER cleared");
	cf_expect(cf_set_status(&device, DRIVER), PV_STATUS_INVALID, "ACKNOWLEDGE cleared");
	cf_expect(cf_set_status(&device, ACKNOWLEDGE | DRIVER | NEEDS_RESET), PV_STATUS_INVALID, "NEEDS_RESET set");
	for (uint32_t i = 0; i < CF_COUNT(undefined); i++)
		cf_expect(cf_set_status(&device, ACKNOWLEDGE | DRIVER | undefined[i]), PV_STATUS_INVALID,
			  "an undefined bit");
	cf_expect(cf_status_of(&device), ACKNOWLEDGE | DRIVER, "status after what was refused");
	cf_case("DEV-9 steps out of order");
	for (uint32_t i = 0; i < CF_COUNT(early); i++) {
		cf_set_status(&device, 0);
		cf_expect(cf_set_status(&device, early[i]), PV_STATUS_BAD_STATE, "a step before its turn");
		cf_expect(cf_status_of(&device), 0, "status afterwards");
	}
	cf_agree(&device);
	cf_set_status(&device, CF_AGREED | FAILED);
	cf_expect(cf_set_status(&device, CF_AGREED | FAILED | DRIVER_OK), PV_STATUS_BAD_STATE,
		  "DRIVER_OK after FAILED");
	cf_expect(cf_status_of(&device), CF_AGREED | FAILED, "status");
	cf_expect(cf_set_status(&device, 0), PV_STATUS_OK, "reset after FAILED");
}

static void features(void)
{
	uint64_t offered = pv_call2(PV_CALL_DEVICE_FEATURES, device.index, 0).value;
	uint64_t not_offered = ~offered & -~offered;

	cf_case("DEV-3 FEATURES_OK stays clear when the features do not do");
	cf_expect((int64_t)offered >> PV_VIRTIO_F_VERSION_1_BIT & 1, 1, "VERSION_1 is offered");
	for (uint32_t i = 0; i < 3; i++) {
		cf_set_status(&device, 0);
		cf_set_status(&device, ACKNOWLEDGE);
		cf_set_status(&device, ACKNOWLEDGE | DRIVER);
		cf_expect(cf_accept_bits(&device, 0,
					 i == 0	  ? 0
					 : i == 1 ? PV_VIRTIO_F_VERSION_1 | not_offered
						  : PV_VIRTIO_F_VERSION_1),
			  PV_STATUS_OK, "device.accept");
		cf_accept_bits(&device, 1, i == 2 ? 1ull << 63 : 0);
		struct pv_answer answer = pv_call2(PV_CALL_DEVICE_SET_STATUS, device.index, CF_AGREED);
		cf_expect(answer.status, PV_STATUS_OK, "device.set_status");
		cf_expect((int64_t)answer.value, ACKNOWLEDGE | DRIVER, "status");
	}
	cf_agree(&device);
	cf_expect(cf_status_of(&device), CF_AGREED, "status with good features");
	cf_case("DEV-4 device.accept after FEATURES_OK");
	cf_expect(cf_accept_bits(&device, 0, PV_VIRTIO_F_VERSION_1), PV_STATUS_BAD_STATE, "the same features");
	cf_expect(cf_accept_bits(&device, 1, 0), PV_STATUS_BAD_STATE, "the other block");
	cf_case("CALL-6 blocks of features that do not exist");
	cf_expect(pv_call2(PV_CALL_DEVICE_FEATURES, device.index, 2).status, PV_STATUS_INVALID, "device.features");
	cf_expect(pv_call2(PV_CALL_DEVICE_FEATURES, device.index, 1ull << 32).status, PV_STATUS_INVALID, "2^32");
	cf_expect(cf_accept_bits(&device, 2, 0), PV_STATUS_INVALID, "device.accept, before its state");
	cf_set_status(&device, 0);
}

static int64_t config(uint32_t call, uint64_t offset, uint64_t size_bytes)
{
	static uint8_t data[PV_LIMIT_CONFIG_BYTES];
	struct pv_answer answer = pv_call4(call, device.index, offset, pv_gpa(data), size_bytes);

	return answer.status < 0 ? answer.status : (int64_t)answer.value;
}

static void configuration(void)
{
	const uint64_t end = info.config_bytes;

	cf_case("DEV-6 configuration accesses beyond the space");
	cf_expect(config(PV_CALL_DEVICE_CONFIG_READ, 0, end), (int64_t)end, "all of it");
	cf_expect(config(PV_CALL_DEVICE_CONFIG_READ, end, 0), 0, "nothing at its end");
	cf_expect(config(PV_CALL_DEVICE_CONFIG_READ, 0, end + 1), PV_STATUS_INVALID, "one byte too many");
	cf_expect(config(PV_CALL_DEVICE_CONFIG_READ, end, 1), PV_STATUS_INVALID, "behind the end");
	cf_expect(config(PV_CALL_DEVICE_CONFIG_READ, ~0ull, 2), PV_STATUS_INVALID, "an offset that wraps");
	cf_expect(config(PV_CALL_DEVICE_CONFIG_READ, 1ull << 32, 1), PV_STATUS_INVALID, "an offset above 32 bits");
	cf_expect(config(PV_CALL_DEVICE_CONFIG_WRITE, end, 1), PV_STATUS_INVALID, "a write behind the end");
	cf_expect(config(PV_CALL_DEVICE_CONFIG_WRITE, ~0ull, 2), PV_STATUS_INVALID, "a write that wraps");
	if (device.type == PV_DEVICE_TYPE_BLOCK)
		cf_expect(config(PV_CALL_DEVICE_CONFIG_WRITE, 0, 8), PV_STATUS_INVALID, "a write to the capacity");
	cf_expect(pv_call1(PV_CALL_DEVICE_GENERATION, device.index).status, PV_STATUS_OK, "device.generation");
}

static void queues(void)
{
	const struct pv_queue_setup good = cf_queue_setup();
	uint64_t most = pv_call2(PV_CALL_DEVICE_QUEUE_SIZE, device.index, 0).value;
	struct {
		const char *what;
		int64_t status;
		struct pv_queue_setup setup;
	} bad[] = {
		{ "no such queue", PV_STATUS_NOT_FOUND, good },
		{ "no such vCPU", PV_STATUS_NOT_FOUND, good },
		{ "no such channel", PV_STATUS_NOT_FOUND, good },
		{ "a size of zero", PV_STATUS_INVALID, good },
		{ "a size of 7", PV_STATUS_INVALID, good },
		{ "a size above the maximum", PV_STATUS_INVALID, good },
		{ "size before alignment", PV_STATUS_INVALID, good },
		{ "alignment before range", PV_STATUS_UNALIGNED, good },
		{ "no memory there", PV_STATUS_BAD_ADDRESS, good },
		{ "padding", PV_STATUS_INVALID, good },
	};

	cf_case("DEV-10 CALL-6 CALL-14 device.queue_setup with arguments that only it can judge");
	cf_want(most >= CF_QUEUE_SIZE && most <= PV_LIMIT_QUEUE_SIZE, "the maximum of queue 0");
	cf_expect((int64_t)pv_call2(PV_CALL_DEVICE_QUEUE_SIZE, device.index, info.queues).value, 0, "of no queue");
	bad[0].setup.queue = info.queues;
	bad[1].setup.vcpu = cf_vcpus();
	bad[1].setup.channel = CF_CHANNEL;
	bad[2].setup.channel = PV_LIMIT_CHANNELS;
	bad[3].setup.size = 0;
	bad[4].setup.size = 7;
	bad[5].setup.size = (uint16_t)(2 * most);
	bad[6].setup.size = 7;
	bad[6].setup.driver_gpa += 1;
	bad[7].setup.driver_gpa = CF_NOWHERE + 1;
	bad[8].setup.device_gpa = CF_NOWHERE;
	bad[9].setup.reserved0[3] = 1;
	for (uint32_t before = 0; before < 2; before++) {
		/* in the right state, and in the wrong one, which is judged last */
		cf_set_status(&device, 0);
		if (!before)
			cf_agree(&device);
		for (uint32_t i = 0; i < CF_COUNT(bad); i++)
			cf_expect(cf_setup_queue(&device, &bad[i].setup), bad[i].status, bad[i].what);
	}
}

static void queue_states(void)
{
	struct pv_queue_setup good = cf_queue_setup(), setup;

	cf_case("DEV-5 device.queue_setup in the wrong state");
	cf_set_status(&device, 0);
	cf_expect(cf_setup_queue(&device, &good), PV_STATUS_BAD_STATE, "before FEATURES_OK");
	cf_agree(&device);
	cf_expect(cf_setup_queue(&device, &good), PV_STATUS_OK, "a good queue");
	cf_expect(cf_setup_queue(&device, &good), PV_STATUS_BAD_STATE, "an enabled queue");
	cf_set_status(&device, CF_AGREED | DRIVER_OK);
	setup = good;
	setup.queue = (uint16_t)(info.queues - 1);
	cf_expect(cf_setup_queue(&device, &setup), PV_STATUS_BAD_STATE, "after DRIVER_OK without RING_RESET");
	cf_agree(&device);
	cf_set_status(&device, CF_AGREED | FAILED);
	cf_expect(cf_setup_queue(&device, &good), PV_STATUS_BAD_STATE, "after FAILED");
	cf_set_status(&device, 0);
}

static void service_device(void)
{
	if (!cf_called_device(&device, &info)) {
		cf_case("DEV-1 DEV-2 DEV-3 DEV-4 DEV-5 DEV-6 DEV-9 DEV-10 devices");
		cf_skip("no device by calls");
		return;
	}
	listing();
	no_device();
	statuses();
	features();
	configuration();
	queues();
	queue_states();
}

CF_CHAPTER(device, service_device);
