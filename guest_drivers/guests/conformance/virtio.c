/* SPDX-License-Identifier: 0BSD
 *
 * Chapter virtio: what virtio asks of every device before a buffer is given to it: features, status, configuration,
 * reset.  The same over both transports; cases cite virtio's own statements.  Queues are virtio_queues.c's.
 */
#include "paravirt/string.h"
#include "support/device.h"

#define BIT(n) (1ull << (n))
#define BITS(first, last) (~0ull >> (63 - (last)) & ~0ull << (first))
#define DRIVER_OK ((uint32_t)PV_VIRTIO_STATUS_DRIVER_OK)
#define FEATURES_OK ((uint32_t)PV_VIRTIO_STATUS_FEATURES_OK)
#define FAILED ((uint32_t)PV_VIRTIO_STATUS_FAILED)
#define CONFIG_BYTES 128u

/* Of every type and transport: INDIRECT_DESC to IN_ORDER, ORDER_PLATFORM, NOTIFICATION_DATA, RING_RESET. */
#define COMMON (BITS(28, 29) | BITS(32, 36) | BIT(38) | BIT(40))
/* A device may refuse to work without them. */
#define INSISTED_ON (PV_VIRTIO_F_VERSION_1 | BIT(33) | BIT(36))
#define MUST_TELL_HOST BIT(0) /* of a balloon, which may insist on it, too */

static struct pv_virtio device;
static uint64_t offered;
static const char *shown; /* the device's type */

/* What virtio 1.4 defines for a type, legacy bits left out. */
static const struct type {
	uint32_t type;
	const char *name;
	uint64_t defined;
} types[] = {
	{ PV_DEVICE_TYPE_NET, "net", BITS(0, 3) | BIT(5) | BITS(7, 23) | BITS(50, 63) },
	{ PV_DEVICE_TYPE_BLOCK, "block", BITS(1, 2) | BITS(4, 6) | BITS(9, 17) },
	{ PV_DEVICE_TYPE_CONSOLE, "console", BITS(0, 2) },
	{ PV_DEVICE_TYPE_ENTROPY, "entropy", 0 },
	{ PV_DEVICE_TYPE_BALLOON, "balloon", BITS(0, 5) },
	{ PV_DEVICE_TYPE_VSOCK, "vsock", BITS(0, 2) },
	{ PV_DEVICE_TYPE_PMEM, "pmem", BIT(0) },
};

/* How far a configuration space reaches at least, with one of these features; those of a type in order. */
static const struct reach {
	uint32_t type;
	uint64_t features;
	uint32_t config_bytes;
} reaches[] = {
	{ PV_DEVICE_TYPE_NET, BIT(5), 6 },     { PV_DEVICE_TYPE_NET, BIT(16), 8 },
	{ PV_DEVICE_TYPE_NET, BIT(22), 10 },   { PV_DEVICE_TYPE_NET, BIT(3), 12 },
	{ PV_DEVICE_TYPE_BLOCK, ~0ull, 8 },    { PV_DEVICE_TYPE_BLOCK, BIT(10), 32 },
	{ PV_DEVICE_TYPE_BLOCK, BIT(12), 36 }, { PV_DEVICE_TYPE_BLOCK, BIT(13), 48 },
	{ PV_DEVICE_TYPE_BLOCK, BIT(14), 57 }, { PV_DEVICE_TYPE_BLOCK, BIT(16), 72 },
	{ PV_DEVICE_TYPE_CONSOLE, BIT(0), 4 }, { PV_DEVICE_TYPE_CONSOLE, BIT(1), 8 },
	{ PV_DEVICE_TYPE_BALLOON, ~0ull, 8 },  { PV_DEVICE_TYPE_VSOCK, ~0ull, 8 },
	{ PV_DEVICE_TYPE_PMEM, ~BIT(0), 16 },
};

