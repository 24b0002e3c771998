// SPDX-License-Identifier: BSD-2-Clause
/*
 * Calls over every road: dispatch and all its handlers, batches, call rings, a device's queues, virtio-mmio, on a
 * machine of two vCPUs, with memory in two ranges that the guest fills as it likes (shared pages included).
 *
 * Input: switches of the machine (1 byte), then steps: what to do (1 byte) and its numbers.  Arguments of calls
 * are taken by classes, so that good addresses are not rare.
 */
#define PV_HOST_PRIVATE
#include "host.h"
#include "input.h"

#define LOW_GPA 0x100000u
#define LOW_BYTES 0x8000u
#define HIGH_GPA (LOW_GPA + LOW_BYTES)
#define HIGH_BYTES 0x1000u
#define PAGES_GPA (LOW_GPA + LOW_BYTES - 3 * 0x1000u) /* time page, two vCPU pages */
#define STEPS 200

struct guest {
	struct pv_machine machine;
	struct pv_vcpu vcpus[2];
	struct pv_device devices[2]; /* by calls, by virtio-mmio */
	uint8_t *low, *high;
};

static const uint8_t boot_info[100] = { 1, 2, 3 };

static int64_t text_written(struct pv_machine *machine, const uint8_t *text, uint64_t size_bytes)
{
	(void)machine, (void)text;
	return size_bytes == 7 ? PV_STATUS_IO : PV_STATUS_OK; /* a console that fails at times */
}

static uint64_t text_read(struct pv_machine *machine, uint8_t *text, uint64_t size_bytes)
{
	(void)machine;
	memset(text, 'x', size_bytes / 2);
	return size_bytes / 2;
}

static void nothing(struct pv_vcpu *vcpu)
{
	(void)vcpu;
}

static int64_t vector(struct pv_vcpu *vcpu, uint32_t number)
{
	(void)vcpu;
	return number == 77 ? PV_STATUS_FAILED : PV_STATUS_OK;
}

static int64_t start(struct pv_vcpu *caller, struct pv_vcpu *target)
{
	(void)caller, (void)target;
	return PV_STATUS_OK;
}

static uint64_t fault_address(struct pv_vcpu *vcpu)
{
	return vcpu->index;
}

static void queue_changed(struct pv_device *device, uint32_t queue, bool enabled)
{
	(void)device, (void)queue, (void)enabled;
}

static void plug(struct guest *g, uint32_t index)
{
	struct pv_device *device = &g->devices[index];

	pv_device_init(device, &g->machine);
	device->index = index;
	device->type = 2;
	memcpy(device->name, "disk", 5);
	device->offered[0] =
		PV_VIRTIO_F_VERSION_1 | PV_VIRTIO_F_INDIRECT_DESC | PV_VIRTIO_F_EVENT_IDX | PV_VIRTIO_F_RING_RESET;
	device->config_bytes = 24;
	device->config_writable_from = 8;
	device->queue_count = 2;
	device->queues[0].maximum = 8;
	device->queues[1].maximum = 256;
	device->ops.queue_changed = queue_changed;
	device->mmio = index;
	g->machine.devices[index] = device;
	g->machine.device_count = index + 1;
}

static void begin(struct guest *g, uint8_t switches)
{
	struct pv_machine *m = &g->machine;

	pv_machine_init(m);
	m->ops = (struct pv_machine_ops){ .console_write = text_written, .console_read = text_read, .upcall = nothing };
	m->ops.upcall_vector = vector;
	m->ops.start = start;
	m->ops.fault_address = fault_address;
	m->ops.kick = nothing;
	REQUIRE(pv_memory_add(&m->memory, LOW_GPA, LOW_BYTES, g->low) == 0);
	REQUIRE(pv_memory_add(&m->memory, HIGH_GPA, HIGH_BYTES, g->high) == 0);
	m->services = 0xffff;
	m->poison = switches & 1;
	m->console_budget = switches & 2 ? 100 : 1 << 20;
	m->trace_mark_budget = 10;
	m->offered[PV_SERVICE_BASE] = PV_BASE_FEATURE_RING;
	m->offered[PV_SERVICE_DEVICE] = PV_DEVICE_FEATURE_QUEUE_RESET;
	m->denied[PV_SERVICE_ENTROPY] = switches & 4 ? 1 : 0;
	m->boot_info = boot_info;
	m->boot_info_bytes = sizeof(boot_info);
	m->time_page = (struct pv_time_page *)(void *)(g->low + PAGES_GPA - LOW_GPA);
	for (uint32_t i = 0; i < 2; i++) {
		g->vcpus[i] = (struct pv_vcpu){ .machine = m, .index = i };
		g->vcpus[i].state.deadline_ns = PV_DEADLINE_NEVER;
		g->vcpus[i].page = (struct pv_vcpu_page *)(void *)(g->low + PAGES_GPA - LOW_GPA + (i + 1) * 0x1000);
		m->vcpus[i] = &g->vcpus[i];
		plug(g, i);
	}
	m->vcpu_count = 2;
	m->running = 1;
	g->vcpus[0].state.state = PV_VCPU_STATE_RUNNING;
	if (switches & 8) /* what most guests do first */
		m->state.accepted[PV_SERVICE_BASE] = m->state.accepted[PV_SERVICE_DEVICE] = 1;
}

