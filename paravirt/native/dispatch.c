// SPDX-License-Identifier: BSD-2-Clause
/*
 * Dispatch of calls: from (id, road, arguments) to (status, value), the same for every road.
 *
 * What the declaration says of a call is checked here, before any handler sees it, in the order of
 * rule CALL-6; a handler checks only what is its own.  Calls without a handler here go to the
 * surroundings (machine->ops.call), those of vendors to their extension (extension.c).
 */
#include <string.h>

#include "handlers.h"
#include "host.h"
#include "record.h"

#define PV_FUNCTIONS 16

#define PV_NONE
#define PV_ARG { .kind = PV_ARGUMENT_VALUE },
#define PV_BUFFER(access, maximum, alignment, bytes, one) \
	{ .kind = PV_ARGUMENT_##access, .limit = (maximum), .align = (alignment), .unit = (bytes), .fixed = (one) },
#define PV_COUNT(...) (sizeof((const struct pv_argument[]){ __VA_ARGS__ }) / sizeof(struct pv_argument))
#define PV_CALL(service, function, label, road, regs, feat, args) \
	[service][function] = { .name = #label,                   \
				.roads = (road),                  \
				.registers = (regs),              \
				.feature = (feat),                \
				.arguments = { args },            \
				.count = PV_COUNT(args) },

static const struct pv_declaration declarations[PV_SERVICES][PV_FUNCTIONS] = {
#include "paravirt_abi_calls.h"
};
#undef PV_CALL

#define HANDLER(call, function) [(call) >> 16][(call)&0xffff] = function

static const pv_handler handlers[PV_SERVICES][PV_FUNCTIONS] = {
	HANDLER(PV_CALL_BASE_VERSION, pv_call_base_version),
	HANDLER(PV_CALL_BASE_SERVICES, pv_call_base_services),
	HANDLER(PV_CALL_BASE_ACCEPT, pv_call_base_accept),
	HANDLER(PV_CALL_BASE_LIMIT, pv_call_base_limit),
	HANDLER(PV_CALL_BASE_BOOT_INFO, pv_call_base_boot_info),
	HANDLER(PV_CALL_BASE_BATCH, pv_call_base_batch),
	HANDLER(PV_CALL_BASE_RING, pv_call_base_ring),
	HANDLER(PV_CALL_BASE_RENEGOTIATE, pv_call_base_renegotiate),
	HANDLER(PV_CALL_CONSOLE_WRITE, pv_call_console_write),
	HANDLER(PV_CALL_CONSOLE_READ, pv_call_console_read),
	HANDLER(PV_CALL_EVENT_SEND, pv_call_event_send),
	HANDLER(PV_CALL_EVENT_UPCALL, pv_call_event_upcall),
	HANDLER(PV_CALL_TIME_DEADLINE, pv_call_time_deadline),
	HANDLER(PV_CALL_VCPU_START, pv_call_vcpu_start),
	HANDLER(PV_CALL_VCPU_STOP, pv_call_vcpu_stop),
	HANDLER(PV_CALL_VCPU_YIELD, pv_call_vcpu_yield),
	HANDLER(PV_CALL_VCPU_BLOCK, pv_call_vcpu_block),
	HANDLER(PV_CALL_VCPU_STATE, pv_call_vcpu_state),
	HANDLER(PV_CALL_VCPU_FAULT_ADDRESS, pv_call_vcpu_fault_address),
	HANDLER(PV_CALL_MEMORY_POPULATE, pv_call_memory_populate),
	HANDLER(PV_CALL_MEMORY_DISCARD, pv_call_memory_discard),
	HANDLER(PV_CALL_MEMORY_TARGET, pv_call_memory_target),
	HANDLER(PV_CALL_MEMORY_INFLATE, pv_call_memory_inflate),
	HANDLER(PV_CALL_MEMORY_DEFLATE, pv_call_memory_deflate),
	HANDLER(PV_CALL_MEMORY_REPORT, pv_call_memory_report),
	HANDLER(PV_CALL_DEVICE_LIST, pv_call_device_list),
	HANDLER(PV_CALL_DEVICE_FEATURES, pv_call_device_features),
	HANDLER(PV_CALL_DEVICE_ACCEPT, pv_call_device_accept),
	HANDLER(PV_CALL_DEVICE_STATUS, pv_call_device_status),
	HANDLER(PV_CALL_DEVICE_SET_STATUS, pv_call_device_set_status),
	HANDLER(PV_CALL_DEVICE_CONFIG_READ, pv_call_device_config_read),
	HANDLER(PV_CALL_DEVICE_CONFIG_WRITE, pv_call_device_config_write),
	HANDLER(PV_CALL_DEVICE_GENERATION, pv_call_device_generation),
	HANDLER(PV_CALL_DEVICE_QUEUE_SIZE, pv_call_device_queue_size),
	HANDLER(PV_CALL_DEVICE_QUEUE_SETUP, pv_call_device_queue_setup),
	HANDLER(PV_CALL_DEVICE_QUEUE_RESET, pv_call_device_queue_reset),
	HANDLER(PV_CALL_DEVICE_BIND, pv_call_device_bind),
	HANDLER(PV_CALL_DEVICE_NOTIFY, pv_call_device_notify),
	HANDLER(PV_CALL_SYSTEM_SHUTDOWN, pv_call_system_shutdown),
	HANDLER(PV_CALL_SYSTEM_RESET, pv_call_system_reset),
	HANDLER(PV_CALL_SYSTEM_CRASH, pv_call_system_crash),
	HANDLER(PV_CALL_SYSTEM_WATCHDOG, pv_call_system_watchdog),
	HANDLER(PV_CALL_SYSTEM_DEBUG, pv_call_system_debug),
	HANDLER(PV_CALL_CONTINUITY_SUBSCRIBE, pv_call_continuity_subscribe),
	HANDLER(PV_CALL_CONTINUITY_ACKNOWLEDGE, pv_call_continuity_acknowledge),
	HANDLER(PV_CALL_ENTROPY_FILL, pv_call_entropy_fill),
	HANDLER(PV_CALL_TRACE_MARK, pv_call_trace_mark),
	HANDLER(PV_CALL_TRACE_BEGIN, pv_call_trace_begin),
	HANDLER(PV_CALL_TRACE_END, pv_call_trace_end),
};

/* xorshift64*: poison needs to be unlike what was there, not secret. */
uint64_t pv_random(struct pv_machine *machine)
{
	uint64_t x = __atomic_load_n(&machine->poison_seed, __ATOMIC_RELAXED) | 1;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	__atomic_store_n(&machine->poison_seed, x, __ATOMIC_RELAXED);
	return x * 0x2545f4914f6cdd1dull;
}

static const struct pv_declaration *find(const struct pv_machine *machine, uint32_t id)
{
	uint32_t service = id >> 16, function = id & 0xffff;

	if (service >= PV_SERVICES)
		return pv_extension_find(machine, id);
	if (function >= PV_FUNCTIONS)
		return NULL;
	const struct pv_declaration *d = &declarations[service][function];
	if (!d->name || !(machine->services >> service & 1) || (machine->denied[service] >> function & 1))
		return NULL;
	return pv_feature_accepted(machine, service, d->feature) ? d : NULL;
}

bool pv_call_exists(const struct pv_machine *machine, uint32_t id)
{
	return find(machine, id) != NULL;
}

uint32_t pv_call_mask(const struct pv_machine *machine, uint32_t service)
{
	uint32_t mask = 0;

	for (uint32_t f = 0; f < 32; f++) /* BASE-7 */
		if (find(machine, service << 16 | f))
			mask |= 1u << f;
	return mask;
}

const char *pv_call_name(uint32_t id)
{
	uint32_t service = id >> 16, function = id & 0xffff;

	return service < PV_SERVICES && function < PV_FUNCTIONS ? declarations[service][function].name : NULL;
}

bool pv_call_declared(uint32_t n, uint32_t *id, uint32_t *roads, uint32_t *registers)
{
	for (uint32_t i = 0; i < PV_SERVICES * PV_FUNCTIONS; i++) {
		const struct pv_declaration *d = &declarations[i / PV_FUNCTIONS][i % PV_FUNCTIONS];

		if (d->name && n-- == 0) {
			*id = i / PV_FUNCTIONS << 16 | i % PV_FUNCTIONS;
			*roads = d->roads;
			*registers = d->registers;
			return true;
		}
	}
	return false;
}

/* CALL-6, for one buffer: length, alignment, range. */
static int64_t check_buffer(const struct pv_memory *memory, const struct pv_argument *a, uint64_t gpa, uint64_t length)
{
	if (length > a->limit)
		return PV_STATUS_LIMIT;
	if (gpa & (uint64_t)(a->align - 1))
		return PV_STATUS_UNALIGNED;
	if (length && !pv_memory_at(memory, gpa, length * a->unit))
		return PV_STATUS_BAD_ADDRESS;
	return PV_STATUS_OK;
}

static int64_t check(const struct pv_vcpu *vcpu, const struct pv_declaration *d, const struct pv_call *call)
{
	if (!(d->roads & call->road))
		return PV_STATUS_WRONG_ROAD;
	for (uint32_t i = d->registers; i < PV_LIMIT_ARGUMENTS; i++)
		if (call->args[i])
			return PV_STATUS_INVALID;
	for (uint32_t i = 0, r = 0; i < d->count; i++) {
		const struct pv_argument *a = &d->arguments[i];

		if (a->kind == PV_ARGUMENT_VALUE) {
			r++;
			continue;
		}
		uint64_t gpa = call->args[r], length = a->fixed ? 1 : call->args[r + 1];
		int64_t status = check_buffer(&vcpu->machine->memory, a, gpa, length);
		if (status < 0)
			return status;
		r += a->fixed ? 1 : 2;
	}
	return PV_STATUS_OK;
}

/* CALL-11: output memory beyond the returned length is undefined, so it is made so. */
static void poison_output(const struct pv_vcpu *vcpu, const struct pv_declaration *d, const struct pv_call *call,
			  uint64_t value)
{
	struct pv_machine *machine = vcpu->machine;

	for (uint32_t i = 0, r = 0; i < d->count; i++) {
		const struct pv_argument *a = &d->arguments[i];
		uint64_t length = call->args[(r + 1) % PV_LIMIT_ARGUMENTS];

		/* a record is there as a whole, whatever the value is */
		if (a->kind == PV_ARGUMENT_WRITE && !a->fixed && value < length) {
			uint64_t size = (length - value) * a->unit;
			uint8_t *hva = pv_memory_at(&machine->memory, call->args[r] + value * a->unit, size);

			for (uint64_t b = 0; hva && b < size; b++)
				hva[b] = (uint8_t)(pv_random(machine) >> 56);
		}
		r += a->kind == PV_ARGUMENT_VALUE || a->fixed ? 1 : 2;
	}
}

static void trace_call(struct pv_trace *trace, const struct pv_call *call, const struct pv_result *result,
		       uint64_t begin_ns)
{
	struct pv_trace_event event = {
		.begin_ns = begin_ns,
		.end_ns = pv_clock_ns(),
		.kind = PV_TRACE_CALL,
		.id = call->id,
		.status = result->status,
		.value = result->value,
	};

	memcpy(event.args, call->args, sizeof(event.args));
	pv_trace_put(trace, &event);
}

static int64_t carry_out(struct pv_vcpu *vcpu, const struct pv_call *call, uint64_t *value)
{
	uint32_t service = call->id >> 16, function = call->id & 0xffff;
	int64_t status;

	if (service < PV_SERVICES && handlers[service][function])
		return handlers[service][function](vcpu, call->args, value);
	if (service >= PV_SERVICES)
		status = pv_extension_call(vcpu, call->id, call->args, value);
	else if (vcpu->machine->ops.call)
		status = vcpu->machine->ops.call(vcpu, call->id, call->args, value);
	else
		status = PV_STATUS_NOT_SUPPORTED;
	/* Not ours: the list of statuses is closed whoever answers (ERR-3). */
	return status > PV_STATUS_CONTINUE || status < PV_STATUS_NO_MEMORY ? PV_STATUS_FAILED : status;
}

/* Those of a ring are made in another thread, and counted in groups (callring.c). */
static void count_call(struct pv_vcpu *vcpu, uint32_t road)
{
	if (road == PV_ROAD_RING)
		return;
	vcpu->calls++;
	__atomic_fetch_add(&vcpu->page->calls, 1, __ATOMIC_RELAXED);
}

/* As carry_out, but a test of guests may answer, or have less done. */
static void intercepted(struct pv_vcpu *vcpu, const struct pv_call *call, struct pv_result *result)
{
	struct pv_call changed = *call;

	if (vcpu->machine->ops.intercept(vcpu, &changed, result))
		return;
	int64_t success = result->status;
	result->status = carry_out(vcpu, &changed, &result->value);
	if (result->status == PV_STATUS_OK)
		result->status = success;
}

void pv_dispatch(struct pv_vcpu *vcpu, const struct pv_call *call, struct pv_result *result)
{
	struct pv_machine *machine = vcpu->machine;
	const struct pv_declaration *d = find(machine, call->id);
	bool ring = call->road == PV_ROAD_RING; /* made in another thread, beside the vCPU's own calls */
	struct pv_trace *trace = ring ? machine->callrings.trace : vcpu->trace;
	struct pv_capture *capture = ring ? machine->callrings.capture : vcpu->capture;
	uint64_t begin_ns = trace ? pv_clock_ns() : 0;
	struct pv_record record;

	if (capture)
		pv_record_begin(vcpu, capture, d, call, &record);
	result->value = 0;
	result->status = d ? check(vcpu, d, call) : PV_STATUS_NOT_SUPPORTED;
	if (result->status == PV_STATUS_OK && machine->ops.intercept)
		intercepted(vcpu, call, result);
	else if (result->status == PV_STATUS_OK)
		result->status = carry_out(vcpu, call, &result->value);
	count_call(vcpu, call->road);
	if (result->status < 0)
		result->value = machine->poison ? pv_random(machine) : 0; /* CALL-10 */
	else if (machine->poison && d)
		poison_output(vcpu, d, call, result->value);
	if (trace)
		trace_call(trace, call, result, begin_ns);
	if (capture)
		pv_record_end(vcpu, capture, call, result, &record);
}

void pv_submission_serve(struct pv_vcpu *vcpu, uint32_t road, const struct pv_submission *from,
			 struct pv_completion *to)
{
	struct pv_result result = { .status = PV_STATUS_INVALID };

	if (!from->flags) { /* BATCH-3 */
		struct pv_call call = { .id = from->call, .road = road };

		pv_copy_words(call.args, from->args, PV_LIMIT_ARGUMENTS);
		pv_dispatch(vcpu, &call, &result);
	} else {
		count_call(vcpu, road);
	}
	*to = (struct pv_completion){ .cookie = from->cookie, .status = result.status, .value = result.value };
}

void pv_trap(struct pv_vcpu *vcpu, struct pv_trap *registers)
{
	struct pv_machine *machine = vcpu->machine;
	struct pv_call call = {
		.id = registers->rax >> 32 ? UINT32_MAX : (uint32_t)registers->rax, /* CALL-8 */
		.road = PV_ROAD_TRAP,
		.args = { registers->rdi, registers->rsi, registers->rcx, registers->r8, registers->r9,
			  registers->r10 },
	};
	struct pv_result result;

	pv_dispatch(vcpu, &call, &result);
	registers->rax = (uint64_t)result.status;
	registers->rdx = result.value;
	if (machine->poison) { /* CALL-9 */
		registers->rcx = pv_random(machine);
		registers->r8 = pv_random(machine);
		registers->r9 = pv_random(machine);
		registers->r10 = pv_random(machine);
		registers->r11 = pv_random(machine);
	}
}

bool pv_port(struct pv_vcpu *vcpu, bool out, uint16_t port, uint32_t size_bytes, uint32_t count, void *data,
	     struct pv_trap *registers)
{
	const struct pv_machine *machine = vcpu->machine;
	uint32_t value;

	if (!out)
		memset(data, 0xff, (size_t)size_bytes * count);
	if (!out || size_bytes != sizeof(value) || count != 1)
		return false;
	if (port == machine->ports[0]) {
		pv_trap(vcpu, registers);
		return true;
	}
	memcpy(&value, data, sizeof(value));
	if (port == machine->ports[1])
		pv_doorbell(vcpu->machine, value);
	return false;
}