/* A feature and those of which it requires one. */
static const struct need {
	uint32_t type;
	uint32_t feature;
	uint64_t one_of;
} needs[] = {
	{ PV_DEVICE_TYPE_NET, 7, BIT(1) },
	{ PV_DEVICE_TYPE_NET, 8, BIT(1) },
	{ PV_DEVICE_TYPE_NET, 9, BITS(7, 8) },
	{ PV_DEVICE_TYPE_NET, 10, BIT(1) },
	{ PV_DEVICE_TYPE_NET, 11, BIT(0) },
	{ PV_DEVICE_TYPE_NET, 12, BIT(0) },
	{ PV_DEVICE_TYPE_NET, 13, BITS(11, 12) },
	{ PV_DEVICE_TYPE_NET, 14, BIT(0) },
	{ PV_DEVICE_TYPE_NET, 18, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 19, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 20, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 21, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 22, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 23, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 51, BIT(57) | BIT(60) },
	{ PV_DEVICE_TYPE_NET, 52, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 53, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 54, BIT(1) },
	{ PV_DEVICE_TYPE_NET, 55, BIT(1) },
	{ PV_DEVICE_TYPE_NET, 56, BIT(0) },
	{ PV_DEVICE_TYPE_NET, 57, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 60, BIT(17) },
	{ PV_DEVICE_TYPE_NET, 61, BITS(11, 12) },
	{ PV_DEVICE_TYPE_BLOCK, 11, BIT(9) },
};

static const struct type *type_of(void)
{
	for (uint32_t i = 0; i < CF_COUNT(types); i++)
		if (types[i].type == device.type)
			return &types[i];
	return NULL;
}

static bool is_valid(uint64_t features)
{
	for (uint32_t i = 0; i < CF_COUNT(needs); i++)
		if (needs[i].type == device.type && features & BIT(needs[i].feature) && !(features & needs[i].one_of))
			return false;
	return true;
}

/* The smallest valid set with these features, if what is offered allows for any. */
static uint64_t with_needs(uint64_t features)
{
	features |= offered & (INSISTED_ON | (device.type == PV_DEVICE_TYPE_BALLOON ? MUST_TELL_HOST : 0));
	for (uint64_t before = ~features; before != features && !is_valid(features);) {
		before = features;
		for (uint32_t i = 0; i < CF_COUNT(needs); i++)
			if (needs[i].type == device.type && features & BIT(needs[i].feature))
				features |= offered & needs[i].one_of;
	}
	return features;
}

static void set(uint32_t status)
{
	device.transport->set_status(&device, status);
}

static uint32_t status(void)
{
	return device.transport->status(&device);
}

/* As far as DRIVER, after a reset. */
static void begin(void)
{
	set(0);
	set(PV_VIRTIO_STATUS_ACKNOWLEDGE);
	set(PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER);
}

static bool agrees(uint64_t features)
{
	begin();
	device.transport->accept(&device, features);
	set(CF_AGREED);
	return status() & FEATURES_OK;
}

static void what_is_offered(void)
{
	const struct type *type = type_of();

	cf_case("VIRTIO-6.2-1 VIRTIO-2.2.2-1 %s: VERSION_1 is offered, and nothing without what it requires", shown);
	cf_want(offered & PV_VIRTIO_F_VERSION_1, "VERSION_1");
	for (uint32_t i = 0; i < CF_COUNT(needs); i++)
		if (needs[i].type == device.type && offered & BIT(needs[i].feature))
			cf_want(offered & needs[i].one_of, "what a feature requires");
	cf_case("VIRTIO-2.2.2-4 VIRTIO-6.2-4 %s: no bit is offered that is not defined for it", shown);
	cf_expect((int64_t)(offered & BITS(24, 49) & ~COMMON), 0, "bits 24 to 49: reserved, legacy, or PCI's");
	if (type)
		cf_expect((int64_t)(offered & ~BITS(24, 49) & ~type->defined), 0, "bits of the type");
}

static void subsets(void)
{
	uint64_t all = offered;

	cf_case("VIRTIO-2.2.2-2 VIRTIO-2.2.2-5 %s: every valid set of features is agreed on, again and again", shown);
	for (uint32_t n = 0; n < 64; n++) {
		uint64_t without = all & ~BIT(n);

		uint64_t with = with_needs(BIT(n));

		if (!(all & BIT(n)))
			continue;
		if (is_valid(with))
			cf_want(agrees(with), "a feature with what it requires");
		if (with_needs(without) == without && is_valid(without))
			cf_want(agrees(without), "all features but one");
	}
	for (uint32_t i = 0; i < 3; i++) {
		if (is_valid(all))
			cf_want(agrees(all), "all features");
		cf_want(agrees(with_needs(0)), "as few as can be");
	}
	cf_case("VIRTIO-2.2.2-3 %s: what is not offered is not agreed on", shown);
	for (uint32_t n = 0; n < 64; n++)
		if (!(all & BIT(n)))
			cf_want(!agrees(all | BIT(n)), "a feature that is not offered");
	cf_want(agrees(with_needs(0)), "as few as can be, afterwards");
}