/* A number: small, an address, a limit, or any. */
static uint64_t argument(struct input *input)
{
	uint8_t class = take8(input);

	switch (class % 8) {
	case 0:
	case 1:
		return class / 8;
	case 2:
		return LOW_GPA + (uint64_t) class / 8 * 64;
	case 3:
		return LOW_GPA + take16(input) % (LOW_BYTES + HIGH_BYTES + 16);
	case 4:
		return HIGH_GPA + HIGH_BYTES - class / 8;
	case 5:
		return take16(input);
	case 6:
		return UINT64_MAX - class / 8;
	default:
		return take64(input);
	}
}

static uint32_t call_id(struct input *input)
{
	uint8_t service = take8(input), function = take8(input);

	return service < 0xf0 ? (uint32_t)(service % 13) << 16 | function % 16 : (uint32_t)take64(input);
}

static void call(struct guest *g, struct input *input)
{
	struct pv_vcpu *vcpu = &g->vcpus[take8(input) & 1];
	struct pv_call made = { .id = call_id(input), .road = take8(input) % 4 == 1 ? PV_ROAD_BATCH : PV_ROAD_TRAP };
	struct pv_result result;

	for (uint32_t i = 0, count = take8(input) % 7; i < count; i++)
		made.args[i] = argument(input);
	vcpu->page->upcall_pending = 1; /* vcpu.block is to return */
	pv_dispatch(vcpu, &made, &result);
	REQUIRE(result.status <= PV_STATUS_CONTINUE && result.status >= PV_STATUS_NO_MEMORY);
}

static void write_bytes(struct guest *g, struct input *input)
{
	uint32_t at = take16(input) % (LOW_BYTES + HIGH_BYTES);
	uint8_t bytes[64];
	size_t size_bytes = take8(input) % sizeof(bytes) + 1;

	take(input, bytes, size_bytes);
	for (size_t i = 0; i < size_bytes && at + i < LOW_BYTES + HIGH_BYTES; i++)
		*(at + i < LOW_BYTES ? g->low + at + i : g->high + at + i - LOW_BYTES) = bytes[i];
}

static void write_submission(struct guest *g, struct input *input)
{
	struct pv_submission submission = { 0 };
	uint32_t at = take8(input) % (LOW_BYTES / sizeof(submission));

	submission.call = call_id(input);
	for (uint32_t i = 0, count = take8(input) % 7; i < count; i++)
		submission.args[i] = argument(input);
	memcpy(g->low + at * sizeof(submission), &submission, sizeof(submission));
}

static void serve(struct guest *g, struct input *input)
{
	static struct pv_chain chain;
	struct pv_device *device = &g->devices[take8(input) & 1];
	uint32_t queue = take8(input) & 1;
	uint8_t bytes[32] = { 0 };

	if (pv_device_pop(device, queue, &chain) != 1)
		return;
	pv_chain_read(&chain, 0, bytes, sizeof(bytes));
	pv_chain_write(&chain, 3, bytes, sizeof(bytes));
	pv_queue_push(&device->queues[queue], chain.head, 5);
	if (pv_queue_wants_interrupt(&device->queues[queue]))
		pv_device_interrupt(device, queue);
	pv_queue_arm(&device->queues[queue]);
}

static void access_mmio(struct guest *g, struct input *input)
{
	uint32_t offset = take8(input) * 4u, size_bytes = 1u << take8(input) % 4;

	pv_mmio_write(&g->devices[1], offset % PV_MMIO_WINDOW_BYTES, size_bytes, argument(input));
	pv_mmio_read(&g->devices[1], offset % PV_MMIO_WINDOW_BYTES, size_bytes);
}

static void step(struct guest *g, struct input *input)
{
	switch (take8(input) % 8) {
	case 0:
	case 1:
	case 2:
		call(g, input);
		break;
	case 3:
		write_bytes(g, input);
		break;
	case 4:
		write_submission(g, input);
		break;
	case 5:
		pv_doorbell(&g->machine, (uint32_t)argument(input));
		pv_callring_poll(&g->machine);
		break;
	case 6:
		serve(g, input);
		break;
	default:
		access_mmio(g, input);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	static struct guest g;
	struct input input = { data, size_bytes };

	/* on the heap, so that the sanitizer sees what lies beside guest memory; pages, since they are discarded */
	g.low = aligned_alloc(0x1000, LOW_BYTES);
	g.high = aligned_alloc(0x1000, HIGH_BYTES);
	REQUIRE(g.low && g.high);
	memset(g.low, 0, LOW_BYTES);
	memset(g.high, 0, HIGH_BYTES);
	begin(&g, take8(&input));
	for (uint32_t i = 0; i < STEPS && input.size_bytes; i++)
		step(&g, &input);
	pv_callring_remove_all(&g.machine);
	for (uint32_t i = 0; i < 2; i++)
		pv_device_deinit(&g.devices[i]);
	free(g.low);
	free(g.high);
	return 0;
}
