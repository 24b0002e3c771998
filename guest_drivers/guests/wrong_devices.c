/* SPDX-License-Identifier: 0BSD
 *
 * A guest that breaks one rule of devices, queues or call rings, the one its command line names; see wrong.c.
 *
 * The device is the host's source of entropy, driven by hand: the library would do it right.
 */
#include "paravirt/base.h"
#include "paravirt/callring.h"
#include "paravirt/event.h"
#include "paravirt/guest.h"
#include "paravirt/notes.h"
#include "paravirt/string.h"

PV_REQUIRE(PV_NEED(PV_SERVICE_CONSOLE, 0), PV_NEED(PV_SERVICE_SYSTEM, 0), PV_NEED(PV_SERVICE_DEVICE, 0));
PV_MANIFEST(PV_WANT("random", PV_DEVICE_TYPE_ENTROPY, 0));
PV_PRIVILEGE(PV_PRIVILEGE_ANY);

#define SIZE 4u
#define DEVICE 0
#define ACKNOWLEDGED PV_VIRTIO_STATUS_ACKNOWLEDGE
#define DRIVEN (ACKNOWLEDGED | PV_VIRTIO_STATUS_DRIVER)
#define AGREED (DRIVEN | PV_VIRTIO_STATUS_FEATURES_OK)

static struct pv_virtq_desc table[SIZE] __attribute__((aligned(16)));
static struct {
	uint16_t flags, index, ring[SIZE], used_event;
} available __attribute__((aligned(4)));
static uint8_t used[6 + 8 * SIZE] __attribute__((aligned(4)));
static uint8_t room[64];

static struct pv_submission submissions[SIZE] __attribute__((aligned(64)));
static struct pv_completion completions[SIZE] __attribute__((aligned(32)));
static struct pv_ring_control control __attribute__((aligned(64)));
static struct pv_callring ring = {
	.submissions = submissions, .completions = completions, .control = &control, .entries = SIZE
};

static int64_t status(uint64_t value)
{
	return pv_call2(PV_CALL_DEVICE_SET_STATUS, DEVICE, value).status;
}

static int64_t queue(uint8_t reserved)
{
	struct pv_queue_setup setup = {
		.size = SIZE,
		.channel = 0xffffffff,
		.reserved0 = { reserved },
		.descriptors_gpa = pv_gpa(table),
		.driver_gpa = pv_gpa(&available),
		.device_gpa = pv_gpa(used),
	};

	return pv_call2(PV_CALL_DEVICE_QUEUE_SETUP, DEVICE, pv_gpa(&setup)).status;
}

static void agree_on(uint64_t features)
{
	status(0);
	status(ACKNOWLEDGED);
	status(DRIVEN);
	pv_call3(PV_CALL_DEVICE_ACCEPT, DEVICE, 0, PV_VIRTIO_F_VERSION_1 | features);
	status(AGREED);
}

static void agree(void)
{
	agree_on(0);
}

/* Waits until the device has looked at what is available. */
static int shown(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the call is the full barrier: CALL-15 */
	pv_call2(PV_CALL_DEVICE_NOTIFY, DEVICE, 0);
	for (uint64_t end = pv_now_ns() + 100000000; pv_now_ns() < end;)
		if (pv_call1(PV_CALL_DEVICE_STATUS, DEVICE).value & PV_VIRTIO_STATUS_NEEDS_RESET)
			break;
	return 0;
}

/* Gives the device `count` heads, all of them descriptor 0. */
static int offer(uint16_t count)
{
	agree();
	queue(0);
	status(AGREED | PV_VIRTIO_STATUS_DRIVER_OK);
	available.index = count;
	return shown();
}

static void buffer(uint32_t n, uint64_t gpa, uint32_t bytes, uint16_t flags, uint16_t next)
{
	table[n] = (struct pv_virtq_desc){ .gpa = gpa, .size_bytes = bytes, .flags = flags, .next = next };
}

static int index_beyond_the_table(void) /* VQ-1 */
{
	buffer(0, pv_gpa(room), 8, PV_DESC_F_WRITE | PV_DESC_F_NEXT, SIZE);
	return offer(1);
}

static int chain_without_end(void) /* VQ-2 */
{
	buffer(0, pv_gpa(room), 8, PV_DESC_F_WRITE | PV_DESC_F_NEXT, 0);
	return offer(1);
}

static int buffer_nowhere(void) /* VQ-3 */
{
	buffer(0, 1ull << 50, 8, PV_DESC_F_WRITE, 0);
	return offer(1);
}

static int write_before_read(void) /* VQ-4 */
{
	buffer(0, pv_gpa(room), 8, PV_DESC_F_WRITE | PV_DESC_F_NEXT, 1);
	buffer(1, pv_gpa(room), 8, 0, 0);
	return offer(1);
}

static int indirect_not_agreed(void) /* VQ-6 */
{
	buffer(0, pv_gpa(table + 1), 16, PV_DESC_F_INDIRECT, 0);
	return offer(1);
}

static int index_jumps(void) /* VQ-7 */
{
	buffer(0, pv_gpa(room), 8, PV_DESC_F_WRITE, 0);
	return offer(SIZE + 1);
}