/* A driver writes this field, and it depends on what was agreed on. */
static void forget_writeback(uint8_t *config)
{
	if (device.type == PV_DEVICE_TYPE_BLOCK)
		config[__builtin_offsetof(struct pv_block_config, writeback)] = 0;
}

static void configuration(void)
{
	static uint8_t early[CONFIG_BYTES], later[CONFIG_BYTES];
	uint32_t size_bytes = 0;

	for (uint32_t i = 0; i < CF_COUNT(reaches); i++)
		if (reaches[i].type == device.type && offered & reaches[i].features)
			size_bytes = reaches[i].config_bytes;
	if (!size_bytes)
		return;
	cf_case("VIRTIO-2.5.2-1 %s: the configuration can be read from the start on", shown);
	cf_want(agrees(offered), "features are agreed on");
	device.transport->config_read(&device, 0, later, size_bytes);
	forget_writeback(later);
	for (uint32_t step = 0; step < 3; step++) {
		static const uint32_t steps[] = { 0, PV_VIRTIO_STATUS_ACKNOWLEDGE,
						  PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER };

		set(steps[step]);
		memset(early, 0xee, sizeof(early));
		cf_want(device.transport->config_read(&device, 0, early, size_bytes) >= 0, "it can be read");
		forget_writeback(early);
		cf_want(!memcmp(early, later, size_bytes), "it says what it says after FEATURES_OK");
	}
}

/* Whether a status is a state on the driver's way, or that and FAILED. */
static bool is_state(uint32_t value)
{
	value &= ~FAILED;
	return value == 0 || value == PV_VIRTIO_STATUS_ACKNOWLEDGE ||
	       value == (PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER) || value == CF_AGREED ||
	       value == (CF_AGREED | DRIVER_OK);
}

static void resets(void)
{
	static const uint32_t ladder[] = { PV_VIRTIO_STATUS_ACKNOWLEDGE,
					   PV_VIRTIO_STATUS_ACKNOWLEDGE | PV_VIRTIO_STATUS_DRIVER, CF_AGREED,
					   CF_AGREED | DRIVER_OK };

	cf_case("VIRTIO-2.4.1-1 %s: a reset leads to 0 from every state", shown);
	for (uint32_t top = 0; top <= CF_COUNT(ladder); top++)
		for (uint32_t failed = 0; failed <= FAILED; failed += FAILED) {
			set(0);
			for (uint32_t i = 0; i < top; i++) {
				if (ladder[i] == CF_AGREED)
					device.transport->accept(&device, with_needs(0));
				set(ladder[i]);
			}
			uint32_t before = top ? ladder[top - 1] : 0;
			set(before | failed);
			cf_expect(status(), before | failed, "a state on a driver's way");
			set(0);
			cf_expect(status(), 0, "the status after a reset");
		}
	cf_case("DEV-1 VIRTIO-2.4.1-1 %s: in whatever order its bits are written, it is in a state on a driver's way",
		shown);
	for (uint32_t first = 1; first < 16; first++)
		for (uint32_t second = 1; second < 16; second++) {
			set(0);
			device.transport->accept(&device, with_needs(0));
			set(first);
			set(first | second);
			cf_want(is_state(status()), "two steps");
		}
	cf_want(agrees(offered), "features are agreed on afterwards");
	set(0);
}

static void chapter(void)
{
	uint32_t count = 0;

	for (; cf_each_device(&device, count); count++) {
		const struct type *type = type_of();

		shown = device.name[0] ? device.name : type ? type->name : "a device of another type";
		offered = device.transport->features(&device);
		what_is_offered();
		subsets();
		configuration();
		resets();
	}
	if (!count) {
		cf_case("VIRTIO-2.4.1-1 %s: a reset leads to 0 from every state", "devices");
		cf_skip("there are none");
	}
}

CF_CHAPTER(virtio, chapter);