static int packed_id_beyond_the_size(void) /* VQ-13 */
{
	struct pv_virtq_packed_desc *first = (struct pv_virtq_packed_desc *)(void *)table;

	agree_on(PV_VIRTIO_F_RING_PACKED);
	queue(0);
	status(AGREED | PV_VIRTIO_STATUS_DRIVER_OK);
	*first = (struct pv_virtq_packed_desc){ pv_gpa(room), 8, SIZE, PV_DESC_F_WRITE | PV_DESC_F_PACKED_AVAIL };
	return shown();
}

static int areas_unaligned(void) /* VQ-8 */
{
	struct pv_queue_setup setup = {
		.size = SIZE,
		.channel = 0xffffffff,
		.descriptors_gpa = pv_gpa(table) + 8,
		.driver_gpa = pv_gpa(&available),
		.device_gpa = pv_gpa(used),
	};

	agree();
	pv_call2(PV_CALL_DEVICE_QUEUE_SETUP, DEVICE, pv_gpa(&setup));
	return 0;
}

static int padding_set(void) /* CALL-14 */
{
	agree();
	queue(1);
	return 0;
}

static int not_reset(void) /* DEV-18 */
{
	status(ACKNOWLEDGED);
	return 0;
}

static int queue_before_features(void) /* DEV-5 */
{
	status(0);
	status(ACKNOWLEDGED);
	status(DRIVEN);
	queue(0);
	return 0;
}

static int one_step(void) /* DEV-9 */
{
	status(0);
	status(AGREED | PV_VIRTIO_STATUS_DRIVER_OK);
	return 0;
}

static int doorbell_of_nothing(void) /* DEV-8 */
{
	pv_out32((uint16_t)pv_guest.boot.abi->doorbell, DEVICE << 16 | 5);
	return 0;
}

static int notify_too_early(void) /* DEV-11 */
{
	agree();
	queue(0);
	pv_call2(PV_CALL_DEVICE_NOTIFY, DEVICE, 0);
	return 0;
}

static int configuration_in_parts(void) /* DEV-19 */
{
	agree();
	pv_call4(PV_CALL_DEVICE_CONFIG_READ, DEVICE, 0, pv_gpa(room), 0);
	pv_call4(PV_CALL_DEVICE_CONFIG_READ, DEVICE, 0, pv_gpa(room), 0);
	return 0;
}

static void ring_on(uint32_t channel)
{
	static const uint64_t none[6];

	if (pv_call2(PV_CALL_BASE_ACCEPT, PV_SERVICE_BASE, PV_BASE_FEATURE_RING).status ||
	    pv_callring_init(&ring, pv_this_cpu()->index, channel, (uint16_t)pv_guest.boot.abi->doorbell))
		pv_exit(3);
	pv_callring_add(&ring, PV_CALL_BASE_VERSION, 1, none);
}

static int ring_overfilled(void) /* RING-7 */
{
	ring_on(PV_RING_NO_CHANNEL);
	control.submission_tail = 100000;
	pv_out32((uint16_t)pv_guest.boot.abi->doorbell, (uint32_t)PV_RING_DOORBELL << 16 | pv_this_cpu()->index);
	while (pv_callring_state(&ring) == PV_RING_STATE_ON)
		;
	return 0;
}

static int ring_not_rung(void) /* RING-9 */
{
	struct pv_completion completion;

	ring_on(PV_RING_NO_CHANNEL);
	while (!__atomic_load_n(&control.doorbell_wanted, __ATOMIC_SEQ_CST))
		;
	__atomic_store_n(&control.submission_tail, 1, __ATOMIC_SEQ_CST);
	while (!pv_callring_take(&ring, &completion))
		;
	return 0;
}

static int ring_not_looked_at(void) /* RING-10: the wish comes after the completion, and nobody looks once more */
{
	ring_on(PV_CHANNEL_FIRST_FREE + 2);
	pv_callring_publish(&ring);
	while (!__atomic_load_n(&control.completion_tail, __ATOMIC_SEQ_CST))
		;
	__atomic_store_n(&control.completion_event, 0, __ATOMIC_SEQ_CST);
	pv_this_cpu()->page->pending[0] = 0;
	pv_this_cpu()->page->upcall_pending = 0;
	for (;;)
		if (pv_call1(PV_CALL_VCPU_BLOCK, PV_DEADLINE_NEVER).status < 0)
			return 3;
}

static const struct {
	const char *name;
	int (*run)(void);
} wrongs[] = {
	{ "VQ-1", index_beyond_the_table },
	{ "VQ-2", chain_without_end },
	{ "VQ-3", buffer_nowhere },
	{ "VQ-4", write_before_read },
	{ "VQ-6", indirect_not_agreed },
	{ "VQ-7", index_jumps },
	{ "VQ-8", areas_unaligned },
	{ "VQ-13", packed_id_beyond_the_size }, /* of a packed ring, the others of split ones */
	{ "CALL-14", padding_set },
	{ "DEV-5", queue_before_features },
	{ "DEV-8", doorbell_of_nothing },
	{ "DEV-9", one_step },
	{ "DEV-11", notify_too_early },
	{ "DEV-18", not_reset },
	{ "DEV-19", configuration_in_parts },
	{ "RING-7", ring_overfilled },
	{ "RING-9", ring_not_rung },
	{ "RING-10", ring_not_looked_at },
};

int pv_main(void)
{
	const char *wanted = pv_guest.boot.command_line ? pv_guest.boot.command_line : "";

	for (uint64_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
		if (!strcmp(wrongs[i].name, wanted))
			return wrongs[i].run();
	for (uint64_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
		pv_print("%s\n", wrongs[i].name);
	return 2;
}
